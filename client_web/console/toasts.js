/**
 * Short notes at the edge of the page. Each disappears by itself or at a click, and may offer an action.
 *
 * @module toasts
 */

import { byId, make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

const NUM_AT_MOST = 3;
// Errors and notes with an action stay longer than plain notes.
const SHOWN_MS = 7000;
const NOTE_SHOWN_MS = 4000;

export class Toasts {
  #root = byId("toasts", HTMLElement);
  /** @type {Map<HTMLElement, ReturnType<typeof setTimeout>>} */
  #timers = new Map();

  /**
   * @param {string} text
   * @param {"error" | "note"} kind
   * @param {{label: string, onAct: () => void}} [action]
   */
  show(text, kind, action) {
    if (text === "") return; // the language is not loaded yet
    const kept = Array.from(this.#timers.keys()).find((toast) => toast.dataset.text === text);
    if (kept !== undefined) this.#remove(kept);
    while (this.#timers.size >= NUM_AT_MOST)
      this.#remove(/** @type {HTMLElement} */ (this.#timers.keys().next().value));
    const close = textButton("toast-close", "×", () => this.#remove(toast));
    close.ariaLabel = t("toast.close");
    const toast = make("div", "toast", [make("p", "", [text])]);
    if (action !== undefined) {
      const act = () => {
        this.#remove(toast);
        action.onAct();
      };
      toast.append(textButton("plain", action.label, act));
    }
    toast.append(close);
    toast.dataset.kind = kind;
    toast.dataset.text = text;
    this.#root.append(toast);
    this.#timers.set(
      toast,
      setTimeout(() => this.#remove(toast), kind === "note" && action === undefined ? NOTE_SHOWN_MS : SHOWN_MS),
    );
  }

  /** @param {HTMLElement} toast */
  #remove(toast) {
    clearTimeout(this.#timers.get(toast));
    this.#timers.delete(toast);
    toast.remove();
  }
}
