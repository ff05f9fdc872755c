/**
 * A plot of the last five minutes: each prompt's time to its preview and its picture, and below them the frames that
 * were due but not sent. Drawn once a second while it is visible. Prompts come from `prompts.js`.
 *
 * @module plot
 */

import { byId, make, makeSvg } from "../../shared/dom.js";
import { duration, t } from "../../shared/i18n.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */
/** @typedef {import("../../sdk/messages.js").Stats} Stats */

const SPAN_MS = 300_000;
const LEFT = 34;
const FOOT = 40;
const TOP = 8;
// Below the dots: the share of frames that were sent, second by second.
const PLAY_HEIGHT = 14;

export class Plot {
  #root = byId("plot", HTMLElement);
  #legend = byId("plot-legend", HTMLElement);
  /** @type {{at: number, ratio: number}[]} one a second, bounded by the span */
  #played = [];
  /** @type {Stats | null} */
  #latest = null;
  /** @type {Prompt[]} */
  #prompts = [];

  /**
   * @param {Stats} stats
   * @param {number} now on the clock of `performance.now()`
   */
  setStats(stats, now) {
    const before = this.#latest;
    this.#latest = stats;
    // A new session counts from zero.
    const isSameSession = before !== null && stats.frames_due >= before.frames_due;
    const due = stats.frames_due - (isSameSession ? before.frames_due : 0);
    const sent = stats.frames_sent - (isSameSession ? before.frames_sent : 0);
    if (due > 0) this.#played.push({ at: now, ratio: Math.min(1, Math.max(0, sent / due)) });
    while (this.#played.length > 0 && this.#played[0].at < now - SPAN_MS) this.#played.shift();
    this.draw(now);
  }

  /** @param {Prompt[]} prompts in any order; drawn with the next statistics */
  show(prompts) {
    this.#prompts = prompts;
  }

  render() {
    const of = (/** @type {string} */ name) => make("span", `of-${name}`, [t(`plot.${name}`)]);
    this.#legend.replaceChildren(of("preview"), of("picture"), of("gap"));
    this.draw(performance.now());
  }

  /** @param {number} now */
  draw(now) {
    if (document.visibilityState === "hidden") return;
    const { clientWidth: width, clientHeight: height } = this.#root;
    if (width === 0) return;
    const prompts = this.#prompts.filter((prompt) => prompt.sentAt > now - SPAN_MS);
    const longest = niceAbove(
      Math.max(1000, ...prompts.map((prompt) => waitOf(prompt, "picture") ?? waitOf(prompt, "preview") ?? 0)),
    );
    const x = (/** @type {number} */ at) => LEFT + (1 - (now - at) / SPAN_MS) * (width - LEFT - 6);
    const floor = height - FOOT;
    const y = (/** @type {number} */ ms) => floor - (ms / longest) * (floor - TOP);
    const svg = makeSvg("svg", { role: "img", "aria-label": this.#summary(prompts) }, [
      ...frame(width, longest, y),
      ...prompts.flatMap((prompt) => mark(prompt, x(prompt.sentAt), y)),
      ...this.#play(x, floor + 6),
    ]);
    this.#root.replaceChildren(svg);
  }

  /**
   * @param {(at: number) => number} x
   * @param {number} top
   */
  #play(x, top) {
    if (this.#played.length === 0) return [];
    const lost = this.#played.filter((second) => second.ratio < 0.999);
    return [
      makeSvg("path", {
        class: "played",
        d: `M${x(this.#played[0].at)} ${top + PLAY_HEIGHT}H${x(this.#played[this.#played.length - 1].at)}`,
      }),
      ...lost.map(({ at, ratio }) =>
        makeSvg("path", {
          class: "missed",
          d: `M${x(at)} ${top + PLAY_HEIGHT}v${-Math.max(4, (1 - ratio) * PLAY_HEIGHT)}`,
        }),
      ),
    ];
  }

  /** @param {Prompt[]} prompts */
  #summary(prompts) {
    const waits = prompts
      .map((prompt) => waitOf(prompt, "picture"))
      .filter((ms) => ms !== null)
      .sort((a, b) => a - b);
    const median = waits.length === 0 ? "–" : duration(waits[Math.floor(waits.length / 2)]);
    const gaps = this.#played.filter((second) => second.ratio < 0.999).length;
    return t("plot.summary", { prompts: prompts.length, median, gaps });
  }
}

/**
 * Grid lines and their numbers.
 *
 * @param {number} width
 * @param {number} longest
 * @param {(ms: number) => number} y
 */
function frame(width, longest, y) {
  return [0, longest / 2, longest].flatMap((ms) => [
    makeSvg("path", { class: "grid", d: `M${LEFT} ${y(ms)}H${width - 6}` }),
    makeSvg("text", { x: LEFT - 6, y: y(ms) + 4, "text-anchor": "end" }, [`${ms / 1000} s`]),
  ]);
}

/**
 * @param {Prompt} prompt
 * @param {number} x
 * @param {(ms: number) => number} y
 */
function mark(prompt, x, y) {
  const preview = waitOf(prompt, "preview");
  const picture = waitOf(prompt, "picture");
  const parts = [];
  if (preview !== null && picture !== null)
    parts.push(makeSvg("path", { class: "wait", d: `M${x} ${y(preview)}V${y(picture)}` }));
  if (preview !== null) parts.push(makeSvg("circle", { class: "dot-preview", cx: x, cy: y(preview), r: 3 }));
  if (picture !== null) parts.push(makeSvg("circle", { class: "dot-picture", cx: x, cy: y(picture), r: 4 }));
  if (prompt.error !== null)
    parts.push(makeSvg("path", { class: "dot-failed", d: `M${x - 3} ${y(0) - 7}l6 6m0-6l-6 6` }));
  return parts;
}

/**
 * The time at this screen, else at the server.
 *
 * @param {Prompt} prompt
 * @param {"preview" | "picture"} kind
 */
function waitOf(prompt, kind) {
  return prompt.atGlassMs[kind] ?? prompt.atServerMs[kind];
}

/** @param {number} ms */
function niceAbove(ms) {
  const power = 10 ** Math.floor(Math.log10(ms));
  return [1, 2, 4, 6, 10].map((step) => step * power).find((nice) => nice >= ms) ?? ms;
}
