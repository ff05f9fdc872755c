/**
 * How often the person is cut out: as often as the machine can without being filled by it. Pure; time is given to it.
 *
 * @module pace
 */

export const FASTEST = 30; // a second; webcams have no more
export const SLOWEST = 4;
// Below this the camera's picture is no longer held back for its mask: a late outline is seen less than a stuttering person.
export const SLOW = 12;
// Of one core; the rest is for the encoder of the streaming software.
const SHARE = 0.6;
const NUM_TIMES = 8;
const MEASURED_MS = 2000;
// Pictures come by the screen's clock: one that is early by less than this is in time.
const EARLY_MS = 4;

export class Pace {
  /** @type {number[]} the last times of a cut, in ms */
  #tookMs = [];
  /** @type {number[]} when the last ones ended */
  #endedAt = [];
  #begunAt = -Infinity;

  /** @param {number} now */
  isDue(now) {
    return now - this.#begunAt >= 1000 / this.rate - EARLY_MS;
  }

  /** @param {number} now */
  begin(now) {
    this.#begunAt = now;
  }

  /** @param {number} now */
  end(now) {
    this.#tookMs = [...this.#tookMs, now - this.#begunAt].slice(-NUM_TIMES);
    this.#endedAt = [...this.#endedAt.filter((at) => now - at < MEASURED_MS), now];
  }

  /** Aimed at, a second. */
  get rate() {
    if (this.#tookMs.length === 0) return FASTEST;
    return Math.min(FASTEST, Math.max(SLOWEST, Math.floor((1000 * SHARE) / this.tookMs)));
  }

  /** The median of the last ones: one hiccup changes nothing. */
  get tookMs() {
    const sorted = [...this.#tookMs].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  get isSlow() {
    return this.#tookMs.length === NUM_TIMES && this.rate < SLOW;
  }

  /**
   * Measured, a second.
   *
   * @param {number} now
   */
  measured(now) {
    return this.#endedAt.filter((at) => now - at < MEASURED_MS).length / (MEASURED_MS / 1000);
  }

  reset() {
    this.#tookMs = [];
    this.#endedAt = [];
    this.#begunAt = -Infinity;
  }
}
