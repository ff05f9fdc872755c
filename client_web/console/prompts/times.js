/**
 * The latency panel: prompt to preview and prompt to picture of the last prompt, at this screen and at the server, and
 * where the time went.
 *
 * @module times
 */

import { byId, make } from "../../shared/dom.js";
import { duration, t } from "../../shared/i18n.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */
/** @typedef {import("../../sdk/messages.js").PromptTimings} PromptTimings */

const PARTS = /** @type {const} */ (["queued", "text", "denoised", "previewed", "decoded", "composed", "encoded"]);

// A part with a smaller share of the bar has no word under it.
const SMALLEST_SHARE = 0.02;

/** @param {PromptTimings} timings */
function partsOf(timings) {
  const parts = PARTS.map((name) => ({ name: /** @type {string} */ (name), ms: timings[`${name}_ms`] }));
  const rest = timings.total_ms - parts.reduce((sum, part) => sum + part.ms, 0);
  return [...parts, { name: "other", ms: rest }].filter((part) => part.ms >= 1);
}

export class Times {
  #preview = byId("time-preview", HTMLElement);
  #picture = byId("time-picture", HTMLElement);
  #where = byId("where", HTMLElement);
  /** @type {Prompt | null} */
  #prompt = null;

  /** @param {Prompt | null} prompt */
  show(prompt) {
    this.#prompt = prompt;
    this.render();
  }

  render() {
    renderTime(this.#preview, this.#prompt, "preview");
    renderTime(this.#picture, this.#prompt, "picture");
    const timings = this.#prompt?.timings ?? null;
    if (timings === null) this.#where.replaceChildren(make("p", "times-none", [this.#prompt ? "" : t("times.none")]));
    else this.#where.replaceChildren(make("div", "", [bar(timings), legend(timings)]));
  }
}

/**
 * @param {HTMLElement} holder
 * @param {Prompt | null} prompt
 * @param {"preview" | "picture"} kind
 */
function renderTime(holder, prompt, kind) {
  const glass = prompt?.atGlassMs[kind] ?? null;
  const server = prompt?.atServerMs[kind] ?? null;
  const shown = glass ?? server;
  const label = make("span", "time-label", [t(`times.${kind}`)]);
  const value = make("strong", "time-value", [shown === null ? "–" : duration(shown)]);
  holder.replaceChildren(label, value);
  const detail = [];
  if (glass !== null) detail.push(t("times.glass"));
  if (server !== null) detail.push(t("times.server", { time: duration(server) }));
  holder.append(make("span", "time-detail", [detail.join(" · ")]));
}

/** @param {PromptTimings} timings */
function bar(timings) {
  const parts = partsOf(timings).map((part) => {
    const piece = make("span", "where-part");
    piece.dataset.part = part.name;
    piece.style.flexGrow = String(part.ms);
    return piece;
  });
  const element = make("div", "where-bar", parts);
  element.ariaHidden = "true";
  return element;
}

/** @param {PromptTimings} timings */
function legend(timings) {
  const seen = partsOf(timings).filter((part) => part.ms >= timings.total_ms * SMALLEST_SHARE);
  const items = seen.map((part) => {
    const item = make("li", "where-item", [t(`times.${part.name}`), " ", make("b", "", [duration(part.ms)])]);
    item.dataset.part = part.name;
    return item;
  });
  const list = make("ul", "where-legend", items);
  list.ariaLabel = t("times.where");
  return list;
}
