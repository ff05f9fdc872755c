/**
 * The favourites under the prompt field: a click or a number key puts one on stage. The browser stores them. Until the
 * user changes something they are examples in the page's language.
 *
 * @module favourites
 */

import { byId, icon, iconButton, make } from "../shared/dom.js";
import { orderByDragging } from "../shared/drag.js";
import { examplePrompts, storage, t } from "../shared/i18n.js";

const NUM_KEYS = 9;
const NUM_AT_MOST = 60;
const STORAGE_KEY = "sceneshift.favourites";

export class Favourites {
  #list = byId("favourites", HTMLElement);
  #edit = byId("favourites-edit", HTMLButtonElement);
  #reset = byId("favourites-reset", HTMLButtonElement);
  #onChosen;
  #onChanged;
  /** @type {string[] | null} null: the examples */
  #kept = stored();
  #isEditing = false;

  /**
   * @param {(text: string) => void} onChosen
   * @param {() => void} onChanged
   */
  constructor(onChosen, onChanged) {
    this.#onChosen = onChosen;
    this.#onChanged = onChanged;
    this.#edit.addEventListener("click", () => {
      this.#isEditing = !this.#isEditing;
      this.render();
    });
    this.#reset.addEventListener("click", () => this.#keep(null));
    orderByDragging(this.#list, (from, to) => this.#move(from, to));
  }

  /** @returns {string[]} */
  get texts() {
    return this.#kept ?? examplePrompts();
  }

  /** @param {string} text */
  has(text) {
    return this.texts.includes(text.trim());
  }

  /** @param {string} text added to the favourites, or removed if it is one */
  toggle(text) {
    const wanted = text.trim();
    if (wanted === "") return;
    if (this.has(wanted)) this.#keep(this.texts.filter((each) => each !== wanted));
    else this.#keep([...this.texts, wanted].slice(-NUM_AT_MOST));
  }

  /** @param {number} index from 0; ignored if it does not exist */
  choose(index) {
    const text = this.texts[index];
    if (text !== undefined) this.#onChosen(text);
  }

  render() {
    this.#edit.ariaPressed = String(this.#isEditing);
    this.#edit.textContent = t(this.#isEditing ? "favourites.done" : "favourites.edit");
    this.#reset.hidden = !this.#isEditing || this.#kept === null;
    const chips = this.texts.map((text, index) => this.#chip(text, index));
    if (chips.length === 0) chips.push(make("li", "favourites-empty", [t("favourites.empty")]));
    this.#list.replaceChildren(...chips);
  }

  /**
   * @param {string} text
   * @param {number} index
   */
  #chip(text, index) {
    const button = make("button", "chip-button");
    button.type = "button";
    if (index < NUM_KEYS) {
      const key = make("kbd", "chip-key", [String(index + 1)]);
      key.ariaHidden = "true";
      button.append(key);
    }
    button.append(make("span", "chip-text", [text]));
    button.addEventListener("click", () => this.#onChosen(text));
    const chip = make("li", "", [button]);
    if (this.#isEditing) chip.append(...this.#tools(text, index));
    chip.draggable = true;
    return chip;
  }

  /**
   * @param {string} text
   * @param {number} index
   */
  #tools(text, index) {
    const earlier = iconButton("small-button", icon("left"), t("favourites.earlier", { text }), () =>
      this.#move(index, index - 1),
    );
    const later = iconButton("small-button", icon("right"), t("favourites.later", { text }), () =>
      this.#move(index, index + 1),
    );
    earlier.disabled = index === 0;
    later.disabled = index === this.texts.length - 1;
    const remove = iconButton("small-button", icon("remove"), t("favourites.remove", { text }), () =>
      this.toggle(text),
    );
    return [earlier, later, remove];
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  #move(from, to) {
    const texts = [...this.texts];
    const [moved] = texts.splice(from, 1);
    texts.splice(to, 0, moved);
    const hadFocus = this.#list.contains(document.activeElement);
    this.#keep(texts);
    if (hadFocus) this.#list.children[to]?.querySelector("button")?.focus();
  }

  /** @param {string[] | null} texts */
  #keep(texts) {
    this.#kept = texts;
    if (texts === null) storage()?.removeItem(STORAGE_KEY);
    else storage()?.setItem(STORAGE_KEY, JSON.stringify(texts));
    this.render();
    this.#onChanged();
  }
}

/** @returns {string[] | null} */
function stored() {
  try {
    const kept = JSON.parse(storage()?.getItem(STORAGE_KEY) ?? "null");
    if (Array.isArray(kept) && kept.every((text) => typeof text === "string")) return kept.slice(0, NUM_AT_MOST);
  } catch {
    // Edited by hand, or written by another version: use the examples.
  }
  return null;
}
