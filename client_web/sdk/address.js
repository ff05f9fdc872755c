/**
 * Where the server is, and the token that opens it.
 */

export class Address {
  #base;
  /** @type {string | null} */
  token;

  /**
   * @param {string | null} [url] http(s) or ws(s), with or without `/v1/realtime`; without one: where this script is from
   * @param {string | null} [token] else the fragment's of `url`, or of the page if it is of the same server
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

  /** @param {string} path opened by the browser itself, which sets no headers: the token is in the query */
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
