/**
 * Finds when a frame that the server named was shown on the screen. Matches the RTP timestamps (over MSE: the numbers)
 * of shown frames and of server messages; either may come first. `session.js` and the console give it frames and times.
 */

const NUM_REMEMBERED_FRAMES = 600;
const NUM_REMEMBERED_RECEIPTS = 64;

/** Whether `a` is `b` or later, also across the 32-bit wrap (RFC 3550, 5.1). @param {number} a @param {number} b */
export const isAtOrAfter = (a, b) => (a - b) >>> 0 < 2 ** 31;

export class Glass {
  /** @type {{rtpTimestamp: number, shownAt: number}[]} bounded, like `#awaited`: the oldest is dropped */
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
   * Calls back once, when this frame or the first one after it is shown. Never calls back for a frame older than the
   * remembered ones: no time is better than a wrong one.
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

  /** Forgets all frames and callbacks, because a new peer starts at another timestamp. */
  forget() {
    this.#shown = [];
    this.#awaited = [];
  }
}
