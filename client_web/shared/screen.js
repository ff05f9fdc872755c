/**
 * A viewer's screen: the program on a `<video>`, and above it a `<canvas>` that shows the last good frame while the
 * program is missing. The OBS page and the widget use it, each with its own signalling.
 *
 * @module screen
 */

import { Player, PlayerState } from "../sdk/player.js";

/** @typedef {import("../sdk/types.js").Signalling} Signalling */
/** @typedef {import("../sdk/types.js").PlayerSettings} PlayerSettings */

/**
 * @typedef {object} ScreenHandlers
 * @property {(isLive: boolean) => void} onLive true: frames arrive; false: the last frame is held
 * @property {(error: Error) => void} onError another attempt follows
 * @property {() => boolean} [mayShow] whether arriving frames are worth showing; if not, the last frame stays
 */

export class Screen {
  #video;
  #held;
  #handlers;
  #player;
  #isIn = false;
  #isLive = false;

  /**
   * @param {HTMLVideoElement} video
   * @param {HTMLCanvasElement} held the same size and fit as the video, above it
   * @param {Signalling} signalling
   * @param {PlayerSettings} settings
   * @param {ScreenHandlers} handlers
   */
  constructor(video, held, signalling, settings, handlers) {
    this.#video = video;
    this.#held = held;
    this.#held.hidden = true;
    this.#handlers = handlers;
    this.#player = new Player(
      video,
      signalling,
      {
        onState: (state) => this.#playerChanged(state),
        onFrame: () => this.#frameShown(),
        onStalled: () => document.visibilityState === "visible" && this.#hold(),
        onError: (error) => handlers.onError(error),
      },
      settings,
    );
  }

  get isLive() {
    return this.#isLive;
  }

  get player() {
    return this.#player;
  }

  /** Starts to watch, and reconnects until `leave`. */
  enter() {
    this.#isIn = true;
    if (this.#player.state === PlayerState.CLOSED) this.#player.open();
  }

  /** Requests the picture again, because the signalling has a new stage. Does nothing after `leave`. */
  reenter() {
    if (this.#isIn) this.#player.open();
  }

  /** Stops watching. The last frame stays. */
  leave() {
    this.#isIn = false;
    this.#hold();
    if (this.#player.state !== PlayerState.CLOSED) this.#player.close();
  }

  /** @param {string} state */
  #playerChanged(state) {
    // The video has the old frame only until a new track arrives, so copy it now.
    if (state !== PlayerState.PLAYING) this.#hold();
  }

  #frameShown() {
    // A frame of an earlier peer may be reported late.
    if (!this.#isIn || this.#isLive || this.#player.state !== PlayerState.PLAYING) return;
    if (this.#handlers.mayShow?.() === false) return;
    this.#isLive = true;
    this.#held.hidden = true;
    this.#handlers.onLive(true);
  }

  #hold() {
    if (!this.#isLive) return;
    this.#isLive = false;
    const { videoWidth, videoHeight } = this.#video;
    this.#held.width = videoWidth;
    this.#held.height = videoHeight;
    this.#held.getContext("2d")?.drawImage(this.#video, 0, 0);
    this.#held.hidden = false;
    this.#handlers.onLive(false);
  }
}
