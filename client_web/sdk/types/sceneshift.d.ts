/**
 * The SDK's entry point for pages that drive a stage; `watch.js` is the one for viewers. See `docs/sdk.md`. Fields that
 * cross the wire have the names of `docs/protocol.md` (`transition_s`, `frame_index`); everything else is camelCase.
 */
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
export declare function connect(url?: string | null, { token, video, signal, ...settings }?: import("./types.js").ConnectOptions): Promise<Session>;
