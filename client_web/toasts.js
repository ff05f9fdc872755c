/**
 * Short notes at the edge of the page; each goes by itself, or at a click.
 *
 * @module toasts
 */

import { make } from "./dom.js";
import { t } from "./i18n.js";

const NUM_AT_MOST = 3;
const SHOWN_MS = 7000;

export class Toasts {
  #root;
  /** @type {Map<HTMLElement, ReturnType<typeof setTimeout>>} */
  #timers = new Map();

  /** @param {HTMLElement} root a live region */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {string} text
   * @param {"error" | "note"} kind
   */
  show(text, kind) {
    const kept = Array.from(this.#timers.keys()).find((toast) => toast.dataset.text === text);
    if (kept !== undefined) this.#remove(kept);
    while (this.#timers.size >= NUM_AT_MOST) this.#remove(/** @type {HTMLElement} */ (this.#timers.keys().next().value));
    const close = make("button", "toast-close", ["×"]);
    close.type = "button";
    close.ariaLabel = t("toast.close");
    const toast = make("div", "toast", [make("p", "", [text]), close]);
    toast.dataset.kind = kind;
    toast.dataset.text = text;
    close.addEventListener("click", () => this.#remove(toast));
    this.#root.append(toast);
    this.#timers.set(toast, setTimeout(() => this.#remove(toast), SHOWN_MS));
  }

  /** @param {HTMLElement} toast */
  #remove(toast) {
    clearTimeout(this.#timers.get(toast));
    this.#timers.delete(toast);
    toast.remove();
  }
}
