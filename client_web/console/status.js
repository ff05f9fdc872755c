/**
 * Shows the state of the connection and of the engine, and the statistics.
 *
 * @module status
 */

import { byId, make } from "../shared/dom.js";
import { hasText, t } from "../shared/i18n.js";
import { Usage } from "../shared/usage.js";

/** @typedef {import("../sdk/messages.js").Stats} Stats */

export class Status {
  #connection = byId("connection", HTMLElement);
  #engine = byId("engine", HTMLElement);
  #stats = byId("stats", HTMLElement);
  #connectionState = "connecting";
  /** @type {{position: number, waitMs: number | null}} */
  #queue = { position: 0, waitMs: null };
  #engineState = "unknown";
  #modelName = "";
  /** @type {Stats | null} */
  #latest = null;
  #presentedFrames = 0;
  #countedFrames = { frames: 0, at: 0 };
  #shownFrameRate = 0;
  #usage;

  /** @param {import("../sdk/address.js").Address} address */
  constructor(address) {
    this.#usage = new Usage(address, () => this.render());
  }

  /** @param {import("../sdk/session.js").Session} session */
  follow(session) {
    session.on("state", (state) => this.#setConnection(state));
    session.on("queued", ({ position, estimated_wait_ms: waitMs }) => this.#setQueue(position, waitMs));
    session.on("stats.updated", (stats) => this.#setStats(stats));
    this.#usage.follow(session);
    session.viewer?.on("frame", ({ presentedFrames }) => (this.#presentedFrames = presentedFrames));
  }

  /** @param {string} state */
  #setConnection(state) {
    this.#connectionState = state;
    if (state !== "live") {
      this.#latest = null;
      this.#engineState = "unknown";
    }
    this.render();
  }

  /**
   * @param {number} position
   * @param {number | null} waitMs
   */
  #setQueue(position, waitMs) {
    this.#queue = { position, waitMs };
    this.render();
  }

  /** @param {string} state */
  setEngine(state) {
    if (state === this.#engineState) return;
    this.#engineState = state;
    this.render();
  }

  /** @param {string} name */
  setModel(name) {
    this.#modelName = name;
    this.render();
  }

  /** @param {Stats} latest */
  #setStats(latest) {
    this.#latest = latest;
    this.#shownFrameRate = this.#rateSinceLast(performance.now());
    this.#engineState = latest.engine;
    this.render();
  }

  render() {
    setChip(this.#connection, this.#connectionState, this.#connectionText());
    const key = `engine.${this.#engineState}`;
    setChip(this.#engine, this.#engineState, hasText(key) ? t(key) : this.#engineState);
    this.#engine.hidden = this.#connectionState !== "live";
    this.#stats.replaceChildren(...this.#lines().map(([label, value]) => statistic(label, value)));
  }

  /** @param {number} now */
  #rateSinceLast(now) {
    const { frames, at } = this.#countedFrames;
    this.#countedFrames = { frames: this.#presentedFrames, at: now };
    return at === 0 ? 0 : Math.max(0, ((this.#presentedFrames - frames) * 1000) / (now - at));
  }

  #connectionText() {
    const { position, waitMs } = this.#queue;
    if (this.#connectionState !== "queued") return t(`connection.${this.#connectionState}`);
    if (waitMs === null) return t("connection.queued", { position });
    return t("connection.queued_for", { position, minutes: Math.max(1, Math.round(waitMs / 60_000)) });
  }

  /** @returns {[string, string][]} */
  #lines() {
    const latest = this.#latest;
    /** @type {[string, string][]} */
    const lines = [
      [t("stats.sent"), latest === null ? "–" : `${latest.sent_frame_rate.toFixed(0)} fps`],
      [t("stats.shown"), latest === null ? "–" : `${this.#shownFrameRate.toFixed(0)} fps`],
      [t("stats.play_ratio"), latest === null ? "–" : percent(latest.continuous_play_ratio)],
      [t("stats.drops"), latest === null ? "–" : String(Math.max(0, latest.frames_due - latest.frames_sent))],
      [t("stats.max_gap"), latest === null ? "–" : `${latest.max_gap_ms.toFixed(0)} ms`],
      [t("stats.bitrate"), latest === null ? "–" : `${(latest.bitrate / 1e6).toFixed(1)} Mbit/s`],
      [t("stats.viewers"), latest === null ? "–" : String(latest.viewers)],
    ];
    if (this.#modelName !== "") lines.push([t("stats.model"), this.#modelName]);
    return [...lines, ...this.#usage.lines];
  }
}

/**
 * Rounds down, so that 99.996 % is not shown as 100 %.
 *
 * @param {number} ratio
 */
function percent(ratio) {
  return ratio >= 1 ? "100 %" : `${(Math.floor(ratio * 10000) / 100).toFixed(2)} %`;
}

/**
 * Changes the text only when it differs, so that the live region does not repeat itself.
 *
 * @param {HTMLElement} chip
 * @param {string} state
 * @param {string} text
 */
function setChip(chip, state, text) {
  chip.dataset.state = state;
  if (chip.textContent !== text) chip.textContent = text;
}

/**
 * @param {string} label
 * @param {string} value
 */
function statistic(label, value) {
  return make("div", "statistic", [make("dt", "", [label]), make("dd", "", [value])]);
}
