/**
 * Events by name. A listener's mistake is reported to the page and costs the others nothing.
 */

/** How an emitter's owner speaks: a symbol is no part of the public surface. */
export const emit = Symbol("emit");

/** @template {Record<string, any[]>} [Events=Record<string, any[]>] */
export class Emitter {
  /** @type {Map<string, Set<(...details: any) => void>>} */
  #listeners = new Map();

  /** @param {Record<string, any>} [listeners] by event; `onState` is one for `state` */
  constructor(listeners = {}) {
    for (const [name, listener] of Object.entries(listeners)) {
      this.on(
        name.replace(/^on[A-Z]/, (on) => on[2].toLowerCase()),
        listener,
      );
    }
  }

  /**
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(...details: Events[Type]) => void} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** @internal @param {string} type @param {any[]} details */
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
