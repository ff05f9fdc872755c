/**
 * A viewer without a controller: `watch(video, { session })` shows a program for ever, whatever the network does.
 *
 * @module watch
 */

import { Address } from "./address.js";
import { Player } from "./player.js";
import { Whep } from "./whep.js";

export { RequestError, SceneshiftError } from "./errors.js";
export { Player as Viewer, PlayerState as ViewerState, Transport } from "./player.js";

/**
 * @param {HTMLVideoElement} video muted, or the browser will not start it by itself
 * @param {object} how
 * @param {string} how.session its id or name
 * @param {string | null} [how.server] address; without one: where this script came from
 * @param {string | null} [how.token]
 * @param {"auto" | "webrtc" | "mse"} [how.transport]
 * @param {number} [how.graceMs] from `pause` until nothing is received any more; 5000
 * @param {() => number} [how.random]
 * @param {Record<string, (...details: any[]) => void>} [how.on] listeners, by event
 */
export function watch(video, { session, server, token, on, ...settings }) {
  const address = new Address(server, token);
  const id = encodeURIComponent(session);
  const watchUrl = () => address.socket(`/v1/sessions/${id}/watch`);
  const signalling = new Whep(address.http(`/whep/${id}`), address.headers);
  const viewer = new Player(video, signalling, on, { ...settings, watchUrl });
  viewer.open();
  return viewer;
}
