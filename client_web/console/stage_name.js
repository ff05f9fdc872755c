/**
 * The stage's name: its session is called so, and so its OBS address outlives a restart of the server. Made up once, kept in
 * this browser, and the user's to change.
 *
 * @module stage_name
 */

import { storage } from "../shared/i18n.js";

const STORAGE_KEY = "sceneshift.stage";
const ADJECTIVES = ["amber", "bright", "calm", "clear", "golden", "lively", "quiet", "silver", "swift", "warm"];
const NOUNS = ["bay", "cloud", "comet", "coral", "harbour", "lantern", "meadow", "river", "summit", "tide"];
const NAME = /^[a-z0-9-]{3,40}$/;

/** @param {string} name */
export function isStageName(name) {
  return NAME.test(name);
}

export class StageName {
  #name;
  /** Added while another session has the name itself: 2, 3, … */
  #suffix = 0;
  #isKnown = true;

  constructor() {
    const kept = storage()?.getItem(STORAGE_KEY) ?? "";
    this.#name = isStageName(kept) ? kept : madeUp();
    storage()?.setItem(STORAGE_KEY, this.#name);
  }

  get value() {
    return this.#name;
  }

  /** null: this server gives sessions no names */
  get shared() {
    return this.#isKnown ? this.#name : null;
  }

  /** @returns {{name?: string}} for `session.start` */
  get option() {
    if (!this.#isKnown) return {};
    return { name: this.#suffix === 0 ? this.#name : `${this.#name.slice(0, 36)}-${this.#suffix}` };
  }

  /** @param {string} name */
  rename(name) {
    this.#name = name;
    this.#suffix = 0;
    storage()?.setItem(STORAGE_KEY, name);
  }

  /** Another session has it, as when the console is open twice: the next free one, for this page only. */
  avoid() {
    this.#suffix = Math.max(2, this.#suffix + 1);
  }

  /** The server is older than stage names. */
  giveUp() {
    this.#isKnown = false;
  }
}

function madeUp() {
  const [first, second, third] = crypto.getRandomValues(new Uint32Array(3));
  return `${ADJECTIVES[first % ADJECTIVES.length]}-${NOUNS[second % NOUNS.length]}-${10 + (third % 90)}`;
}
