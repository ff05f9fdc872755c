/**
 * Tells the user what the server refused. If it refused an option at the start, resets the option and starts again. If
 * it refused the token, asks for another one.
 *
 * @module refusals
 */

import { RequestError } from "../sdk/errors.js";
import { byId } from "../shared/dom.js";
import { hasText, t } from "../shared/i18n.js";
import { keepToken, listenForToken } from "../shared/token.js";
import { askForToken } from "./sheets.js";

/** @typedef {{code: string, message: string, param?: string | null}} Detail */

export class Refusals {
  #address;
  #stageName;
  #options;
  #toasts;
  #sheet = byId("sheet", HTMLDialogElement);
  /** @type {import("../sdk/session.js").Session | null} */
  #session = null;
  /** Whether the option refused at the start has been reset, so that another start may succeed. */
  #mayStartAgain = false;

  /**
   * @param {import("../sdk/address.js").Address} address
   * @param {import("./stage_name.js").StageName} stageName
   * @param {import("./options.js").Options} options
   * @param {import("./toasts.js").Toasts} toasts
   */
  constructor(address, stageName, options, toasts) {
    this.#address = address;
    this.#stageName = stageName;
    this.#options = options;
    this.#toasts = toasts;
    listenForToken((token) => this.#useToken(token));
  }

  /** @param {import("../sdk/session.js").Session} session */
  follow(session) {
    this.#session = session;
    session.on("error", (error) => {
      // The browser may have stored an option for another model. It must not keep the console from starting.
      if (session.state !== "live" && error instanceof RequestError) this.#mayStartAgain = this.#giveUp(error.detail);
    });
    session.on("state", (state) => {
      if (state !== "refused" || !this.#mayStartAgain) return;
      this.#mayStartAgain = false;
      session.retry();
    });
  }

  /** @param {Detail} detail of an error of the protocol */
  tell({ code, message, param }) {
    if (isOldServer({ code, message, param })) return;
    if (code === "unauthorized") {
      this.#askForToken();
      return;
    }
    const key = code === "name_taken" ? "share.taken" : `error.${code}`;
    this.#toasts.show(hasText(key) ? t(key, { name: this.#stageName.value }) : message, "error");
  }

  #askForToken() {
    askForToken(this.#sheet, (token) => {
      keepToken(token);
      this.#useToken(token);
    });
  }

  /** @param {string} token also of another tab of this browser */
  #useToken(token) {
    this.#address.token = token;
    if (this.#session?.state !== "refused") return;
    this.#sheet.close();
    this.#session.retry();
  }

  /**
   * @param {Detail} detail
   * @returns {boolean} whether another start may succeed
   */
  #giveUp(detail) {
    if (detail.code === "name_taken") this.#stageName.avoid();
    else if (isOldServer(detail)) this.#stageName.giveUp();
    else return this.#options.giveUp(detail.param);
    return true;
  }
}

/** Whether the server does not know stage names; the console then works without. @param {Detail} detail */
const isOldServer = ({ code, param }) => code === "unknown_field" && param === "name";
