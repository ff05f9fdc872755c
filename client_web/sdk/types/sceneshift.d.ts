/**
 * The SDK's door, see `docs/sdk.md`. Fields that cross the wire keep the names that `docs/protocol.md` gives them
 * (`transition_s`, `frame_index`); everything else is camelCase.
 */
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
export declare function connect(url?: string | null, { token, video, signal, ...settings }?: import("./types.js").ConnectOptions): Promise<Session>;
