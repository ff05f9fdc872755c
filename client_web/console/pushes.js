/**
 * The pushes of the program: a button that shows whether one is live, and a sheet with a row for each target that the
 * server's operator has named. Hidden without targets.
 *
 * @module pushes
 */

import { byId, make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { openSheet } from "./sheets.js";

/** @typedef {import("../sdk/session.js").Session} Session */
/** @typedef {import("../sdk/types.js").ServerMessage} ServerMessage */
/** @typedef {{state: "stopped" | "connecting" | "live" | "failed", detail: string | null}} Standing */

const OFF = /** @type {Standing} */ (Object.freeze({ state: "stopped", detail: null }));

export class Pushes {
  #button = byId("pushes", HTMLButtonElement);
  #dialog;
  /** @type {Session | null} */
  #session = null;
  #callbacks;
  /** @type {Map<string, Standing>} by target, in the operator's order */
  #standings = new Map();
  /** Renders the rows of the open sheet. */
  #renderSheet = () => {};

  /**
   * @param {HTMLDialogElement} dialog
   * @param {{onError: (error: Error) => void, onFailed: (text: string) => void}} callbacks
   */
  constructor(dialog, callbacks) {
    this.#dialog = dialog;
    this.#callbacks = callbacks;
    this.#button.addEventListener("click", () => this.#open());
  }

  /** @param {Session} session */
  follow(session) {
    this.#session = session;
    session.on("session", ({ isResumed, created }) => this.#setTargets(created.push_targets ?? [], isResumed));
    session.on("push.changed", (message) => this.#changed(message));
  }

  /**
   * @param {string[]} targets
   * @param {boolean} isResumed true: pushes may still run, and their states stay until the server reports new ones
   */
  #setTargets(targets, isResumed) {
    const before = this.#standings;
    this.#standings = new Map(targets.map((target) => [target, (isResumed && before.get(target)) || OFF]));
    this.#button.hidden = targets.length === 0;
    this.render();
  }

  /** @param {ServerMessage} message `push.changed`, requested or not */
  #changed({ target, state, detail }) {
    const before = this.#standings.get(target);
    this.#standings.set(target, { state, detail });
    if (state === "failed" && before?.state !== "failed")
      this.#callbacks.onFailed(t("push.refused", { target, detail: detail ?? "" }));
    this.render();
  }

  render() {
    const targets = Array.from(this.#standings.keys());
    const live = targets.filter((target) => this.#standings.get(target)?.state === "live");
    const isConnecting = targets.some((target) => this.#standings.get(target)?.state === "connecting");
    const text = make("span", "", [summary(live, isConnecting)]);
    this.#button.replaceChildren(...(live.length > 0 ? [make("span", "live-dot"), text] : [text]));
    this.#button.dataset.state = isConnecting ? "connecting" : live.length > 0 ? "live" : "stopped";
    this.#renderSheet();
  }

  #open() {
    const rows = new Map(Array.from(this.#standings.keys(), (target) => [target, this.#row(target)]));
    this.#renderSheet = () => {
      for (const [target, row] of rows) row.render(this.#standings.get(target) ?? OFF);
    };
    const list = make(
      "ul",
      "push-list",
      Array.from(rows.values(), (row) => row.element),
    );
    openSheet(this.#dialog, t("push.title"), [list, make("p", "sheet-note", [t("push.note")])]);
    this.#renderSheet();
  }

  /** @param {string} target */
  #row(target) {
    const state = make("p", "push-state");
    state.role = "status";
    const button = textButton("plain", "", () => {
      this.#session?.push(target, !isOn(this.#standings.get(target) ?? OFF)).catch(this.#callbacks.onError);
    });
    const name = make("p", "push-name", [target]);
    /** @param {Standing} standing */
    const render = (standing) => {
      state.textContent = [t(`push.${standing.state}`), standing.detail].filter(Boolean).join(": ");
      state.dataset.state = standing.state;
      button.textContent = t(isOn(standing) ? "push.stop" : "push.start");
      button.ariaLabel = `${button.textContent}: ${target}`;
    };
    return { element: make("li", "push-row", [make("div", "", [name, state]), button]), render };
  }
}

/** @param {Standing} standing */
function isOn({ state }) {
  return state === "live" || state === "connecting";
}

/**
 * The button's text.
 *
 * @param {string[]} live
 * @param {boolean} isConnecting
 */
function summary(live, isConnecting) {
  if (isConnecting) return t("push.connecting");
  if (live.length === 0) return t("push.open");
  return live.length === 1 ? t("push.live_to", { target: live[0] }) : t("push.live_to_many", { count: live.length });
}
