/**
 * The favourites under the prompt field: one press, or a number key, puts one on stage. Kept in this browser; until the
 * user changes something they are examples in the page's language.
 *
 * @module favourites
 */

import { icon, iconButton, make } from "../shared/dom.js";
import { orderByDragging } from "../shared/drag.js";
import { currentLanguage, storage, t } from "../shared/i18n.js";

/** @type {readonly {en: string, zh: string}[]} */
const EXAMPLES = Object.freeze([
  { en: "beach at sunset", zh: "海边日落" },
  { en: "how does a volcano erupt?", zh: "火山是怎么喷发的？" },
  { en: "a cosy room on a rainy night", zh: "雨夜里温馨的房间" },
  { en: "a red sailboat on the sea at dawn", zh: "黎明海上的红色帆船" },
  { en: "falling petals in the cherry blossom garden", zh: "樱花飘落的花园" },
  { en: "a blue car in the city at night", zh: "夜晚城市里的蓝色汽车" },
  { en: "a white dog under the northern lights", zh: "极光下的白色小狗" },
  { en: "a girl in a red dress dancing in the studio", zh: "穿红裙的女孩在演播室里跳舞" },
  { en: "a green dinosaur in the classroom", zh: "教室里的绿色恐龙" },
  { en: "a rocket in space", zh: "太空中的火箭" },
]);
const NUM_KEYS = 9;
const NUM_AT_MOST = 60;
const STORAGE_KEY = "sceneshift.favourites";

export class Favourites {
  #list;
  #edit;
  #reset;
  #onChosen;
  #onChanged;
  /** @type {string[] | null} null: the examples */
  #kept = stored();
  #isEditing = false;

  /**
   * @param {{list: HTMLElement, edit: HTMLButtonElement, reset: HTMLButtonElement}} elements
   * @param {(text: string) => void} onChosen
   * @param {() => void} onChanged
   */
  constructor({ list, edit, reset }, onChosen, onChanged) {
    this.#list = list;
    this.#edit = edit;
    this.#reset = reset;
    this.#onChosen = onChosen;
    this.#onChanged = onChanged;
    edit.addEventListener("click", () => {
      this.#isEditing = !this.#isEditing;
      this.render();
    });
    reset.addEventListener("click", () => this.#keep(null));
    orderByDragging(list, (from, to) => this.#move(from, to));
  }

  /** @returns {string[]} */
  get texts() {
    return this.#kept ?? EXAMPLES.map((example) => example[currentLanguage()]);
  }

  /** @param {string} text */
  has(text) {
    return this.texts.includes(text.trim());
  }

  /** @param {string} text which becomes a favourite, or is none any more */
  toggle(text) {
    const wanted = text.trim();
    if (wanted === "") return;
    if (this.has(wanted)) this.#keep(this.texts.filter((each) => each !== wanted));
    else this.#keep([...this.texts, wanted].slice(-NUM_AT_MOST));
  }

  /** @param {number} index from 0; one that does not exist does nothing */
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
    const earlier = iconButton("small-button", icon("left"), t("favourites.earlier", { text }), () => this.#move(index, index - 1));
    const later = iconButton("small-button", icon("right"), t("favourites.later", { text }), () => this.#move(index, index + 1));
    earlier.disabled = index === 0;
    later.disabled = index === this.texts.length - 1;
    const remove = iconButton("small-button", icon("remove"), t("favourites.remove", { text }), () => this.toggle(text));
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
    // Edited by hand, or by another version: the examples serve.
  }
  return null;
}
