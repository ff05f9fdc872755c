/**
 * The SDK's entry point for viewers: `watch(video, { session })` shows a program. Pages that drive a stage use
 * `sceneshift.js`.
 */
import { Player } from "./player.js";
export { RequestError, SceneshiftError } from "./errors.js";
export { Player as Viewer } from "./player.js";
/**
 * Shows the program of a session, and reconnects until `close()`. A failed attempt is an `error` event.
 *
 * @param {HTMLVideoElement} video muted, or the browser will not start it
 * @param {import("./types.js").WatchOptions} how
 */
export declare function watch(video: HTMLVideoElement, { session, server, token, on, ...settings }: import("./types.js").WatchOptions): Player;
