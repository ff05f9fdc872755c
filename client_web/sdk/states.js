/**
 * Shared by the SDK's long-lived objects: a check of state transitions against a table, and a back-off.
 */

/**
 * Throws if `table` does not allow the transition.
 *
 * @param {string} whose @param {Record<string, readonly string[]>} table @param {string} from @param {string} to
 */
export function checkMove(whose, table, from, to) {
  if (!table[from].includes(to)) throw new Error(`${whose}: ${from} → ${to} is not a move`);
}

export const LONGEST_DELAY_MS = 8000;

/** Full jitter (Brooker, "Exponential backoff and jitter"): many pages that lose one server must not return at once. */
export class Backoff {
  #numAttempts = 0;
  #random;
  #first;
  #longest;

  /** @param {() => number} random @param {number} [first] milliseconds @param {number} [longest] milliseconds */
  constructor(random, first = 250, longest = LONGEST_DELAY_MS) {
    this.#random = random;
    this.#first = first;
    this.#longest = longest;
  }

  /** The next wait, in milliseconds. */
  next() {
    return this.#random() * Math.min(this.#longest, this.#first * 2 ** this.#numAttempts++);
  }

  reset() {
    this.#numAttempts = 0;
  }
}
