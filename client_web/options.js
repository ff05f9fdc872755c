/**
 * The session's options: segmented controls, the list of LoRAs, a tick box. What is shown is what the server confirmed, or will be told at the start.
 *
 * @module options
 */

import { make } from "./dom.js";
import { storage, t } from "./i18n.js";

/** @typedef {import("./sdk/messages.js").SessionOptions} SessionOptions */
/** @typedef {"quality" | "transition" | "on_preview" | "take" | "after"} OptionName */
/** @typedef {{can_start_from_frame: boolean, loras: string[]}} Abilities what the loaded model can */

/** @type {Readonly<Record<OptionName, readonly string[]>>} the first of each is the default */
const CHOICES = Object.freeze({
  quality: ["fast", "fine"],
  transition: ["crossfade", "cut", "morph"],
  on_preview: ["on_air", "controller", "off"],
  take: ["auto", "manual"],
  after: ["loop", "continue", "hold"],
});
/** Choices that need a model that can start a clip from a given frame. */
const FROM_FRAME = Object.freeze(["morph", "continue"]);
const NAMES = /** @type {OptionName[]} */ (Object.keys(CHOICES));
const STORAGE_KEY = "sceneshift.options";

export class Options {
  #root;
  #onChosen;
  /** @type {Record<OptionName, string>} */
  #values;
  /** @type {string | null} */
  #lora = null;
  #isFresh = false;
  /** @type {Abilities | null} null while the model is not known */
  #abilities = null;

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
    return /** @type {SessionOptions} */ ({ ...this.#values, lora: this.#lora, fresh: this.#isFresh });
  }

  /** @param {Abilities} abilities */
  setAbilities(abilities) {
    this.#abilities = abilities;
    this.render();
  }

  /**
   * Goes back to what every model can, because the server refused an option at the start.
   *
   * @param {string | null | undefined} name
   * @returns {boolean} whether that changed anything
   */
  giveUp(name) {
    if (name === "lora" && this.#lora !== null) this.#lora = null;
    else if ((name === "transition" || name === "after") && FROM_FRAME.includes(this.#values[name])) {
      this.#values[name] = CHOICES[name][0];
    } else return false;
    this.#store();
    this.#check();
    return true;
  }

  /** @param {SessionOptions} options as the server has them */
  confirm(options) {
    for (const name of NAMES) {
      const value = options[name];
      if (value !== undefined && CHOICES[name].includes(value)) this.#values[name] = value;
    }
    if (options.lora !== undefined) this.#lora = options.lora;
    if (options.fresh !== undefined) this.#isFresh = options.fresh;
    this.#store();
    this.#check();
  }

  render() {
    const controls = NAMES.map((name) => this.#control(name));
    this.#root.replaceChildren(...controls, this.#freshControl(), ...this.#loraControl());
    this.#check();
  }

  #store() {
    storage()?.setItem(STORAGE_KEY, JSON.stringify(this.#values));
  }

  /** @param {OptionName} name */
  #control(name) {
    const legend = make("legend", "", [t(`options.${name}`)]);
    const choices = make("div", "segments", CHOICES[name].map((value) => this.#segment(name, value)));
    const option = make("fieldset", "option", [legend, choices]);
    option.dataset.option = name;
    return option;
  }

  #freshControl() {
    const box = make("input", "");
    box.type = "checkbox";
    box.name = "fresh";
    box.addEventListener("change", () => {
      this.#isFresh = box.checked;
      this.#onChosen({ fresh: box.checked });
    });
    const label = make("label", "tick", [box, make("span", "", [t("options.fresh")])]);
    label.title = t("options.fresh.hint");
    const option = make("div", "option", [label]);
    option.dataset.option = "fresh";
    return option;
  }

  /** @returns {HTMLElement[]} none for a model without LoRAs */
  #loraControl() {
    const loras = this.#abilities?.loras ?? [];
    if (loras.length === 0) return [];
    const list = make("select", "");
    list.name = "lora";
    list.append(new Option(t("options.lora.none"), ""), ...loras.map((name) => new Option(name, name)));
    list.addEventListener("change", () => {
      this.#lora = list.value === "" ? null : list.value;
      this.#onChosen({ lora: this.#lora });
    });
    const option = make("div", "option", [make("label", "pick", [make("span", "", [t("options.lora")]), list])]);
    option.dataset.option = "lora";
    return [option];
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
      this.#store();
      this.#onChosen(/** @type {SessionOptions} */ ({ [name]: value }));
    });
    const label = make("label", "segment", [radio, make("span", "", [t(`options.${name}.${value}`)])]);
    if (FROM_FRAME.includes(value) && this.#abilities !== null && !this.#abilities.can_start_from_frame) {
      radio.disabled = true;
      // Read out with the choice, and shown to who points at it.
      label.title = t("options.cannot");
      label.append(make("span", "visually-hidden", [t("options.cannot")]));
    }
    return label;
  }

  #check() {
    for (const input of this.#root.querySelectorAll("input")) {
      if (input.type === "checkbox") input.checked = this.#isFresh;
      else input.checked = this.#values[/** @type {OptionName} */ (input.name)] === input.value;
    }
    const list = this.#root.querySelector("select");
    if (list !== null) list.value = this.#lora ?? "";
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
