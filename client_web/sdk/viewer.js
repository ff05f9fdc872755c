/**
 * A `<video>` that shows a program: the player with its events by name, as pages use it.
 *
 * @module viewer
 */

import { Emitter, emit } from "./emitter.js";
import { Player } from "./player.js";

export class Viewer extends Emitter {
  #player;

  /**
   * @param {HTMLVideoElement} video
   * @param {import("./rtc.js").Signalling} signalling
   * @param {import("./player.js").PlayerSettings} settings
   */
  constructor(video, signalling, settings) {
    super();
    this.video = video;
    this.#player = new Player(
      video,
      signalling,
      {
        onState: (state) => this[emit]("state", state),
        onFrame: (frame) => this[emit]("frame", frame),
        onStalled: () => this[emit]("stalled"),
        onError: (error) => this[emit]("error", error),
      },
      settings,
    );
  }

  /** @returns {string} negotiating, playing, failed (will be tried again), paused or closed */
  get state() {
    return this.#player.state;
  }

  /** @returns {string} webrtc or mse */
  get transport() {
    return this.#player.transport;
  }

  /** Opens, or opens anew. */
  open() {
    this.#player.open();
  }

  /** Nobody looks: after a grace nothing is received any more; the last picture stays. */
  pause() {
    this.#player.pause();
  }

  resume() {
    this.#player.resume();
  }

  close() {
    this.#player.close();
  }

  /**
   * @param {number} width
   * @returns {string | null} what is shown now, as a JPEG data URI
   */
  picture(width) {
    return this.#player.picture(width);
  }

  /** @returns {Promise<RTCStatsReport | null>} */
  statistics() {
    return this.#player.statistics();
  }
}
