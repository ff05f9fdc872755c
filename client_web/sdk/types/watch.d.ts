/**
 * A viewer without a controller: `watch(video, { session })` shows a program for ever, whatever the network does.
 */
import { Player } from "./player.js";
export { RequestError, SceneshiftError } from "./errors.js";
export { Player as Viewer } from "./player.js";
/** @param {HTMLVideoElement} video muted, or the browser will not start it @param {import("./types.js").WatchOptions} how */
export declare function watch(video: HTMLVideoElement, { session, server, token, on, ...settings }: import("./types.js").WatchOptions): Player;
