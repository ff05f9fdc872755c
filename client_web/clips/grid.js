/**
 * The cards of all clips that were loaded, the newest first. A card stays while its clip does, so that nothing that is
 * pointed at, plays or has the focus is taken away by news of another.
 *
 * @module clips/grid
 */

import { Card } from "./card.js";

/** @typedef {import("./api.js").Clip} Clip */

export class Grid {
  #list;
  #handlers;
  /** @type {Map<string, Card>} */
  #cards = new Map();
  /** @type {string[]} newest first */
  #ids = [];

  /** @param {HTMLElement} list @param {import("./card.js").CardHandlers} handlers */
  constructor(list, handlers) {
    this.#list = list;
    this.#handlers = handlers;
  }

  get length() {
    return this.#ids.length;
  }

  get lastId() {
    return this.#ids.at(-1);
  }

  /** @returns {Clip[]} that are not finished, the oldest first */
  get unfinished() {
    return this.#ids
      .map((id) => /** @type {Card} */ (this.#cards.get(id)))
      .filter((card) => !card.hasEnded)
      .map(({ clip }) => clip)
      .reverse();
  }

  /**
   * The newest page has come.
   *
   * @param {Clip[]} newest
   * @returns {boolean} whether the cards that were loaded below it are still there
   */
  refresh(newest) {
    const ids = newest.map(({ id }) => id);
    const joined = newest.length === 0 ? -1 : this.#ids.indexOf(/** @type {string} */ (ids.at(-1)));
    this.#update(newest);
    this.#ids = [...ids, ...(joined < 0 ? [] : this.#ids.slice(joined + 1))];
    this.#arrange();
    return joined >= 0;
  }

  /** An older page. @param {Clip[]} older */
  append(older) {
    this.#update(older);
    this.#ids = [...new Set([...this.#ids, ...older.map(({ id }) => id)])];
    this.#arrange();
  }

  /** @param {Clip} clip a new one, or one that has changed */
  put(clip) {
    this.#update([clip]);
    if (!this.#ids.includes(clip.id)) this.#ids.unshift(clip.id);
    this.#arrange();
  }

  /** @param {string} id */
  remove(id) {
    this.#ids = this.#ids.filter((one) => one !== id);
    this.#arrange();
  }

  /** In another language. */
  renderAll() {
    const clips = [...this.#cards.values()].map(({ clip }) => clip);
    for (const card of this.#cards.values()) card.close();
    this.#cards.clear();
    this.#update(clips);
    this.#arrange();
  }

  /** @param {Clip[]} clips */
  #update(clips) {
    for (const clip of clips) {
      const card = this.#cards.get(clip.id);
      if (card === undefined) this.#cards.set(clip.id, new Card(clip, this.#handlers));
      else card.update(clip);
    }
  }

  #arrange() {
    for (const [id, card] of this.#cards) {
      if (this.#ids.includes(id)) continue;
      card.close();
      this.#cards.delete(id);
    }
    this.#ids.forEach((id, index) => {
      const element = /** @type {Card} */ (this.#cards.get(id)).element;
      const there = this.#list.children[index] ?? null;
      if (there !== element) this.#list.insertBefore(element, there);
    });
  }
}
