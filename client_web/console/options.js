/**
 * The controls of the session's options, in two places: how clips go on air (between the monitors) and how they are
 * made (the settings). They show the values that the server has confirmed, or will get at the start.
 *
 * @module options
 */

import { make, textButton } from "../shared/dom.js";
import { storage, t } from "../shared/i18n.js";

/** @typedef {import("../sdk/messages.js").SessionOptions} SessionOptions */
/** @typedef {"quality" | "transition" | "on_preview" | "take" | "after"} OptionName */
/** @typedef {{can_start_from_frame: boolean, loras: string[]}} Capabilities of the loaded model */

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
const DEFAULT_TRANSITION_S = 0.5;
// The server accepts up to 5 s, but a transition longer than this is an effect, not a take.
const LONGEST_TRANSITION_S = 3;
const STORAGE_KEY = "sceneshift.options";

export class Options {
  #settings;
  #mix;
  #onChosen;
  /** @type {Record<OptionName, string>} */
  #values;
  #transitionS = DEFAULT_TRANSITION_S;
  /** @type {number | null} null: a random one for each prompt */
  #seed = null;
  /** @type {number | null} of the last prompt */
  #seedUsed = null;
  /** @type {string | null} */
  #lora = null;
  #isFresh = false;
  /** @type {string[]} the music that the server can play */
  #musics = [];
  /** @type {string | null} null: silence */
  #music = null;
  #volume = 0.5;
  /** @type {Capabilities | null} null while the model is not known */
  #capabilities = null;

  /**
   * @param {HTMLElement} settings
   * @param {HTMLElement} mix
   * @param {(change: SessionOptions) => void} onChosen
   */
  constructor(settings, mix, onChosen) {
    this.#settings = settings;
    this.#mix = mix;
    this.#onChosen = onChosen;
    const { transition_s: transitionS, ...values } = stored();
    this.#values = values;
    this.#transitionS = transitionS;
  }

  /** @returns {SessionOptions} */
  get values() {
    const values = { ...this.#values, transition_s: this.#transitionS, lora: this.#lora, fresh: this.#isFresh };
    // Sent only if chosen, because an older server does not know these fields.
    const sound = this.#music === null ? {} : { music: this.#music, music_volume: this.#volume };
    return /** @type {SessionOptions} */ ({
      ...values,
      ...sound,
      ...(this.#seed === null ? {} : { seed: this.#seed }),
    });
  }

  /** @returns {{transition?: "cut" | "crossfade", transition_s: number}} for `program.take` */
  get takeNow() {
    const { transition } = this.#values;
    // A morph is made with the clip and cannot be chosen now. Without `transition` the server uses the prompt's.
    if (transition === "morph") return { transition_s: this.#transitionS };
    return { transition: /** @type {"cut" | "crossfade"} */ (transition), transition_s: this.#transitionS };
  }

  /** @param {Capabilities} capabilities */
  setCapabilities(capabilities) {
    this.#capabilities = capabilities;
    this.render();
  }

  /** @param {string[]} musics the names that the server offers */
  setMusics(musics) {
    if (musics.join() === this.#musics.join()) return;
    this.#musics = musics;
    this.render();
  }

  /** @param {number | null} seed of the newest prompt */
  showSeed(seed) {
    this.#seedUsed = seed;
    this.#check();
  }

  /** @param {number | null} seed for every prompt from now on; null: a random one for each */
  lockSeed(seed) {
    this.#seed = seed;
    this.#check();
    this.#onChosen({ seed });
  }

  /**
   * Resets an option that the server refused at the start to a value that every model supports.
   *
   * @param {string | null | undefined} name
   * @returns {boolean} whether that changed anything
   */
  giveUp(name) {
    if (name === "lora" && this.#lora !== null) this.#lora = null;
    else if ((name === "music" || name === "music_volume") && this.#music !== null) this.#music = null;
    else if (name === "seed" && this.#seed !== null) this.#seed = null;
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
    if (options.transition_s !== undefined) this.#transitionS = options.transition_s;
    if (options.seed !== undefined) this.#seed = options.seed;
    if (options.lora !== undefined) this.#lora = options.lora;
    if (options.fresh !== undefined) this.#isFresh = options.fresh;
    if (options.music !== undefined) this.#music = options.music;
    if (options.music_volume !== undefined) this.#volume = options.music_volume;
    this.#store();
    this.#check();
  }

  render() {
    this.#mix.replaceChildren(this.#control("take"), this.#control("transition"), this.#lengthControl());
    this.#settings.replaceChildren(
      ...["quality", "after", "on_preview"].map((name) => this.#control(/** @type {OptionName} */ (name))),
      this.#seedControl(),
      this.#freshControl(),
      ...this.#loraControl(),
      ...this.#musicControl(),
    );
    this.#check();
  }

  #store() {
    storage()?.setItem(STORAGE_KEY, JSON.stringify({ ...this.#values, transition_s: this.#transitionS }));
  }

  // --- the controls -----------------------------------------------------------------------------------------------

  /** @param {OptionName} name */
  #control(name) {
    const legend = make("legend", "", [t(`options.${name}`)]);
    const choices = make(
      "div",
      "segments",
      CHOICES[name].map((value) => this.#segment(name, value)),
    );
    return placed(make("fieldset", "option", [legend, choices]), name);
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
    radio.addEventListener("change", () => {
      this.#values[name] = value;
      this.#store();
      this.#check();
      this.#onChosen(/** @type {SessionOptions} */ ({ [name]: value }));
    });
    const label = make("label", "segment", [radio, make("span", "", [t(`options.${name}.${value}`)])]);
    if (FROM_FRAME.includes(value) && this.#capabilities !== null && !this.#capabilities.can_start_from_frame) {
      radio.disabled = true;
      // Screen readers read it with the choice; the pointer shows it as a tooltip.
      label.title = t("options.cannot");
      label.append(make("span", "visually-hidden", [t("options.cannot")]));
    }
    return label;
  }

  #lengthControl() {
    const slider = range("transition_s", LONGEST_TRANSITION_S, 0.1);
    const shown = make("output", "");
    slider.addEventListener("input", () => (shown.textContent = seconds(Number(slider.value))));
    slider.addEventListener("change", () => {
      this.#transitionS = Number(slider.value);
      this.#store();
      this.#onChosen({ transition_s: this.#transitionS });
    });
    // Not in one <label>: it would label the output, which comes first.
    slider.ariaLabel = t("options.transition_s");
    const line = make("div", "length", [make("span", "", [t("options.transition_s")]), shown, slider]);
    return placed(make("div", "option", [line]), "transition_s");
  }

  #seedControl() {
    const field = make("input", "field");
    Object.assign(field, {
      name: "seed",
      inputMode: "numeric",
      autocomplete: "off",
      placeholder: t("options.seed.random"),
    });
    field.ariaLabel = t("options.seed");
    field.addEventListener("change", () => this.#typeSeed(field));
    const lock = textButton("plain", "", () => this.lockSeed(this.#seed === null ? this.#seedUsed : null));
    lock.name = "seed-lock";
    const line = make("div", "seed-line", [field, lock]);
    return placed(make("div", "option", [make("span", "option-label", [t("options.seed")]), line]), "seed");
  }

  /** @param {HTMLInputElement} field */
  #typeSeed(field) {
    const typed = field.value.trim();
    const isSeed = /^\d+$/.test(typed) && Number.isSafeInteger(Number(typed));
    field.ariaInvalid = String(typed !== "" && !isSeed);
    field.title = typed !== "" && !isSeed ? t("options.seed.invalid") : "";
    if (typed === "" || isSeed) this.lockSeed(typed === "" ? null : Number(typed));
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
    return placed(make("div", "option", [label]), "fresh");
  }

  /** @returns {HTMLElement[]} none for a model without LoRAs */
  #loraControl() {
    const names = this.#capabilities?.loras ?? [];
    if (names.length === 0) return [];
    const list = picker("lora", t("options.lora.none"), names);
    list.addEventListener("change", () => {
      this.#lora = list.value === "" ? null : list.value;
      this.#onChosen({ lora: this.#lora });
    });
    return [
      placed(make("div", "option", [make("label", "pick", [make("span", "", [t("options.lora")]), list])]), "lora"),
    ];
  }

  /** @returns {HTMLElement[]} none for a server without music */
  #musicControl() {
    if (this.#musics.length === 0) return [];
    const list = picker("music", t("options.music.none"), this.#musics);
    list.addEventListener("change", () => {
      this.#music = list.value === "" ? null : list.value;
      this.#check();
      this.#onChosen(/** @type {SessionOptions} */ ({ music: this.#music }));
    });
    const volume = range("music_volume", 1, 0.01);
    volume.ariaLabel = t("options.music_volume");
    volume.addEventListener("change", () => {
      this.#volume = Number(volume.value);
      this.#onChosen(/** @type {SessionOptions} */ ({ music_volume: this.#volume }));
    });
    const label = make("label", "pick", [make("span", "", [t("options.music")]), list]);
    return [placed(make("div", "option music", [label, volume]), "music")];
  }

  // --- their values -----------------------------------------------------------------------------------------------

  #check() {
    for (const input of [...this.#mix.querySelectorAll("input"), ...this.#settings.querySelectorAll("input")]) {
      this.#checkOne(input);
    }
    for (const list of this.#settings.querySelectorAll("select")) {
      list.value = (list.name === "lora" ? this.#lora : this.#music) ?? "";
    }
    const shown = this.#mix.querySelector("output");
    if (shown !== null) shown.textContent = this.#values.transition === "cut" ? "–" : seconds(this.#transitionS);
    this.#checkLock();
  }

  /** @param {HTMLInputElement} input */
  #checkOne(input) {
    switch (input.name) {
      case "fresh":
        input.checked = this.#isFresh;
        break;
      case "transition_s":
        input.value = String(this.#transitionS);
        input.disabled = this.#values.transition === "cut";
        input.title = input.disabled ? t("options.transition_s.cut") : "";
        break;
      case "seed":
        // Do not change the field while the user types in it.
        if (input === document.activeElement && this.#seed === null) break;
        input.value = this.#seed?.toString() ?? "";
        input.placeholder =
          this.#seedUsed === null ? t("options.seed.random") : t("options.seed.used", { seed: this.#seedUsed });
        break;
      case "music_volume":
        input.value = String(this.#volume);
        input.disabled = this.#music === null;
        break;
      default:
        input.checked = this.#values[/** @type {OptionName} */ (input.name)] === input.value;
    }
  }

  #checkLock() {
    const lock = this.#settings.querySelector("button");
    if (lock === null) return;
    const isLocked = this.#seed !== null;
    lock.textContent = t(isLocked ? "options.seed.unlock" : "options.seed.lock");
    lock.ariaPressed = String(isLocked);
    lock.disabled = !isLocked && this.#seedUsed === null;
    lock.title = t(
      isLocked ? "options.seed.unlock_hint" : lock.disabled ? "options.seed.none" : "options.seed.lock_hint",
    );
  }
}

/**
 * @template {HTMLElement} T
 * @param {T} element
 * @param {string} name
 */
function placed(element, name) {
  element.dataset.option = name;
  return element;
}

/**
 * @param {string} name
 * @param {string} none
 * @param {string[]} names
 */
function picker(name, none, names) {
  const list = make("select", "field");
  list.name = name;
  list.append(new Option(none, ""), ...names.map((each) => new Option(each, each)));
  return list;
}

/**
 * @param {string} name
 * @param {number} max
 * @param {number} step
 */
function range(name, max, step) {
  const slider = make("input", "");
  Object.assign(slider, { type: "range", name, min: "0", max: String(max), step: String(step) });
  return slider;
}

/** @param {number} length */
function seconds(length) {
  return `${length.toFixed(1)} s`;
}

/** @returns {Record<OptionName, string> & {transition_s: number}} the stored choices, if they are still valid */
function stored() {
  /** @type {Record<string, unknown>} */
  let kept = {};
  try {
    kept = JSON.parse(storage()?.getItem(STORAGE_KEY) ?? "{}") ?? {};
  } catch {
    // Edited by hand, or written by another version: use the defaults.
  }
  const values = /** @type {Record<OptionName, string> & {transition_s: number}} */ ({});
  for (const name of NAMES) {
    const value = kept[name];
    values[name] = typeof value === "string" && CHOICES[name].includes(value) ? value : CHOICES[name][0];
  }
  const length = kept.transition_s;
  const isLength = typeof length === "number" && length >= 0 && length <= LONGEST_TRANSITION_S;
  values.transition_s = isLength ? length : DEFAULT_TRANSITION_S;
  return values;
}
