/**
 * The server's address and the access token. Makes addresses and WebSockets for the rest of the SDK.
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
    // Node has none.
    const page = globalThis.location;
    const given = new URL(url ?? (script.protocol.startsWith("http") ? script.origin : "/"), page?.href);
    const path = given.pathname.replace(/(\/v1\/realtime)?\/?$/, "");
    this.#base = `${given.protocol.replace("ws", "http")}//${given.host}${path}`;
    const isOwn = new URL(this.#base).origin === page?.origin;
    this.token = token ?? tokenOf(given.hash) ?? given.searchParams.get("token") ?? (isOwn ? tokenOf(page.hash) : null);
  }

  /** @param {string} path */
  http(path) {
    return this.#base + path;
  }

  /**
   * Browsers set no headers on a WebSocket, and proxies log queries. So the token goes as a subprotocol, unless it has
   * characters that a subprotocol cannot have (RFC 9110, 5.6.2).
   *
   * @param {string} path
   */
  openSocket(path) {
    const { token } = this;
    const url = this.#base.replace("http", "ws") + path;
    if (/^[\w!#$%&'*+.^\x60|~-]+$/.test(token ?? ""))
      return new WebSocket(url, ["sceneshift.v1", `sceneshift.token.${token}`]);
    return new WebSocket(token === null ? url : `${url}?token=${encodeURIComponent(token)}`);
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return this.token === null ? {} : { Authorization: `Bearer ${this.token}` };
  }
}

/** @param {string} hash */
const tokenOf = (hash) => new URLSearchParams(hash.slice(1)).get("token");
