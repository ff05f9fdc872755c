/**
 * The SDK's door: `connect()` gives a session, `session.prompt(text)` a handle. See `docs/sdk.md`.
 *
 * Fields that cross the wire keep the names that `docs/protocol.md` gives them (`transition_s`, `frame_index`);
 * everything else is camelCase.
 *
 * @module sceneshift
 */

import { Address } from "./address.js";
import { SceneshiftError } from "./errors.js";
import { Session } from "./session.js";

export { RequestError, SceneshiftError } from "./errors.js";
export { HandleState, PromptHandle } from "./handle.js";
export { PlayerState as ViewerState, Transport } from "./player.js";
export { SessionState } from "./session.js";
export { Viewer } from "./viewer.js";
export { Session };

/**
 * @typedef {object} ConnectOptions
 * @property {string | null} [token] access token; else the one in the fragment of `url`, or of the page's own address
 * @property {string} [name] of the session, which then outlives a restart of the server; 3 to 40 of a-z, 0-9, -
 * @property {import("./messages.js").SessionOptions} [options] of the session
 * @property {HTMLVideoElement | null} [video] shows the program
 * @property {import("./connection.js").ResumableSession | null} [resume] a session of before, `session.resumable`
 * @property {number} [promptsPerSecond] at most; 4
 * @property {"auto" | "webrtc" | "mse"} [transport] of the picture
 * @property {number} [graceMs] from `viewer.pause` until nothing is received any more; 5000
 * @property {AbortSignal} [signal] closes the session
 * @property {() => number} [random] for the waits between attempts
 * @property {Record<string, (...details: any[]) => void>} [on] listeners, by event
 */

/**
 * Opens a session, and tries again for as long as the server cannot be reached.
 *
 * @param {string | null} [url] of the server; without one: where this script came from
 * @param {ConnectOptions} [how]
 * @returns {Promise<Session>} when it is live; rejects when it is refused, with `code` and `param`, or aborted
 */
export function connect(url, { token, video = null, signal, on = {}, ...settings } = {}) {
  const session = new Session({ ...settings, address: new Address(url, token) });
  for (const [type, listener] of Object.entries(on)) session.on(type, listener);
  if (signal?.aborted) return Promise.reject(new SceneshiftError("aborted", "aborted before it began"));
  signal?.addEventListener("abort", () => void session.close(), { once: true });
  if (video !== null) session.attach(video);
  session.open();
  return session.ready;
}
