/**
 * The streamer's settings, checked and stored in this browser. The tables below define them; `controls.js` shows them.
 *
 * @module settings
 */

const STORAGE_KEY = "sceneshift.studio";

/** Numbers. Lengths are shares of the picture's width or height, crops are shares of the camera's. */
export const RANGES = Object.freeze({
  x: { min: -0.5, max: 1.5, step: 0.005, initial: 0.5 },
  y: { min: -0.5, max: 1.5, step: 0.005, initial: 0.5 },
  size: { min: 0.1, max: 3, step: 0.01, initial: 1 },
  opacity: { min: 0, max: 1, step: 0.01, initial: 1 },
  softness: { min: 0, max: 1, step: 0.01, initial: 0.25 },
  shift: { min: -1, max: 1, step: 0.02, initial: 0 },
  wrap: { min: 0, max: 1, step: 0.01, initial: 0.2 },
  cropLeft: { min: 0, max: 0.45, step: 0.01, initial: 0 },
  cropRight: { min: 0, max: 0.45, step: 0.01, initial: 0 },
  cropTop: { min: 0, max: 0.45, step: 0.01, initial: 0 },
  cropBottom: { min: 0, max: 0.45, step: 0.01, initial: 0 },
});

export const CHOICES = Object.freeze({
  background: ["scene", "green", "blue"],
  fit: ["cover", "contain"],
  resolution: ["360", "540", "720", "1080"],
});
const INITIAL_CHOICES = Object.freeze({ background: "scene", fit: "cover", resolution: "720" });

export const SWITCHES = Object.freeze({ mirror: true, cutOut: true, label: true });

/**
 * @typedef {object} Values
 * @property {number} x of the camera's centre
 * @property {number} y
 * @property {number} size the camera's height
 * @property {number} opacity
 * @property {number} softness of the edge
 * @property {number} shift of the edge; outwards if positive
 * @property {number} wrap how much of the scene's light falls on the edge
 * @property {number} cropLeft
 * @property {number} cropRight
 * @property {number} cropTop
 * @property {number} cropBottom
 * @property {"scene" | "green" | "blue"} background
 * @property {"cover" | "contain"} fit of the scene
 * @property {"360" | "540" | "720" | "1080"} resolution lines of the output
 * @property {boolean} mirror
 * @property {boolean} cutOut
 * @property {boolean} label "AI-generated" in the corner
 */

/** `reset` keeps these: it brings the person back into the picture and does not change the output. */
const KEPT_ON_RESET = ["background", "fit", "resolution", "label"];

export class Settings {
  #values;
  #storage;
  #onChange;

  /**
   * @param {Storage | null} storage
   * @param {() => void} onChange
   */
  constructor(storage, onChange) {
    this.#storage = storage;
    this.#onChange = onChange;
    this.#values = { ...initialValues(), ...readFrom(storage) };
  }

  /** @returns {Readonly<Values>} */
  get values() {
    return this.#values;
  }

  /** @param {Partial<Values>} change numbers are clamped to their ranges; a value that no table allows throws */
  set(change) {
    for (const [name, value] of Object.entries(change)) {
      const checked = check(name, value);
      if (checked === undefined) throw new Error(`${value} is no value for ${name}`);
      Object.assign(this.#values, { [name]: checked });
    }
    this.#keep();
  }

  reset() {
    const kept = Object.fromEntries(Object.entries(this.#values).filter(([name]) => KEPT_ON_RESET.includes(name)));
    this.#values = { ...initialValues(), ...kept };
    this.#keep();
  }

  #keep() {
    this.#storage?.setItem(STORAGE_KEY, JSON.stringify(this.#values));
    this.#onChange();
  }
}

/** @returns {Values} */
export function initialValues() {
  const numbers = Object.entries(RANGES).map(([name, range]) => [name, range.initial]);
  return /** @type {Values} */ ({ ...Object.fromEntries(numbers), ...INITIAL_CHOICES, ...SWITCHES });
}

/**
 * The stored values that are valid; another version may have written them.
 *
 * @param {Storage | null} storage
 * @returns {Partial<Values>}
 */
function readFrom(storage) {
  /** @type {unknown} */
  let kept;
  try {
    kept = JSON.parse(storage?.getItem(STORAGE_KEY) ?? "{}");
  } catch {
    return {};
  }
  if (typeof kept !== "object" || kept === null) return {};
  const checked = Object.entries(kept).map(([name, value]) => [name, check(name, value)]);
  return Object.fromEntries(checked.filter(([, value]) => value !== undefined));
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {number | string | boolean | undefined} the value, a number clamped; undefined if it is not valid
 */
function check(name, value) {
  if (name in RANGES) {
    const { min, max } = RANGES[/** @type {keyof typeof RANGES} */ (name)];
    return typeof value === "number" && Number.isFinite(value) ? Math.min(max, Math.max(min, value)) : undefined;
  }
  if (name in CHOICES) {
    const choices = CHOICES[/** @type {keyof typeof CHOICES} */ (name)];
    return typeof value === "string" && choices.includes(value) ? value : undefined;
  }
  return name in SWITCHES && typeof value === "boolean" ? value : undefined;
}
