/**
 * Signalling for viewers: WHEP (draft-ietf-wish-whep). POSTs the offer, DELETEs the answer's `Location` when the viewer
 * leaves, and reads ICE servers from `Link` headers. `player.js` uses it; a session signals over its WebSocket instead.
 */

import { RequestError, SceneshiftError } from "./errors.js";

/** Implements `Signalling`. */
export class Whep {
  #url;
  #headers;
  /** @type {RTCIceServer[]} */
  #iceServers = [];

  /** @param {string} url @param {Record<string, string>} headers */
  constructor(url, headers) {
    this.#url = url;
    this.#headers = headers;
  }

  /** @param {string} sdp @param {AbortSignal} signal @returns {Promise<string>} */
  async offer(sdp, signal) {
    const response = await this.#fetch(this.#url, "POST", sdp);
    const answer = await response.text();
    if (!response.ok) throw refusal(response.status, answer);
    this.#iceServers = iceServers(response.headers.get("Link"));
    const location = response.headers.get("Location");
    if (location !== null) this.#leaveOn(signal, new URL(location, this.#url).href);
    return answer;
  }

  /** Sends nothing: the server learns our addresses from the ICE checks that reach its own candidates. */
  candidate() {}

  iceServers() {
    return this.#iceServers;
  }

  /** @param {AbortSignal} signal @param {string} location */
  #leaveOn(signal, location) {
    const leave = () => {
      // An error is ignored: the server may be gone.
      this.#fetch(location, "DELETE").catch(() => {});
      removeEventListener("pagehide", leave);
    };
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    addEventListener("pagehide", leave, { signal });
  }

  /** @param {string} url @param {string} method @param {string} [body] @returns {Promise<Response>} */
  async #fetch(url, method, body) {
    const headers = body === undefined ? this.#headers : { ...this.#headers, "Content-Type": "application/sdp" };
    try {
      return await fetch(url, { method, headers, body, keepalive: method === "DELETE" });
    } catch (error) {
      throw new SceneshiftError("no_server", `the server does not answer (${/** @type {Error} */ (error).message})`);
    }
  }
}

/** @param {number} status @param {string} body */
function refusal(status, body) {
  try {
    return new RequestError(JSON.parse(body).error);
  } catch {
    return new SceneshiftError("no_server", `something else than our server answered, with ${status}`);
  }
}

/**
 * Parses `<turn:host?transport=udp>; rel="ice-server"; username="u"; credential="c", <…`.
 *
 * @param {string | null} link
 * @returns {RTCIceServer[]}
 */
export function iceServers(link) {
  const servers = [];
  for (const [, url, parameters] of (link ?? "").matchAll(/<([^>]+)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)/g)) {
    /** @type {Record<string, string>} */
    const named = {};
    for (const [, name, quoted, plain] of parameters.matchAll(/;\s*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;,\s]+))/g)) {
      named[name] = quoted === undefined ? plain : quoted.replace(/\\(.)/g, "$1");
    }
    if (named.rel !== "ice-server") continue;
    const { username, credential } = named;
    servers.push(username === undefined ? { urls: [url] } : { urls: [url], username, credential });
  }
  return servers;
}
