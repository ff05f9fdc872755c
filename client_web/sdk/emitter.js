/**
 * Events by name. A listener's mistake is reported to the page and costs the others nothing.
 */

/** How an emitter's owner speaks: a symbol is no part of the public surface. */
export const emit = Symbol("emit");

export class Emitter {
  /** @type {Map<string, Set<(...details: any[]) => void>>} */
  #listeners = new Map();

  /** @param {Record<string, any>} [listeners] by event; `onState` is one for `state` */
  constructor(listeners = {}) {
    for (const [name, listener] of Object.entries(listeners)) {
      this.on(name.replace(/^on[A-Z]/, (on) => on[2].toLowerCase()), listener);
    }
  }

  /**
   * @param {string} type
   * @param {(...details: any[]) => void} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  [emit](type, ...details) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(...details);
      } catch (error) {
        reportError(error);
      }
    }
  }
}
