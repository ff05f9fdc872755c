/**
 * Where the program is pushed to: a button that says whether it goes out, and a sheet with a row for each target that the
 * server's operator has named. Loaded when a server names some; without them the button is hidden.
 *
 * @module pushes
 */

import { make, textButton } from "../shared/dom.js";
import { addTexts, t } from "../shared/i18n.js";
import { openSheet } from "./sheets.js";

/** @typedef {import("../sdk/messages.js").ServerMessage} ServerMessage */
/** @typedef {{state: "stopped" | "connecting" | "live" | "failed", detail: string | null}} Standing */

addTexts({
  "push.open": ["Go live", "开播"],
  "push.title": ["Send the program out", "推送节目"],
  "push.note": [
    "The targets are named by whoever runs this server. The program goes out as it is on air, until it is stopped here or the session ends.",
    "推送目标由服务器运营者设定。节目按播出画面推送，直到在此停止或会话结束。",
  ],
  "push.start": ["Start", "开始"],
  "push.stop": ["Stop", "停止"],
  "push.stopped": ["Off", "未推送"],
  "push.connecting": ["Connecting", "连接中"],
  "push.live": ["Live", "直播中"],
  "push.failed": ["Refused", "被拒绝"],
  "push.refused": ["Not live at {target}: {detail}", "未能推送到 {target}：{detail}"],
  "push.live_to": ["Live: {target}", "直播中：{target}"],
  "push.live_to_many": ["Live: {count} targets", "直播中：{count} 个目标"],
});

const OFF = /** @type {Standing} */ (Object.freeze({ state: "stopped", detail: null }));

export class Pushes {
  #button;
  #dialog;
  #ask;
  #callbacks;
  /** @type {Map<string, Standing>} by target, in the operator's order */
  #standings = new Map();
  /** Renders the sheet's rows, while there is one. */
  #renderSheet = () => {};

  /**
   * @param {HTMLButtonElement} button
   * @param {HTMLDialogElement} dialog
   * @param {(target: string, push: boolean) => Promise<ServerMessage>} ask
   * @param {{onError: (error: Error) => void, onFailed: (text: string) => void}} callbacks
   */
  constructor(button, dialog, ask, callbacks) {
    this.#button = button;
    this.#dialog = dialog;
    this.#ask = ask;
    this.#callbacks = callbacks;
    button.addEventListener("click", () => this.#open());
  }

  /**
   * @param {string[]} targets
   * @param {boolean} isResumed whether what was pushed may still be: the server tells of those after this
   */
  setTargets(targets, isResumed) {
    const before = this.#standings;
    this.#standings = new Map(targets.map((target) => [target, (isResumed && before.get(target)) || OFF]));
    this.#button.hidden = targets.length === 0;
    this.render();
  }

  /** @param {ServerMessage} message `push.changed`, asked for or not */
  changed({ target, state, detail }) {
    const before = this.#standings.get(target);
    this.#standings.set(target, { state, detail });
    if (state === "failed" && before?.state !== "failed") this.#callbacks.onFailed(t("push.refused", { target, detail: detail ?? "" }));
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
    const list = make("ul", "push-list", Array.from(rows.values(), (row) => row.element));
    openSheet(this.#dialog, t("push.title"), [list, make("p", "sheet-note", [t("push.note")])]);
    this.#renderSheet();
  }

  /** @param {string} target */
  #row(target) {
    const state = make("p", "push-state");
    state.role = "status";
    const button = textButton("plain", "", () => void this.#toggle(target));
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

  /** @param {string} target */
  async #toggle(target) {
    try {
      this.changed(await this.#ask(target, !isOn(this.#standings.get(target) ?? OFF)));
    } catch (error) {
      this.#callbacks.onError(/** @type {Error} */ (error));
    }
  }
}

/** @param {Standing} standing */
function isOn({ state }) {
  return state === "live" || state === "connecting";
}

/**
 * What the button says.
 *
 * @param {string[]} live
 * @param {boolean} isConnecting
 */
function summary(live, isConnecting) {
  if (isConnecting) return t("push.connecting");
  if (live.length === 0) return t("push.open");
  return live.length === 1 ? t("push.live_to", { target: live[0] }) : t("push.live_to_many", { count: live.length });
}
