/**
 * The links that show one stage: made for the share sheet, listed there, and ended by a button. Whoever watches by a
 * link that ends loses the picture at once.
 *
 * @module links
 */

import { make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

const PATH = "/v1/realtime/client_secrets";
// A link stays in OBS for the shows of a month.
const LIVES_S = 30 * 86_400;

/** @typedef {{id: string, session: string | null, expires_at: number}} Link */

export class Links {
  #address;
  #session;
  /** @type {{id: string, value: string} | null} the one that this page gives away */
  #own = null;
  /** Whether this page was opened with a client secret, which makes no links. */
  isRefused = false;

  /** @param {import("../sdk/address.js").Address} address @param {string} session */
  constructor(address, session) {
    this.#address = address;
    this.#session = session;
  }

  /** @returns {Promise<string | null>} the secret of a link, the same until it is ended; null: the server needs none */
  async secret() {
    if (this.#address.token === null) return null;
    if (this.#own !== null) return this.#own.value;
    const wish = { scope: ["view"], session: this.#session, expires_after: { seconds: LIVES_S } };
    const response = await this.#ask("POST", PATH, wish);
    this.isRefused = !response.ok;
    if (this.isRefused) return null;
    this.#own = await response.json();
    return this.#own?.value ?? null;
  }

  /** @param {(wasOwn: boolean) => void} onEnded @returns {Promise<HTMLElement | null>} the list with its buttons; null without links */
  async list(onEnded) {
    const response = this.#address.token === null ? null : await this.#ask("GET", PATH);
    if (response === null || !response.ok) return null;
    /** @type {Link[]} */
    const links = (await response.json()).data;
    const rows = links.filter(({ session }) => session === this.#session).map((link) => this.#row(link, onEnded));
    if (rows.length === 0) return null;
    return make("details", "links", [
      make("summary", "", [`${t("share.links")} (${rows.length})`]),
      make("ul", "", rows),
    ]);
  }

  /** @param {Link} link @param {(wasOwn: boolean) => void} onEnded */
  #row(link, onEnded) {
    const date = new Date(link.expires_at * 1000).toLocaleDateString(document.documentElement.lang);
    const end = textButton("quiet", t("share.end_link"), async () => {
      const response = await this.#ask("DELETE", `${PATH}/${link.id}`);
      if (!response.ok) return;
      const wasOwn = this.#own?.id === link.id;
      if (wasOwn) this.#own = null;
      onEnded(wasOwn);
    });
    return make("li", "sheet-row", [
      make("span", "grow", [`${link.id.slice(0, 8)} · ${t("share.link", { date })}`]),
      end,
    ]);
  }

  /** @param {string} method @param {string} path @param {object} [body] */
  async #ask(method, path, body) {
    const headers = { ...this.#address.headers, ...(body !== undefined && { "Content-Type": "application/json" }) };
    return fetch(this.#address.http(path), { method, headers, body: body && JSON.stringify(body) });
  }
}
