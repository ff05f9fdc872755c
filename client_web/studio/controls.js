/**
 * The controls beside the picture, made from the tables of `settings.js`: a slider for a number, segments for a choice,
 * a checkbox for a switch. They show the current values and report changes; `app.js` passes both on.
 *
 * @module controls
 */

import { make } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { CHOICES, RANGES, SWITCHES } from "./settings.js";

/** @typedef {import("./settings.js").Values} Values */

/** The controls of each box. The box has the id `<box>-options`, and a control's text has the key `box.name`. */
const BOXES = Object.freeze({
  scene: ["background", "fit"],
  camera: ["mirror", "size", "x", "y", "opacity"],
  edge: ["cutOut", "softness", "shift", "wrap"],
  crop: ["cropLeft", "cropRight", "cropTop", "cropBottom"],
  output: ["resolution", "label"],
});

export class Controls {
  #onChange;
  /** @type {(() => void)[]} each sets the texts of one control */
  #texts = [];
  /** @type {((values: Readonly<Values>) => void)[]} each shows the value of one control */
  #shown = [];

  /** @param {(change: Partial<Values>) => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
    for (const [box, names] of Object.entries(BOXES)) {
      const place = document.getElementById(`${box}-options`);
      for (const name of names) place?.append(this.#made(name, `${box}.${name}`));
    }
  }

  /** Sets the texts in the current language. */
  render() {
    for (const put of this.#texts) put();
  }

  /** @param {Readonly<Values>} values */
  show(values) {
    for (const show of this.#shown) show(values);
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #made(name, text) {
    if (name in RANGES) return this.#slider(/** @type {keyof typeof RANGES} */ (name), text);
    if (name in CHOICES) return this.#segments(/** @type {keyof typeof CHOICES} */ (name), text);
    if (name in SWITCHES) return this.#tick(/** @type {keyof typeof SWITCHES} */ (name), text);
    throw new Error(`no setting is called ${name}`);
  }

  /**
   * @param {keyof typeof RANGES} name
   * @param {string} text
   */
  #slider(name, text) {
    const { min, max, step } = RANGES[name];
    const label = make("span", "");
    const input = make("input", "");
    const output = make("output", "");
    Object.assign(input, { type: "range", name, min: String(min), max: String(max), step: String(step) });
    input.addEventListener("input", () => this.#onChange({ [name]: input.valueAsNumber }));
    this.#texts.push(() => (label.textContent = t(text)));
    this.#shown.push((values) => {
      const percent = `${Math.round(values[name] * 100)}%`;
      input.value = String(values[name]);
      input.setAttribute("aria-valuetext", percent);
      output.textContent = percent;
    });
    return make("label", "slider", [label, input, output]);
  }

  /**
   * @param {keyof typeof CHOICES} name
   * @param {string} text
   */
  #segments(name, text) {
    const legend = make("legend", "");
    this.#texts.push(() => (legend.textContent = t(text)));
    const segments = CHOICES[name].map((choice) => {
      const input = make("input", "");
      const word = make("span", "");
      Object.assign(input, { type: "radio", name, value: choice });
      input.addEventListener("change", () => this.#onChange({ [name]: choice }));
      this.#texts.push(() => (word.textContent = name === "resolution" ? choice : t(`${text}.${choice}`)));
      this.#shown.push((values) => (input.checked = values[name] === choice));
      return make("label", "segment", [input, word]);
    });
    return make("fieldset", "option", [legend, make("div", "segments", segments)]);
  }

  /**
   * @param {keyof typeof SWITCHES} name
   * @param {string} text
   */
  #tick(name, text) {
    const input = make("input", "");
    const word = make("span", "");
    Object.assign(input, { type: "checkbox", name });
    input.addEventListener("change", () => this.#onChange({ [name]: input.checked }));
    this.#texts.push(() => (word.textContent = t(text)));
    this.#shown.push((values) => (input.checked = values[name]));
    return make("label", "tick", [input, word]);
  }
}
