/**
 * The live scene on a `<video>`: watches a stage through the SDK until it is closed. While it waits, its problem says
 * in one word why.
 *
 * @module scene
 */

import { PlayerState } from "../sdk/player.js";
import { RequestError, watch } from "../sdk/watch.js";

export const SceneState = Object.freeze({
  OFF: "off",
  CONNECTING: "connecting",
  PLAYING: "playing", // its pictures are shown
  WAITING: "waiting", // another attempt follows by itself; the problem says why
});

/** @typedef {"no_stage" | "no_token" | "full" | "lost"} SceneProblem */

export class Scene {
  #video;
  #onState;
  /** @type {import("../sdk/watch.js").Viewer | null} */
  #viewer = null;
  /** @type {string | null} */
  #stage = null;
  #state = /** @type {string} */ (SceneState.OFF);

  /**
   * @param {HTMLVideoElement} video
   * @param {(state: string, problem: SceneProblem | null) => void} onState
   */
  constructor(video, onState) {
    this.#video = video;
    this.#onState = onState;
  }

  get state() {
    return this.#state;
  }

  get stage() {
    return this.#stage;
  }

  /**
   * @param {string} stage the session's id or name
   * @param {string | null} token
   */
  open(stage, token) {
    this.close();
    this.#stage = stage;
    this.#enter(SceneState.CONNECTING);
    this.#viewer = watch(this.#video, {
      session: stage,
      token,
      on: {
        frame: () => this.#enter(SceneState.PLAYING),
        error: (error) => this.#failed(error),
      },
    });
  }

  close() {
    const viewer = this.#viewer;
    this.#viewer = null;
    viewer?.close();
    this.#stage = null;
    this.#enter(SceneState.OFF);
  }

  /** @param {Error} error */
  #failed(error) {
    // Other errors, such as a refused autoplay, do not end the viewer's path.
    if (this.#viewer?.state !== PlayerState.FAILED) return;
    console.warn("scene:", error.message);
    this.#enter(SceneState.WAITING, error instanceof RequestError ? problemOf(error.detail.code) : "lost");
  }

  /**
   * @param {string} next
   * @param {SceneProblem | null} [problem]
   */
  #enter(next, problem = null) {
    // Each frame reports that the scene plays.
    if (this.#state === next && next !== SceneState.WAITING) return;
    this.#state = next;
    this.#onState(next, problem);
  }
}

/**
 * @param {string} code of `docs/protocol.md`
 * @returns {SceneProblem}
 */
function problemOf(code) {
  switch (code) {
    case "unknown_session":
      return "no_stage";
    case "unauthorized":
      return "no_token";
    case "too_many_viewers":
      return "full";
    default:
      return "lost"; // the list of codes is open
  }
}
