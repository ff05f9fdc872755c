/**
 * Decides how often `mixer.js` has the person cut out: as often as the machine can within a share of one core. The
 * caller gives it the time.
 *
 * @module pace
 */

export const FASTEST = 30; // a second, as fast as webcams
export const SLOWEST = 4;
// Below this rate the camera's picture no longer waits for its mask: a late outline is less visible than a stuttering
// person.
export const SLOW = 12;
// The share of one core; the streaming software's encoder needs the rest.
const SHARE = 0.6;
const NUM_TIMES = 8;
const MEASURED_MS = 2000;
// Pictures come at the screen's rate, so one that is early by less than this counts as due.
const EARLY_MS = 4;

export class Pace {
  /** @type {number[]} how long the last cuts took, in ms */
  #tookMs = [];
  /** @type {number[]} when the last cuts ended */
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

  /** The target, in cuts per second. */
  get rate() {
    if (this.#tookMs.length === 0) return FASTEST;
    return Math.min(FASTEST, Math.max(SLOWEST, Math.floor((1000 * SHARE) / this.tookMs)));
  }

  /** The median of the last cuts, in ms, so that one outlier changes nothing. */
  get tookMs() {
    const sorted = [...this.#tookMs].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  get isSlow() {
    return this.#tookMs.length === NUM_TIMES && this.rate < SLOW;
  }

  /**
   * The measured cuts per second.
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
