/**
 * A viewer without a controller: `watch(video, { session })` shows a program for ever, whatever happens to the network.
 *
 * @module watch
 */

import { Address } from "./address.js";
import { Viewer } from "./viewer.js";
import { Whep } from "./whep.js";

export { PlayerState as ViewerState, Transport } from "./player.js";
export { RequestError, SceneshiftError } from "./errors.js";
export { Viewer };

/**
 * @param {HTMLVideoElement} video muted, or the browser will not start it by itself
 * @param {object} how
 * @param {string} how.session its id or name
 * @param {string} [how.server] address; without one: where this script came from
 * @param {string | null} [how.token]
 * @param {"auto" | "webrtc" | "mse"} [how.transport]
 * @param {number} [how.graceMs] from `pause` until nothing is received any more; 5000
 * @param {() => number} [how.random]
 * @param {Record<string, (...details: any[]) => void>} [how.on] listeners, by event
 * @returns {Viewer}
 */
export function watch(video, { session, server, token, on = {}, ...settings }) {
  const address = new Address(server, token);
  const id = encodeURIComponent(session);
  const viewer = new Viewer(video, new Whep(address.http(`/whep/${id}`), address.headers), {
    ...settings,
    watchUrl: () => address.socket(`/v1/sessions/${id}/watch`),
  });
  for (const [type, listener] of Object.entries(on)) viewer.on(type, listener);
  viewer.open();
  return viewer;
}
