/**
 * The list of this page's prompts, newest first, with their ends and times. An unfolded row shows its prompt's whole
 * life. A click sends the prompt again.
 *
 * @module history
 */

import { icon, iconButton, make, textButton } from "../../shared/dom.js";
import { duration, hasText, t } from "../../shared/i18n.js";
import { sharpestPicture } from "./prompts.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */

/**
 * @typedef {object} HistoryHandlers
 * @property {(text: string) => void} onAgain
 * @property {(text: string) => void} onStar
 * @property {(text: string) => void} onPlan into the rundown
 * @property {(seed: number) => void} onLock
 * @property {(text: string) => boolean} isFavourite
 */

export class History {
  #list;
  #handlers;
  /** @type {Set<string>} prompts whose rows are unfolded */
  #unfolded = new Set();
  /** @type {string | null} */
  #onAirId = null;
  /** @type {Prompt[]} */
  #prompts = [];

  /**
   * @param {HTMLElement} list an `<ol>`
   * @param {HistoryHandlers} handlers
   */
  constructor(list, handlers) {
    this.#list = list;
    this.#handlers = handlers;
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
      this.#list.replaceChildren(make("li", "list-empty", [t("history.empty")]));
      return;
    }
    // Rows are reused, so that a click or the focus on one survives the messages that arrive meanwhile.
    const rows = this.#prompts.map((prompt) => this.#row(prompt));
    const isSame =
      rows.length === this.#list.childElementCount && rows.every((row, i) => row === this.#list.children[i]);
    if (!isSame) this.#list.replaceChildren(...rows);
  }

  /** @param {Prompt} prompt */
  #row(prompt) {
    const kept = Array.from(this.#list.children).find(
      (row) => /** @type {HTMLElement} */ (row).dataset.promptId === prompt.promptId,
    );
    const row = /** @type {HTMLElement} */ (kept ?? this.#newRow(prompt));
    const state = prompt.promptId === this.#onAirId && prompt.state === "applied" ? "on_air" : prompt.state;
    row.dataset.state = state;
    const [picture, body] = /** @type {HTMLElement[]} */ (
      Array.from(row.querySelectorAll(".history-picture, .history-body"))
    );
    renderPicture(picture, sharpestPicture(prompt));
    const [, meta] = /** @type {HTMLElement[]} */ (Array.from(body.children));
    meta.replaceChildren(make("span", "badge", [t(`prompt.state.${state}`)]), ...marks(prompt), ...times(prompt));
    const label = t("history.again", { text: prompt.text });
    row.querySelector(".history-button")?.setAttribute("aria-label", `${label} (${t(`prompt.state.${state}`)})`);
    this.#renderTools(row, prompt);
    return row;
  }

  /** @param {Prompt} prompt */
  #newRow(prompt) {
    const picture = make("span", "history-picture", [make("img", "")]);
    const body = make("span", "history-body", [
      make("span", "history-text", [prompt.text]),
      make("span", "history-meta"),
    ]);
    const button = make("button", "history-button", [picture, body]);
    button.type = "button";
    button.addEventListener("click", () => this.#handlers.onAgain(prompt.text));
    const star = iconButton("small-button", icon("star"), "", () => this.#handlers.onStar(prompt.text));
    const plan = iconButton("small-button", icon("plan"), "", () => this.#handlers.onPlan(prompt.text));
    const unfold = iconButton("small-button", icon("down"), "", () => this.#unfold(row, prompt));
    const life = make("ol", "life");
    const row = make("li", "history-row", [
      make("div", "history-line", [button, make("span", "row-buttons", [star, plan, unfold])]),
      life,
    ]);
    row.dataset.promptId = prompt.promptId;
    return row;
  }

  /**
   * @param {HTMLElement} row
   * @param {Prompt} prompt
   */
  #renderTools(row, prompt) {
    const [star, plan, unfold] = /** @type {HTMLElement[]} */ (Array.from(row.querySelectorAll(".row-buttons button")));
    const isFavourite = this.#handlers.isFavourite(prompt.text);
    star.ariaPressed = String(isFavourite);
    name(star, t(isFavourite ? "favourites.remove" : "history.star", { text: prompt.text }));
    name(plan, t("history.plan", { text: prompt.text }));
    name(unfold, t("history.life", { text: prompt.text }));
    const isUnfolded = this.#unfolded.has(prompt.promptId);
    unfold.ariaExpanded = String(isUnfolded);
    const life = /** @type {HTMLElement} */ (row.lastElementChild);
    life.hidden = !isUnfolded;
    if (isUnfolded) life.replaceChildren(...this.#life(prompt));
  }

  /**
   * @param {HTMLElement} row
   * @param {Prompt} prompt
   */
  #unfold(row, prompt) {
    if (!this.#unfolded.delete(prompt.promptId)) this.#unfolded.add(prompt.promptId);
    this.#renderTools(row, prompt);
  }

  /** @param {Prompt} prompt */
  #life(prompt) {
    return prompt.life.map((moment) => {
      const what = make("span", "life-what", [words(moment, prompt)]);
      if (moment.what === "accepted" && prompt.seed !== null) {
        const { seed } = prompt;
        what.append(
          " · ",
          textButton("life-seed", t("life.seed", { seed }), () => this.#handlers.onLock(seed)),
        );
      }
      return make("li", "", [make("span", "life-time", [duration(Math.max(0, moment.atMs))]), what]);
    });
  }
}

/**
 * @param {import("./prompts.js").Moment} moment
 * @param {Prompt} prompt
 */
function words(moment, prompt) {
  switch (moment.what) {
    case "step":
      return t("life.step", { done: moment.count ?? 0, total: prompt.numSteps });
    case "started":
      return t(prompt.isReused ? "life.reused" : "life.started", { steps: prompt.numSteps });
    case "superseded":
      return prompt.supersededBy === null
        ? t("life.superseded")
        : t("life.superseded_by", { text: prompt.supersededBy });
    case "rejected":
    case "failed":
      return `${t(`life.${moment.what}`)}: ${errorText(prompt)}`;
    default:
      return t(`life.${moment.what}`);
  }
}

/** @param {Prompt} prompt */
function errorText(prompt) {
  const key = `error.${prompt.error?.code}`;
  return hasText(key) ? t(key) : (prompt.error?.message ?? "");
}

/**
 * @param {HTMLElement} button
 * @param {string} label
 */
function name(button, label) {
  button.ariaLabel = label;
  button.title = label;
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
 * Tags for a clip that was reused or degraded.
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
  const span = make("span", `mark tag${kind === "degraded" ? " tag-caution" : ""}`, [t(`history.${kind}`)]);
  span.title = hint;
  return span;
}

/**
 * The times at this screen, else those at the server.
 *
 * @param {Prompt} prompt
 */
function times(prompt) {
  const preview = prompt.atGlassMs.preview ?? prompt.atServerMs.preview;
  const picture = prompt.atGlassMs.picture ?? prompt.atServerMs.picture;
  const shown = [];
  // The column is narrow, and the unfolded row has the preview's time.
  if (preview !== null && picture === null)
    shown.push(make("span", "history-time", [t("history.preview", { time: duration(preview) })]));
  if (picture !== null) shown.push(make("span", "history-time", [t("history.picture", { time: duration(picture) })]));
  if (prompt.error !== null) shown.push(make("span", "history-error", [errorText(prompt)]));
  return shown;
}
