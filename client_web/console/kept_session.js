/**
 * What the console keeps in this browser to go on after a reload: the server's address with its token, and its session.
 *
 * @module kept_session
 */

import { Address } from "../sdk/address.js";
import { storage } from "../shared/i18n.js";

/** @typedef {import("../sdk/types.js").ResumableSession} ResumableSession */

const TOKEN_KEY = "sceneshift.token";
const SESSION_KEY = "sceneshift.session";

/** The server that the page came from, with the token of the address's fragment, which is then taken out of sight. */
export function pageAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return new Address(location.origin, sessionStorage.getItem(TOKEN_KEY));
}

/**
 * The show goes on over a reload of its console, and over closing and opening it again. It is kept only from then on: a
 * duplicated tab must find nothing, or the two would take the session from each other for ever.
 *
 * @param {() => ResumableSession | null} session
 */
export function keepOverReloads(session) {
  window.addEventListener("pagehide", () => keepSession(session()));
  window.addEventListener("pageshow", () => keepSession(null));
}

/** @returns {ResumableSession | null} the session of this browser before its console went */
export function keptSession() {
  const [own, last] = [sessionStorage.getItem(SESSION_KEY), storage()?.getItem(SESSION_KEY)];
  keepSession(null);
  return read(own) ?? read(last);
}

/**
 * @param {string | null | undefined} kept
 * @returns {ResumableSession | null} null also for what no console of ours has written: then a new session begins
 */
function read(kept) {
  try {
    const session = JSON.parse(kept ?? "null");
    return typeof session?.sessionId === "string" && typeof session.resumeToken === "string" ? session : null;
  } catch {
    return null;
  }
}

/** @param {ResumableSession | null} session of this page; null: it is in use, or there is none */
function keepSession(session) {
  const kept = JSON.stringify(session);
  sessionStorage.setItem(SESSION_KEY, kept);
  // For a tab that is opened after this one was closed. While two are open, each finds its own in `sessionStorage`.
  storage()?.setItem(SESSION_KEY, kept);
}
