/**
 * The page's HTTP calls. Each rejects with an `ApiError` that has the server's own words.
 *
 * @module clips/api
 */

import { ask } from "../shared/ask.js";

/**
 * A clip as `/v1/videos` tells of it. Times are Unix times, in seconds.
 *
 * @typedef {object} Clip
 * @property {string} id
 * @property {"queued" | "in_progress" | "completed" | "failed"} status
 * @property {number} progress in percent: the engine's steps done of all
 * @property {number} created_at
 * @property {string} seconds
 * @property {string} size
 * @property {string} prompt
 * @property {number} seed
 * @property {"fast" | "fine"} quality
 * @property {{code: string, message: string} | null} error
 * @property {string | null} remixed_from_video_id
 * @property {number} [queue_position] how many come before it
 * @property {number} [estimated_completed_at]
 * @property {string} [content_url] signed, so that a `<video>` needs no token
 * @property {string} [thumbnail_url]
 */

/** @typedef {{data: Clip[], last_id: string | null, has_more: boolean}} Page */
/** @typedef {{id: string, state: string, own: boolean}} Stage */
/** @typedef {{prompt: string, seconds: string, size?: string, quality?: string, seed?: string}} Wish */

const PATH = "/v1/videos";
const PAGE_LENGTH = "24";

export class Api {
  #address;
  /** The server's clock, less this browser's, in seconds. */
  #aheadS = 0;

  /** @param {import("../sdk/address.js").Address} address */
  constructor(address) {
    this.#address = address;
  }

  /** @param {{search?: string, after?: string}} which @returns {Promise<Page>} the newest first */
  async list({ search, after }) {
    const query = new URLSearchParams({ limit: PAGE_LENGTH });
    if (search) query.set("search", search);
    if (after !== undefined) query.set("after", after);
    return this.#json("GET", `${PATH}?${query}`);
  }

  /** @param {string} id @returns {Promise<Clip>} */
  find(id) {
    return this.#json("GET", `${PATH}/${id}`);
  }

  /** @param {Wish} wish @returns {Promise<Clip>} */
  order(wish) {
    return this.#json("POST", PATH, wish);
  }

  /** The same with other words. @param {string} id @param {string} prompt @returns {Promise<Clip>} */
  remix(id, prompt) {
    return this.#json("POST", `${PATH}/${id}/remix`, { prompt });
  }

  /** A new clip that has this one, and goes on. @param {string} id @param {number} seconds more @returns {Promise<Clip>} */
  extend(id, seconds) {
    return this.#json("POST", `${PATH}/extensions`, { video: { id }, seconds });
  }

  /** Also stops work on it. @param {string} id */
  async remove(id) {
    await ask(this.#address, "DELETE", `${PATH}/${id}`);
  }

  /** @returns {Promise<Stage[]>} of this key */
  async stages() {
    /** @type {{data: Stage[]}} */
    const { data } = await this.#json("GET", "/v1/sessions");
    return data.filter(({ own }) => own);
  }

  /** @param {string} stage @param {string} id of the clip */
  async show(stage, id) {
    await ask(this.#address, "POST", `/v1/sessions/${encodeURIComponent(stage)}/show`, { clip_id: id });
  }

  /** Whether the model can go on from a picture; false while it loads. @returns {Promise<boolean>} */
  async canGoOn() {
    const response = await fetch(this.#address.http("/readyz")); // 503 while it loads, with the same fields
    return (await response.json()).can_start_from_frame === true;
  }

  /** @param {number} at on the server's clock @returns {number} seconds from now */
  secondsUntil(at) {
    return Math.max(0, at - this.#aheadS - Date.now() / 1000);
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
  async #json(method, path, body) {
    const response = await ask(this.#address, method, path, body);
    const told = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(told)) this.#aheadS = (told - Date.now()) / 1000;
    return response.json();
  }
}
