/**
 * When did a frame that a receipt names reach the glass? Matches RTP timestamps of shown frames with those of receipts,
 * which may come in either order. Pure: time and frames are given to it.
 */

const NUM_REMEMBERED_FRAMES = 600;
const NUM_REMEMBERED_RECEIPTS = 64;

/** Across the wrap of 32 bits (RFC 3550, 5.1). @param {number} a @param {number} b */
export const isAtOrAfter = (a, b) => (a - b) >>> 0 < 2 ** 31;

export class Glass {
  /** @type {{rtpTimestamp: number, shownAt: number}[]} both bounded, the oldest goes */
  #shown = [];
  /** @type {{rtpTimestamp: number, onShown: (shownAt: number) => void}[]} */
  #awaited = [];

  /** @param {number | undefined} rtpTimestamp @param {number} shownAt */
  frameShown(rtpTimestamp, shownAt) {
    if (rtpTimestamp === undefined) return;
    this.#shown.push({ rtpTimestamp, shownAt });
    if (this.#shown.length > NUM_REMEMBERED_FRAMES) this.#shown.shift();
    const due = this.#awaited.filter((receipt) => isAtOrAfter(rtpTimestamp, receipt.rtpTimestamp));
    if (due.length === 0) return;
    this.#awaited = this.#awaited.filter((receipt) => !due.includes(receipt));
    for (const receipt of due) receipt.onShown(shownAt);
  }

  /**
   * Calls back once, when the frame or the first one after it is shown. One from before our memory never calls: no
   * number is better than a wrong one.
   *
   * @param {number | null | undefined} rtpTimestamp
   * @param {(shownAt: number) => void} onShown
   */
  expect(rtpTimestamp, onShown) {
    if (rtpTimestamp === null || rtpTimestamp === undefined) return;
    const index = this.#shown.findIndex((frame) => isAtOrAfter(frame.rtpTimestamp, rtpTimestamp));
    if (index === -1) {
      this.#awaited.push({ rtpTimestamp, onShown });
      if (this.#awaited.length > NUM_REMEMBERED_RECEIPTS) this.#awaited.shift();
    } else if (index > 0 || this.#shown[0].rtpTimestamp === rtpTimestamp) {
      onShown(this.#shown[index].shownAt);
    }
  }

  /** A new peer counts from another start. */
  forget() {
    this.#shown = [];
    this.#awaited = [];
  }
}
