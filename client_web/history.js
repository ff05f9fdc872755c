/**
 * The rundown: every prompt of this page, newest first, with its end and its times; a click fires it again.
 *
 * @module history
 */

import { make } from "./dom.js";
import { duration, t } from "./i18n.js";
import { PromptState, sharpestPicture } from "./prompts.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */

export class History {
  #list;
  #onAgain;
  /** @type {string | null} */
  #onAirId = null;
  /** @type {Prompt[]} */
  #prompts = [];

  /**
   * @param {HTMLElement} list an `<ol>`
   * @param {(text: string) => void} onAgain
   */
  constructor(list, onAgain) {
    this.#list = list;
    this.#onAgain = onAgain;
  }

  /**
   * @param {Prompt[]} newestFirst
   * @param {string | null} onAirId
   */
  show(newestFirst, onAirId) {
    this.#prompts = newestFirst;
    this.#onAirId = onAirId;
    this.render();
  }

  render() {
    if (this.#prompts.length === 0) {
      this.#list.replaceChildren(make("li", "history-empty", [t("history.empty")]));
      return;
    }
    // Rows are kept, so that a click or a focus on one survives the receipts that arrive meanwhile.
    const rows = this.#prompts.map((prompt) => this.#row(prompt));
    const isSame = rows.length === this.#list.childElementCount && rows.every((row, i) => row === this.#list.children[i]);
    if (!isSame) this.#list.replaceChildren(...rows);
  }

  /** @param {Prompt} prompt */
  #row(prompt) {
    const kept = Array.from(this.#list.children).find(
      (row) => /** @type {HTMLElement} */ (row).dataset.promptId === prompt.promptId,
    );
    const row = /** @type {HTMLElement} */ (kept ?? this.#newRow(prompt));
    const state = prompt.promptId === this.#onAirId && prompt.state === PromptState.APPLIED ? "on_air" : prompt.state;
    row.dataset.state = state;
    const [picture, body] = /** @type {HTMLElement[]} */ (Array.from(row.querySelectorAll(".history-picture, .history-body")));
    renderPicture(picture, sharpestPicture(prompt));
    const [, meta] = /** @type {HTMLElement[]} */ (Array.from(body.children));
    meta.replaceChildren(make("span", "badge", [t(`prompt.state.${state}`)]), ...marks(prompt), ...times(prompt));
    const label = t("history.again", { text: prompt.text });
    row.firstElementChild?.setAttribute("aria-label", `${label} (${t(`prompt.state.${state}`)})`);
    return row;
  }

  /** @param {Prompt} prompt */
  #newRow(prompt) {
    const picture = make("span", "history-picture", [make("img", "")]);
    const body = make("span", "history-body", [make("span", "history-text", [prompt.text]), make("span", "history-meta")]);
    const button = make("button", "history-button", [picture, body]);
    button.type = "button";
    button.addEventListener("click", () => this.#onAgain(prompt.text));
    const row = make("li", "history-row", [button]);
    row.dataset.promptId = prompt.promptId;
    return row;
  }
}

/**
 * @param {HTMLElement} holder
 * @param {string | null} source
 */
function renderPicture(holder, source) {
  const picture = /** @type {HTMLImageElement} */ (holder.firstElementChild);
  picture.alt = "";
  picture.hidden = source === null;
  if (source !== null && picture.src !== source) picture.src = source;
}

/**
 * How its clip was made, where that is worth knowing.
 *
 * @param {Prompt} prompt
 */
function marks(prompt) {
  const shown = [];
  if (prompt.isReused) shown.push(mark("reused", t("history.reused.hint")));
  if (prompt.degraded.length > 0) shown.push(mark("degraded", prompt.degraded.join(", ").replaceAll("_", " ")));
  return shown;
}

/**
 * @param {"reused" | "degraded"} kind
 * @param {string} hint
 */
function mark(kind, hint) {
  const span = make("span", `mark mark-${kind}`, [t(`history.${kind}`)]);
  span.title = hint;
  return span;
}

/**
 * The times at the glass, else those of the server.
 *
 * @param {Prompt} prompt
 */
function times(prompt) {
  const preview = prompt.atGlassMs.preview ?? prompt.atServerMs.preview;
  const picture = prompt.atGlassMs.picture ?? prompt.atServerMs.picture;
  const shown = [];
  if (preview !== null) shown.push(make("span", "history-time", [t("history.preview", { time: duration(preview) })]));
  if (picture !== null) shown.push(make("span", "history-time", [t("history.picture", { time: duration(picture) })]));
  if (prompt.error !== null) shown.push(make("span", "history-error", [prompt.error.message]));
  return shown;
}
