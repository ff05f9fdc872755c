/**
 * The token that the server's own pages use. It comes in the fragment of a page's address, and leaves the address bar.
 *
 * On a loopback address a token stays in `localStorage`, so a second tab and a bookmark without it work. Pages of other
 * ports are other origins and cannot read it. On other addresses it stays in the tab: a borrowed computer forgets it. A
 * client secret always stays in the tab, or a link that only shows a stage would take the console's token away.
 *
 * @module shared/token
 */

import { Address } from "../sdk/address.js";
import { storage } from "./i18n.js";

const KEY = "sceneshift.token";
const SECRET_PREFIX = "ek_";
const LOOPBACK = Object.freeze(["localhost", "127.0.0.1", "[::1]"]);

/** The address of the page's own server, with the token. */
export const pageAddress = () => new Address(location.origin, pageToken());

/** @returns {string | null} */
export function pageToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return storage("sessionStorage")?.getItem(KEY) ?? storage()?.getItem(KEY) ?? null;
  keepToken(given);
  history.replaceState(null, "", location.pathname + location.search);
  return given;
}

/** @param {string} token */
export function keepToken(token) {
  const isOfTab = token.startsWith(SECRET_PREFIX) || !LOOPBACK.includes(location.hostname);
  if (isOfTab) {
    storage("sessionStorage")?.setItem(KEY, token);
  } else {
    storage("sessionStorage")?.removeItem(KEY);
    storage()?.setItem(KEY, token);
  }
}

/**
 * Calls back when another tab of this browser was given a token.
 *
 * @param {(token: string) => void} onGiven
 */
export function listenForToken(onGiven) {
  window.addEventListener("storage", ({ key, newValue }) => {
    if (key === KEY && newValue !== null) onGiven(newValue);
  });
}
