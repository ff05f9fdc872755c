/**
 * The studio's loop: looks at both videos at the screen's rate, has `segmenter.js` cut out the person as often as the
 * machine can (`pace.js`), and has `compositor.js` paint when something has changed. Runs on the screen of the visible
 * window, and stops while none is visible.
 *
 * @module mixer
 */

import { Pace } from "./pace.js";

/** @typedef {import("./compositor.js").Compositor} Compositor */
/** @typedef {import("./settings.js").Values} Values */
/** @typedef {import("./segmenter.js").Mask} Mask */

/**
 * @typedef {object} CutsOut what the mixer needs of a `Segmenter`
 * @property {() => Promise<void>} open
 * @property {(picture: HTMLVideoElement) => Promise<Mask>} cut
 * @property {() => void} forget
 * @property {boolean} isBusy
 */

export class Mixer {
  #compositor;
  #segmenter;
  #scene;
  #camera;
  #handlers;
  /** @type {Readonly<Values>} */
  #values;
  #pace = new Pace();
  #isCutting = false; // the segmenter is open and has not failed
  #isCameraOn = false;
  /** Counts cameras, so that the mask of an older one is ignored. */
  #cameraTurn = 0;
  #sceneTime = -1;
  #cameraTime = -1;
  #isStale = true; // something has changed since the last paint
  /** @type {{window: Window, id: number} | null} */
  #beat = null;

  /**
   * @param {Compositor} compositor
   * @param {CutsOut} segmenter
   * @param {{scene: HTMLVideoElement, camera: HTMLVideoElement}} videos
   * @param {Readonly<Values>} values
   * @param {object} handlers
   * @param {() => Window | null} handlers.screen the window whose screen sets the rate; null: none is visible
   * @param {(picture: HTMLCanvasElement) => void} handlers.onPainted in the same task
   * @param {(error: Error) => void} handlers.onCutFailed
   */
  constructor(compositor, segmenter, videos, values, handlers) {
    this.#compositor = compositor;
    this.#segmenter = segmenter;
    this.#scene = videos.scene;
    this.#camera = videos.camera;
    this.#values = values;
    this.#handlers = handlers;
  }

  get pace() {
    return this.#pace;
  }

  /** Whether the picture shows the camera, cut out or not. */
  get showsCamera() {
    return this.#compositor.hasCamera && (this.#compositor.hasMask || !this.#values.cutOut);
  }

  /** @param {Readonly<Values>} values */
  setValues(values) {
    if (values.cutOut !== this.#values.cutOut) {
      // An old mask must not show the room while the next one is made.
      this.#compositor.forgetMask();
      this.#cameraTime = -1;
    }
    this.#values = { ...values };
    this.#isStale = true;
  }

  /** @param {boolean} isThere */
  setScene(isThere) {
    if (!isThere) this.#compositor.forgetScene();
    this.#sceneTime = -1;
    this.#isStale = true;
  }

  /** @param {boolean} isOn the video has pictures of the chosen camera */
  setCamera(isOn) {
    this.#cameraTurn += 1;
    this.#isCameraOn = isOn;
    this.#cameraTime = -1;
    this.#compositor.forgetCamera();
    this.#pace.reset();
    this.#isStale = true;
    if (isOn) void this.#openSegmenter();
  }

  /** Paints everything again: another window is visible, or the graphics device is back. */
  refresh() {
    this.#sceneTime = -1;
    this.#cameraTime = -1;
    this.#isStale = true;
    if (this.#beat !== null) this.#beat.window.cancelAnimationFrame(this.#beat.id);
    this.#beat = null;
    this.#next();
  }

  async #openSegmenter() {
    const turn = this.#cameraTurn;
    try {
      await this.#segmenter.open();
      this.#segmenter.forget();
      this.#isCutting = true;
    } catch (error) {
      this.#isCutting = false;
      if (turn === this.#cameraTurn) this.#handlers.onCutFailed(/** @type {Error} */ (error));
    }
  }

  #next() {
    const screen = this.#handlers.screen();
    this.#beat = screen === null ? null : { window: screen, id: screen.requestAnimationFrame(() => this.#paint()) };
  }

  #paint() {
    this.#next();
    this.#lookAtScene();
    if (this.#isCameraOn) this.#lookAtCamera(performance.now());
    if (!this.#isStale) return;
    this.#isStale = false;
    this.#compositor.draw(this.#values);
    this.#handlers.onPainted(this.#compositor.canvas);
  }

  #lookAtScene() {
    if (!hasPicture(this.#scene) || this.#scene.currentTime === this.#sceneTime) return;
    this.#sceneTime = this.#scene.currentTime;
    if (this.#values.background !== "scene") return;
    this.#compositor.showScene(this.#scene);
    this.#isStale = true;
  }

  /** @param {number} now */
  #lookAtCamera(now) {
    if (!hasPicture(this.#camera) || this.#camera.currentTime === this.#cameraTime) return;
    if (!this.#values.cutOut) {
      this.#compositor.showCamera(this.#camera);
      this.#isStale = true;
    } else if (this.#isCutting && !this.#segmenter.isBusy && this.#pace.isDue(now)) {
      void this.#cut(now);
    } else if (this.#pace.isSlow && this.#compositor.hasMask) {
      this.#compositor.showCamera(this.#camera);
      this.#isStale = true;
    } else {
      return; // looked at again at the next frame of the screen
    }
    this.#cameraTime = this.#camera.currentTime;
  }

  /** @param {number} now */
  async #cut(now) {
    const turn = this.#cameraTurn;
    this.#pace.begin(now);
    this.#compositor.holdCamera(this.#camera);
    try {
      const mask = await this.#segmenter.cut(this.#camera);
      if (turn !== this.#cameraTurn || !this.#values.cutOut) return;
      this.#pace.end(performance.now());
      this.#compositor.showMask(mask);
      this.#isStale = true;
    } catch (error) {
      if (turn !== this.#cameraTurn) return; // the picture was of an older camera
      this.#isCutting = false;
      this.#compositor.forgetCamera();
      this.#isStale = true;
      this.#handlers.onCutFailed(/** @type {Error} */ (error));
    }
  }
}

/** @param {HTMLVideoElement} video */
function hasPicture(video) {
  return video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && video.videoWidth > 0;
}
