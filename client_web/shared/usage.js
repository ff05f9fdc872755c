/**
 * What the page's key has spent of its engine seconds today, for the statistics. Asks the server when a session begins
 * and when a prompt ends. With a client secret, or on a server whose key has neither name nor limit, there is nothing.
 *
 * @module usage
 */

import { t } from "./i18n.js";

/** @typedef {{name: string, tenant: string, limits: {engine_s?: number}, days: {day: string, engine_s: number}[]}} Used */

/** Ends of a prompt after which more, or less, may be left. */
const ENDS = /** @type {const} */ (["prompt.applied", "prompt.superseded", "prompt.rejected", "prompt.failed"]);
/** The keys without a name of their own: nobody's, and the server's. */
const UNNAMED = ["", "main"];

export class Usage {
  #address;
  #onChange;
  /** @type {{spentS: number, limitS: number | undefined} | null} */
  #today = null;
  #isAsking = false;
  #mayAsk = true;

  /**
   * @param {import("../sdk/address.js").Address} address
   * @param {() => void} onChange
   */
  constructor(address, onChange) {
    this.#address = address;
    this.#onChange = onChange;
  }

  /** @param {import("../sdk/session.js").Session} session */
  follow(session) {
    session.on("session", () => void this.#ask());
    for (const end of ENDS) session.on(end, () => void this.#ask());
  }

  /** @returns {[string, string][]} a line of the statistics, or none */
  get lines() {
    if (this.#today === null) return [];
    const { spentS, limitS } = this.#today;
    const spent = Math.round(spentS);
    const value =
      limitS === undefined ? t("stats.seconds", { spent }) : t("stats.of_seconds", { spent, limit: limitS });
    return [[t("stats.engine_today"), value]];
  }

  async #ask() {
    if (this.#isAsking || !this.#mayAsk) return;
    this.#isAsking = true;
    try {
      const answer = await fetch(this.#address.http("/v1/usage?days=1"), { headers: this.#address.headers });
      // A client secret does not see it, and an older server does not have it.
      if (answer.status === 403 || answer.status === 404) this.#mayAsk = false;
      if (answer.ok) this.#show(await answer.json());
    } catch (error) {
      // The connection's chip tells of a lost server, and the next prompt asks again.
      console.warn("usage:", /** @type {Error} */ (error).message);
    } finally {
      this.#isAsking = false;
    }
  }

  /** @param {{data: Used[]}} answer */
  #show({ data: [used, ...others] }) {
    // An operator's key sees those of all; its own needs no line.
    const isOwn = used !== undefined && others.length === 0;
    const hasLine = isOwn && (used.limits.engine_s !== undefined || !UNNAMED.includes(used.tenant));
    this.#today = hasLine ? { spentS: used.days[0]?.engine_s ?? 0, limitS: used.limits.engine_s } : null;
    this.#onChange();
  }
}
