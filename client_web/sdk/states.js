/**
 * What everything that lives for long shares: moves that a table allows, and waits that grow.
 */

/** @param {string} whose @param {Record<string, readonly string[]>} table @param {string} from @param {string} to */
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

  next() {
    return this.#random() * Math.min(this.#longest, this.#first * 2 ** this.#numAttempts++);
  }

  reset() {
    this.#numAttempts = 0;
  }
}
