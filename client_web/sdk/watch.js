/**
 * The SDK's entry point for viewers: `watch(video, { session })` shows a program. Pages that drive a stage use
 * `sceneshift.js`.
 */

import { Address } from "./address.js";
import { Player } from "./player.js";
import { Whep } from "./whep.js";

export { RequestError, SceneshiftError } from "./errors.js";
export { Player as Viewer } from "./player.js";

/**
 * Shows the program of a session, and reconnects until `close()`. A failed attempt is an `error` event.
 *
 * @param {HTMLVideoElement} video muted, or the browser will not start it
 * @param {import("./types.js").WatchOptions} how
 */
export function watch(video, { session, server, token, on, ...settings }) {
  const address = new Address(server, token);
  const id = encodeURIComponent(session);
  const openWatch = () => address.openSocket(`/v1/sessions/${id}/watch`);
  const signalling = new Whep(address.http(`/whep/${id}`), address.headers);
  const viewer = new Player(video, signalling, on, { ...settings, openWatch });
  viewer.open();
  return viewer;
}
