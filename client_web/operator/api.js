/**
 * The operator's HTTP calls. Each throws an `ApiError` with the server's own words.
 *
 * @module operator/api
 */

import { ask } from "../shared/ask.js";

/** @typedef {{id: string, key: string, state: string, viewers: number, recording: boolean}} Stage */
/** @typedef {{id: string, name: string, scope: string[], made_at: number, expires_at: number | null, is_good: boolean, value?: string}} Key */
/** @typedef {{engineS: number, limitS: number | null, storedBytes: number}} Used */
/** @typedef {{id: number, at: number, tenant: string, who: string, peer: string, action: string, session: string, outcome: string, times: number}} Entry */

export class Api {
  #address;

  /** @param {import("../sdk/address.js").Address} address */
  constructor(address) {
    this.#address = address;
  }

  /** @returns {Promise<Stage[]>} */
  async stages() {
    return (await (await this.#ask("GET", "/v1/sessions")).json()).data;
  }

  /** @param {string} id @returns {Promise<ImageBitmap>} */
  async picture(id) {
    const answer = await this.#ask("GET", `/v1/sessions/${encodeURIComponent(id)}/snapshot.jpg?width=320`);
    return createImageBitmap(await answer.blob());
  }

  /** @returns {Promise<Key[]>} */
  async keys() {
    return (await (await this.#ask("GET", "/v1/keys")).json()).data;
  }

  /** @returns {Promise<Map<string, Used>>} what each key has taken today, by its id */
  async usage() {
    const { data } = await (await this.#ask("GET", "/v1/usage?days=1")).json();
    return new Map(
      data.map((/** @type {any} */ used) => [
        used.tenant,
        { engineS: used.days[0]?.engine_s ?? 0, limitS: used.limits.engine_s ?? null, storedBytes: used.stored_bytes },
      ]),
    );
  }

  /** @param {object} wish @returns {Promise<Key>} with its value, which is told once */
  async makeKey(wish) {
    return (await this.#ask("POST", "/v1/keys", wish)).json();
  }

  /** @param {string} id */
  async revokeKey(id) {
    await this.#ask("DELETE", `/v1/keys/${encodeURIComponent(id)}`);
  }

  /** @param {{before?: number, refused: boolean}} page @returns {Promise<Entry[]>} the newest first */
  async audit({ before, refused }) {
    const query = new URLSearchParams({ limit: "50", ...(refused && { refused: "1" }) });
    if (before !== undefined) query.set("before", String(before));
    return (await (await this.#ask("GET", `/v1/audit?${query}`)).json()).data;
  }

  /** @param {string} method @param {string} path @param {object} [body] */
  #ask(method, path, body) {
    return ask(this.#address, method, path, body);
  }
}
