/**
 * Where the server is, and the token that opens it. Pure, but for the page's own address.
 *
 * @module address
 */

const REALTIME = /\/v1\/realtime\/?$/;

export class Address {
  #base;
  /** @type {string | null} */
  token;

  /**
   * @param {string | null | undefined} url the server's, http(s) or ws(s), with or without `/v1/realtime`, maybe with
   *   `#token=`; without one: where this script came from
   * @param {string | null} [token]
   */
  constructor(url, token = null) {
    // Scripts may also come from a file or a blob; then the page's own server is meant.
    const script = new URL(import.meta.url);
    const given = new URL(url ?? (script.protocol.startsWith("http") ? script.origin : "/"), location.href);
    const path = given.pathname.replace(REALTIME, "").replace(/\/$/, "");
    this.#base = `${given.protocol.replace(/^ws/, "http")}//${given.host}${path}`;
    // The page's own token is for the page's own server, and for nobody else.
    const own = new URL(this.#base).origin === location.origin ? tokenOf(location.hash) : null;
    this.token = token ?? tokenOf(given.hash) ?? given.searchParams.get("token") ?? own;
  }

  /** @param {string} path */
  http(path) {
    return this.#base + path;
  }

  /**
   * Browsers cannot set headers on a WebSocket: its token is in the query.
   *
   * @param {string} path
   */
  socket(path) {
    const url = new URL(this.#base.replace(/^http/, "ws") + path);
    if (this.token !== null) url.searchParams.set("token", this.token);
    return url.href;
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return this.token === null ? {} : { Authorization: `Bearer ${this.token}` };
  }
}

/** @param {string} hash */
function tokenOf(hash) {
  return new URLSearchParams(hash.slice(1)).get("token");
}
