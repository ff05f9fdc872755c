/**
 * The rundown: prompts prepared before the show, the one that was fired last, and a timer for the next one. No DOM,
 * clock or storage: `panel.js` has them. `toJson` writes its file, and `fromJson` reads and checks it.
 *
 * @module rundown
 */

import { MAX_PROMPT_CHARACTERS, newId } from "../../sdk/messages.js";

export const RUNDOWN_VERSION = 1;
export const MAX_ITEMS = 200;
export const MAX_NOTE_CHARACTERS = 500;
export const LONGEST_HOLD_S = 3600;
const DEFAULT_HOLD_S = 30;

export const TimerState = Object.freeze({ STOPPED: "stopped", RUNNING: "running", PAUSED: "paused" });

/**
 * @typedef {object} Item
 * @property {string} id of this page only, not of the file
 * @property {string} text
 * @property {string} note for the operator
 * @property {number | null} holdS seconds until the timer fires the next one; null: the `holdS` of the rundown
 */

/** A wrong rundown file: `code` names the error, `at` says where it is (`items[3].text`). */
export class RundownError extends Error {
  /**
   * @param {"not_json" | "not_a_rundown" | "unsupported_version" | "wrong_type" | "missing_field" | "unknown_field" | "out_of_range"} code
   * @param {string} at
   */
  constructor(code, at = "") {
    super(`${code} ${at}`.trim());
    this.name = "RundownError";
    this.code = code;
    this.at = at;
  }
}

export class Rundown {
  /** @type {Item[]} */
  items = [];
  /** @type {string | null} the item that was fired last */
  currentId = null;
  holdS = DEFAULT_HOLD_S;
  isRepeated = false;
  timer = /** @type {string} */ (TimerState.STOPPED);
  /** While the timer runs: when it fires, in ms of the caller's clock. While it is paused: the ms that were left. */
  #dueMs = 0;

  /** @param {{text: string, note?: string, holdS?: number | null}} item */
  add({ text, note = "", holdS = null }) {
    if (this.items.length >= MAX_ITEMS) throw new RundownError("out_of_range", "items");
    const item = { id: newId("r-"), text, note, holdS };
    this.items.push(item);
    return item;
  }

  /**
   * @param {string} id
   * @param {{text?: string, note?: string, holdS?: number | null}} change
   */
  edit(id, change) {
    const item = this.items.find((each) => each.id === id);
    if (item !== undefined) Object.assign(item, change);
  }

  /** @param {string} id */
  remove(id) {
    const index = this.indexOf(id);
    if (index === -1) return;
    this.items.splice(index, 1);
    // The item before it counts as fired last, so that the next one stays the next one.
    if (this.currentId === id) this.currentId = this.items[index - 1]?.id ?? null;
  }

  /**
   * @param {number} from
   * @param {number} to its index after the move
   */
  move(from, to) {
    if (!(from in this.items) || !(to in this.items)) return;
    this.items.splice(to, 0, ...this.items.splice(from, 1));
  }

  /** @param {string | null} id */
  indexOf(id) {
    return this.items.findIndex((item) => item.id === id);
  }

  /** @returns {Item | null} the item that "fire next" fires; null at the end */
  get next() {
    return this.items[this.indexOf(this.currentId) + 1] ?? (this.isRepeated ? (this.items[0] ?? null) : null);
  }

  /**
   * The item was sent to the stage. A running timer counts its hold from now.
   *
   * @param {Item} item
   * @param {number} nowMs
   */
  fired(item, nowMs) {
    this.currentId = item.id;
    if (this.timer !== TimerState.STOPPED)
      this.#dueMs = (this.timer === TimerState.RUNNING ? nowMs : 0) + this.holdOf(item) * 1000;
  }

  /** @param {Item} item */
  holdOf(item) {
    return item.holdS ?? this.holdS;
  }

  /** @param {number} nowMs when the hold of the item that was fired last begins */
  start(nowMs) {
    this.timer = TimerState.RUNNING;
    const item = this.items[this.indexOf(this.currentId)];
    this.#dueMs = nowMs + (item === undefined ? 0 : this.holdOf(item) * 1000);
  }

  /** @param {number} nowMs */
  pause(nowMs) {
    if (this.timer !== TimerState.RUNNING) return;
    this.#dueMs = this.leftMs(nowMs);
    this.timer = TimerState.PAUSED;
  }

  /** @param {number} nowMs */
  resume(nowMs) {
    if (this.timer !== TimerState.PAUSED) return;
    this.#dueMs += nowMs;
    this.timer = TimerState.RUNNING;
  }

  stop() {
    this.timer = TimerState.STOPPED;
  }

  /** @param {number} nowMs */
  leftMs(nowMs) {
    return this.timer === TimerState.PAUSED ? this.#dueMs : Math.max(0, this.#dueMs - nowMs);
  }

  /** @param {number} nowMs */
  isDue(nowMs) {
    return this.timer === TimerState.RUNNING && nowMs >= this.#dueMs;
  }

  /** @returns {string} */
  toJson() {
    const items = this.items.map(({ text, note, holdS }) => ({ text, note, hold_s: holdS }));
    return JSON.stringify(
      { sceneshift_rundown: RUNDOWN_VERSION, hold_s: this.holdS, repeat: this.isRepeated, items },
      null,
      2,
    );
  }

  /**
   * Replaces the rundown, or throws a `RundownError` and changes nothing.
   *
   * @param {string} text
   */
  fromJson(text) {
    const file = checkedFile(text);
    this.items = file.items.map((item) => ({ id: newId("r-"), ...item }));
    this.holdS = file.holdS;
    this.isRepeated = file.isRepeated;
    this.currentId = null;
    this.stop();
  }
}

/**
 * @param {string} text
 * @returns {{holdS: number, isRepeated: boolean, items: {text: string, note: string, holdS: number | null}[]}}
 */
function checkedFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new RundownError("not_json");
  }
  if (!isObject(file) || !("sceneshift_rundown" in file)) throw new RundownError("not_a_rundown");
  if (file.sceneshift_rundown !== RUNDOWN_VERSION)
    throw new RundownError("unsupported_version", String(file.sceneshift_rundown));
  refuseUnknown(file, ["sceneshift_rundown", "hold_s", "repeat", "items"], "");
  if (!("items" in file)) throw new RundownError("missing_field", "items");
  if (!Array.isArray(file.items)) throw new RundownError("wrong_type", "items");
  if (file.items.length > MAX_ITEMS) throw new RundownError("out_of_range", "items");
  if (typeof (file.repeat ?? false) !== "boolean") throw new RundownError("wrong_type", "repeat");
  return {
    holdS: checkedHold(file.hold_s, "hold_s") ?? DEFAULT_HOLD_S,
    isRepeated: file.repeat ?? false,
    items: file.items.map((item, index) => checkedItem(item, `items[${index}]`)),
  };
}

/**
 * @param {unknown} item
 * @param {string} at
 */
function checkedItem(item, at) {
  if (!isObject(item)) throw new RundownError("wrong_type", at);
  refuseUnknown(item, ["text", "note", "hold_s"], `${at}.`);
  if (!("text" in item)) throw new RundownError("missing_field", `${at}.text`);
  const note = item.note ?? "";
  if (typeof item.text !== "string") throw new RundownError("wrong_type", `${at}.text`);
  if (typeof note !== "string") throw new RundownError("wrong_type", `${at}.note`);
  const isGoodText = item.text.trim() !== "" && [...item.text].length <= MAX_PROMPT_CHARACTERS;
  if (!isGoodText) throw new RundownError("out_of_range", `${at}.text`);
  if ([...note].length > MAX_NOTE_CHARACTERS) throw new RundownError("out_of_range", `${at}.note`);
  return { text: item.text, note, holdS: checkedHold(item.hold_s, `${at}.hold_s`) };
}

/**
 * @param {unknown} holdS
 * @param {string} at
 * @returns {number | null}
 */
function checkedHold(holdS, at) {
  if (holdS === undefined || holdS === null) return null;
  if (typeof holdS !== "number") throw new RundownError("wrong_type", at);
  if (!(holdS >= 1 && holdS <= LONGEST_HOLD_S)) throw new RundownError("out_of_range", at);
  return holdS;
}

/**
 * @param {Record<string, unknown>} object
 * @param {string[]} known
 * @param {string} prefix
 */
function refuseUnknown(object, known, prefix) {
  const unknown = Object.keys(object).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new RundownError("unknown_field", prefix + unknown);
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
