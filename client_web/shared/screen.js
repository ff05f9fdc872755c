/**
 * A viewer's screen: the program on a `<video>`, and over it a `<canvas>` that holds the last good frame whenever the
 * program does not come. Enters and leaves as often as it is told. Whose signalling it is, it does not know.
 *
 * @module screen
 */

import { Player, PlayerState } from "../sdk/player.js";

/** @typedef {import("../sdk/types.js").Signalling} Signalling */
/** @typedef {import("../sdk/types.js").PlayerSettings} PlayerSettings */

/**
 * @typedef {object} ScreenHandlers
 * @property {(isLive: boolean) => void} onLive frames come, or the last one is held
 * @property {(error: Error) => void} onError another attempt follows
 * @property {() => boolean} [mayShow] whether what comes now is worth showing; if not, the last frame is held on
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

  /** Becomes a viewer, and one again whenever the path is lost, until it leaves. */
  enter() {
    this.#isIn = true;
    if (this.#player.state === PlayerState.CLOSED) this.#player.open();
  }

  /** Asks for the picture anew, if it is wanted at all: the stage behind the signalling is another one. */
  reenter() {
    if (this.#isIn) this.#player.open();
  }

  /** Is no viewer from here on; the last frame stays. */
  leave() {
    this.#isIn = false;
    this.#hold();
    if (this.#player.state !== PlayerState.CLOSED) this.#player.close();
  }

  /** @param {string} state */
  #playerChanged(state) {
    // The video has the old frame for as long as no new track has come, so now is the time to keep it.
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
