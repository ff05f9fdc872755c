/**
 * The SDK's door, see `docs/sdk.md`. Fields that cross the wire keep the names that `docs/protocol.md` gives them
 * (`transition_s`, `frame_index`); everything else is camelCase.
 */

import { Address } from "./address.js";
import { SceneshiftError } from "./errors.js";
import { Session } from "./session.js";

export { RequestError, SceneshiftError } from "./errors.js";
export { PromptHandle } from "./handle.js";
export { Player as Viewer } from "./player.js";
export { Session };

/**
 * Opens a session, and tries again for as long as the server cannot be reached.
 *
 * @param {string | null} [url] of the server; without one: where this script came from
 * @param {import("./types.js").ConnectOptions} [how]
 * @returns {Promise<Session>} when it is live; rejects when it is refused, with `code` and `param`, or aborted
 */
export async function connect(url, { token, video = null, signal, ...settings } = {}) {
  if (signal?.aborted) throw new SceneshiftError("session_closed", "aborted before it began");
  const session = new Session({ ...settings, address: new Address(url, token) });
  signal?.addEventListener("abort", () => void session.close(), { once: true });
  session.attach(video);
  session.open();
  return session.ready;
}
