/**
 * How long to wait before the next attempt: full jitter (Brooker, "Exponential backoff and jitter"), because many pages
 * that lose one server must not return at once.
 *
 * @module backoff
 */

const FIRST_DELAY_MS = 250;
export const LONGEST_DELAY_MS = 8000;

export class Backoff {
  #random;
  #first;
  #longest;
  #numAttempts = 0;

  /**
   * @param {() => number} random
   * @param {number} [first] milliseconds
   * @param {number} [longest] milliseconds
   */
  constructor(random, first = FIRST_DELAY_MS, longest = LONGEST_DELAY_MS) {
    this.#random = random;
    this.#first = first;
    this.#longest = longest;
  }

  /** @returns {number} milliseconds; up to twice as long at each call */
  next() {
    return this.#random() * Math.min(this.#longest, this.#first * 2 ** this.#numAttempts++);
  }

  reset() {
    this.#numAttempts = 0;
  }
}
