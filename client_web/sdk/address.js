/**
 * The server's address and the access token. Makes the HTTP and WebSocket addresses for the rest of the SDK.
 */

export class Address {
  #base;
  /** @type {string | null} */
  token;

  /**
   * @param {string | null} [url] http(s) or ws(s), with or without `/v1/realtime`; default: the server of this script
   * @param {string | null} [token] default: `token` in the fragment or query of `url`, or in the fragment of a page of
   *   the same server
   */
  constructor(url, token = null) {
    const script = new URL(import.meta.url);
    const given = new URL(url ?? (script.protocol.startsWith("http") ? script.origin : "/"), location.href);
    const path = given.pathname.replace(/(\/v1\/realtime)?\/?$/, "");
    this.#base = `${given.protocol.replace("ws", "http")}//${given.host}${path}`;
    const isOwn = new URL(this.#base).origin === location.origin;
    this.token =
      token ?? tokenOf(given.hash) ?? given.searchParams.get("token") ?? (isOwn ? tokenOf(location.hash) : null);
  }

  /** @param {string} path */
  http(path) {
    return this.#base + path;
  }

  /** @param {string} path of a WebSocket */
  socket(path) {
    return this.link(path).replace("http", "ws");
  }

  /** For addresses that the browser opens: it sets no headers, so the query has the token. @param {string} path */
  link(path) {
    const url = new URL(this.#base + path);
    if (this.token !== null) url.searchParams.set("token", this.token);
    return url.href;
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return this.token === null ? {} : { Authorization: `Bearer ${this.token}` };
  }
}

/** @param {string} hash */
const tokenOf = (hash) => new URLSearchParams(hash.slice(1)).get("token");
