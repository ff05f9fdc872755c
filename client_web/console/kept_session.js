/**
 * Stores the session in this browser, so that the console continues after a reload.
 *
 * @module kept_session
 */

import { storage } from "../shared/i18n.js";

/** @typedef {import("../sdk/types.js").ResumableSession} ResumableSession */

const SESSION_KEY = "sceneshift.session";

/**
 * Stores the session when the page goes away, so that a reload, or closing and opening, continues the show. While the
 * page is open nothing is stored: a duplicated tab would find it, and the two would steal the session from each other.
 *
 * @param {() => ResumableSession | null} session
 */
export function keepOverReloads(session) {
  window.addEventListener("pagehide", () => keepSession(session()));
  window.addEventListener("pageshow", () => keepSession(null));
}

/** @returns {ResumableSession | null} the session that this tab, or else this browser, stored last */
export function keptSession() {
  const [own, last] = [storage("sessionStorage")?.getItem(SESSION_KEY), storage()?.getItem(SESSION_KEY)];
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
  storage("sessionStorage")?.setItem(SESSION_KEY, kept);
  // For a tab opened after this one was closed. While two are open, each finds its own in `sessionStorage`.
  storage()?.setItem(SESSION_KEY, kept);
}
