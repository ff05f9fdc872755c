/**
 * The stage's name. Its session has this name, so that its OBS address survives a server restart. It is made up once
 * and stored in this browser; the user may change it.
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
  /** Appended to the name while another session has it: 2, 3, … */
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

  /** null: this server does not know session names */
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

  /** Takes the next suffix, on this page only: another session has the name, as when the console is open twice. */
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
