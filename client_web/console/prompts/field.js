/**
 * The prompt field: Enter sends, the arrows recall earlier prompts (as in a shell), the star makes the text a
 * favourite, and Ctrl+Enter puts it into the rundown.
 *
 * @module field
 */

import { byId } from "../../shared/dom.js";
import { storage, t } from "../../shared/i18n.js";

const NUM_REMEMBERED = 50;
const STORAGE_KEY = "sceneshift.sent";

/**
 * @typedef {object} FieldHandlers
 * @property {(text: string) => boolean} onSend whether it was sent, so that the field may be emptied
 * @property {(text: string) => void} onPlan into the rundown
 * @property {(text: string) => void} onStar
 * @property {(text: string) => boolean} isFavourite
 * @property {() => void} onEmpty the user asked for one of these with an empty field
 */

export class Field {
  #area = byId("prompt-text", HTMLTextAreaElement);
  #star = byId("star", HTMLButtonElement);
  #handlers;
  /** @type {string[]} oldest first */
  #sent = stored();
  /** The index in `#sent` of the text in the field; the length of `#sent` means the user's draft. */
  #place = this.#sent.length;
  #draft = "";

  /** @param {FieldHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    byId("prompt-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#area.addEventListener("keydown", (event) => this.#pressed(event));
    this.#area.addEventListener("input", () => {
      this.#place = this.#sent.length;
      this.renderStar();
    });
    this.#star.addEventListener("click", () => this.#withText((text) => this.#handlers.onStar(text)));
    byId("plan", HTMLButtonElement).addEventListener("click", () => this.#plan());
  }

  focus() {
    this.#area.focus();
  }

  /** @param {string} text sent from any part of the console; the arrows recall it */
  remember(text) {
    this.#sent = [...this.#sent.filter((each) => each !== text), text].slice(-NUM_REMEMBERED);
    this.#place = this.#sent.length;
    storage()?.setItem(STORAGE_KEY, JSON.stringify(this.#sent));
  }

  renderStar() {
    const isFavourite = this.#handlers.isFavourite(this.#area.value);
    const label = t(isFavourite ? "prompt.unstar" : "prompt.star");
    this.#star.ariaPressed = String(isFavourite);
    this.#star.ariaLabel = label;
    this.#star.title = label;
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    // An input method gets all keys while it composes. Safari ends the composition before the Enter that chose a word;
    // then only the key code 229 remains.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) this.#plan();
      else this.#send();
    } else if (event.key === "ArrowUp" && !isAltered(event) && this.#isAtEdge("up") && this.#place > 0) {
      event.preventDefault();
      if (this.#place === this.#sent.length) this.#draft = this.#area.value;
      this.#recall(this.#place - 1);
    } else if (
      event.key === "ArrowDown" &&
      !isAltered(event) &&
      this.#isAtEdge("down") &&
      this.#place < this.#sent.length
    ) {
      event.preventDefault();
      this.#recall(this.#place + 1);
    }
  }

  /**
   * Within a text of several lines the arrows move the caret first.
   *
   * @param {"up" | "down"} way
   */
  #isAtEdge(way) {
    const { value, selectionStart, selectionEnd } = this.#area;
    return way === "up" ? !value.slice(0, selectionStart).includes("\n") : !value.slice(selectionEnd).includes("\n");
  }

  /** @param {number} place */
  #recall(place) {
    this.#place = place;
    this.#area.value = this.#sent[place] ?? this.#draft;
    this.#area.setSelectionRange(this.#area.value.length, this.#area.value.length);
    this.renderStar();
  }

  #send() {
    this.#withText((text) => {
      if (this.#handlers.onSend(text)) this.#clear();
    });
  }

  #plan() {
    this.#withText((text) => {
      this.#handlers.onPlan(text);
      this.#clear();
    });
  }

  /** @param {(text: string) => void} act */
  #withText(act) {
    if (this.#area.value.trim() === "") this.#handlers.onEmpty();
    else act(this.#area.value);
  }

  #clear() {
    this.#area.value = "";
    this.#draft = "";
    this.#place = this.#sent.length;
    this.renderStar();
  }
}

/** @param {KeyboardEvent} event */
function isAltered(event) {
  return event.shiftKey || event.ctrlKey || event.altKey || event.metaKey;
}

/** @returns {string[]} */
function stored() {
  try {
    const kept = JSON.parse(storage()?.getItem(STORAGE_KEY) ?? "[]");
    if (Array.isArray(kept)) return kept.filter((text) => typeof text === "string").slice(-NUM_REMEMBERED);
  } catch {
    // Edited by hand, or written by another version: nothing to recall.
  }
  return [];
}
