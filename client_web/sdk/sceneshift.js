/**
 * The SDK's entry point for pages that drive a stage; `watch.js` is the one for viewers. See `docs/sdk.md`. Fields that
 * cross the wire have the names of `docs/protocol.md` (`transition_s`, `frame_index`); everything else is camelCase.
 */

import { Address } from "./address.js";
import { SceneshiftError } from "./errors.js";
import { Session } from "./session.js";

export { RequestError, SceneshiftError } from "./errors.js";
export { PromptHandle } from "./handle.js";
export { Player as Viewer } from "./player.js";
export { Session };

/**
 * Opens a session. Waits in the server's queue, and tries again while the server cannot be reached.
 *
 * Rejects only if the server refuses (with `code` and, for a wrong field, `param`) or if `signal` aborts (with the code
 * `session_closed`).
 *
 * @param {string | null} [url] of the server; default: the server of this script
 * @param {import("./types.js").ConnectOptions} [how]
 * @returns {Promise<Session>} resolves when the session is live
 */
export async function connect(url, { token, video = null, signal, ...settings } = {}) {
  if (signal?.aborted) throw new SceneshiftError("session_closed", "aborted before it began");
  const address = new Address(url, token);
  if ("process" in globalThis) address.token ??= (await import("./node.js")).tokenFor(address.http("/"));
  const session = new Session({ ...settings, address });
  signal?.addEventListener("abort", () => void session.close(), { once: true });
  session.attach(video);
  session.open();
  return session.ready;
}
