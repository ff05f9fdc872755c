/**
 * The session's options as segmented controls. What is shown is what the server confirmed, or will be told at the start.
 *
 * @module options
 */

import { make } from "./dom.js";
import { storage, t } from "./i18n.js";

/** @typedef {import("./messages.js").SessionOptions} SessionOptions */
/** @typedef {"quality" | "transition" | "on_preview" | "take"} OptionName */

/** @type {Readonly<Record<OptionName, readonly string[]>>} the first of each is the default */
const CHOICES = Object.freeze({
  quality: ["fast", "fine"],
  transition: ["crossfade", "cut"],
  on_preview: ["on_air", "controller", "off"],
  take: ["auto", "manual"],
});
const NAMES = /** @type {OptionName[]} */ (Object.keys(CHOICES));
const STORAGE_KEY = "sceneshift.options";

export class Options {
  #root;
  #onChosen;
  /** @type {Record<OptionName, string>} */
  #values;

  /**
   * @param {HTMLElement} root
   * @param {(change: SessionOptions) => void} onChosen
   */
  constructor(root, onChosen) {
    this.#root = root;
    this.#onChosen = onChosen;
    this.#values = stored();
  }

  /** @returns {SessionOptions} */
  get values() {
    return /** @type {SessionOptions} */ ({ ...this.#values });
  }

  /** @param {SessionOptions} options as the server has them */
  confirm(options) {
    for (const name of NAMES) {
      const value = options[name];
      if (value !== undefined && CHOICES[name].includes(value)) this.#values[name] = value;
    }
    storage()?.setItem(STORAGE_KEY, JSON.stringify(this.#values));
    this.#check();
  }

  render() {
    this.#root.replaceChildren(...NAMES.map((name) => this.#control(name)));
  }

  /** @param {OptionName} name */
  #control(name) {
    const legend = make("legend", "", [t(`options.${name}`)]);
    const choices = make("div", "segments", CHOICES[name].map((value) => this.#segment(name, value)));
    return make("fieldset", "option", [legend, choices]);
  }

  /**
   * @param {OptionName} name
   * @param {string} value
   */
  #segment(name, value) {
    const radio = make("input", "");
    radio.type = "radio";
    radio.name = name;
    radio.value = value;
    radio.checked = this.#values[name] === value;
    radio.addEventListener("change", () => {
      this.#values[name] = value;
      storage()?.setItem(STORAGE_KEY, JSON.stringify(this.#values));
      this.#onChosen(/** @type {SessionOptions} */ ({ [name]: value }));
    });
    return make("label", "segment", [radio, make("span", "", [t(`options.${name}.${value}`)])]);
  }

  #check() {
    for (const radio of this.#root.querySelectorAll("input")) {
      radio.checked = this.#values[/** @type {OptionName} */ (radio.name)] === radio.value;
    }
  }
}

/** @returns {Record<OptionName, string>} what was chosen last time, where it still is a choice */
function stored() {
  const values = /** @type {Record<OptionName, string>} */ ({});
  /** @type {Record<string, unknown>} */
  let kept = {};
  try {
    kept = JSON.parse(storage()?.getItem(STORAGE_KEY) ?? "{}") ?? {};
  } catch {
    // Edited by hand, or by another version: the defaults serve.
  }
  for (const name of NAMES) {
    const value = kept[name];
    values[name] = typeof value === "string" && CHOICES[name].includes(value) ? value : CHOICES[name][0];
  }
  return values;
}
