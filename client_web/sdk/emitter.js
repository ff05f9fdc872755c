/**
 * Events by name: the base class of `Session`, `PromptHandle` and `Player`. If a listener throws, the page's error
 * handler gets the error, and the other listeners still run.
 */

/** Names the emitting method. It is a symbol, so that the method is not part of the public API. */
export const emit = Symbol("emit");

/** @template {Record<string, any[]>} [Events=Record<string, any[]>] */
export class Emitter {
  /** @type {Map<string, Set<(...details: any) => void>>} */
  #listeners = new Map();

  /** @param {Record<string, any>} [listeners] by event name; `onState` is the same as `state` */
  constructor(listeners = {}) {
    for (const [name, listener] of Object.entries(listeners)) {
      this.on(
        name.replace(/^on[A-Z]/, (on) => on[2].toLowerCase()),
        listener,
      );
    }
  }

  /**
   * Adds a listener.
   *
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(...details: Events[Type]) => void} listener
   * @returns {() => void} removes the listener
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
