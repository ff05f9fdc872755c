/**
 * Opens a webcam, shows it on a `<video>` and releases it. `problem` says in one word why there is none.
 *
 * @module camera
 */

export const CameraState = Object.freeze({
  OFF: "off",
  OPENING: "opening", // the browser asks the user, the device starts
  LIVE: "live",
  FAILED: "failed", // `problem` says why
});

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  off: ["opening"],
  opening: ["live", "failed", "off", "opening"],
  live: ["failed", "off", "opening"],
  failed: ["opening", "off"],
});

/** @typedef {"insecure" | "unsupported" | "denied" | "not_found" | "in_use" | "lost" | "other"} Problem */

const IDEAL = Object.freeze({ width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } });

export class Camera {
  #video;
  #onState;
  #state = /** @type {string} */ (CameraState.OFF);
  /** @type {Problem | null} */
  #problem = null;
  /** @type {MediaStream | null} */
  #stream = null;
  /** Counts openings, so that the answer to an older one is ignored. */
  #turn = 0;

  /**
   * @param {HTMLVideoElement} video
   * @param {(state: string, problem: Problem | null) => void} onState
   */
  constructor(video, onState) {
    this.#video = video;
    this.#onState = onState;
  }

  get state() {
    return this.#state;
  }

  get problem() {
    return this.#problem;
  }

  /** The id of the running camera; null without one. */
  get deviceId() {
    return this.#stream?.getVideoTracks()[0]?.getSettings().deviceId ?? null;
  }

  /**
   * Opens a camera; the browser may ask the user. Never rejects: an error becomes the state `failed`.
   *
   * @param {string | null} deviceId null: the browser's choice
   */
  async open(deviceId) {
    this.#release();
    const turn = ++this.#turn;
    this.#enter(CameraState.OPENING);
    const problem = whyNoCameras();
    if (problem !== null) {
      this.#enter(CameraState.FAILED, problem);
      return;
    }
    try {
      // Not `exact`: if the camera was unplugged since, the show goes on with another one.
      const wanted = deviceId === null ? IDEAL : { ...IDEAL, deviceId: { ideal: deviceId } };
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      if (turn !== this.#turn) {
        stopAll(stream);
        return;
      }
      this.#stream = stream;
      this.#listen(stream, turn);
      this.#video.srcObject = stream;
      await this.#video.play();
      if (turn === this.#turn) this.#enter(CameraState.LIVE);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#release();
      this.#enter(CameraState.FAILED, problemOf(/** @type {DOMException} */ (error)));
    }
  }

  /** Releases the device; its lamp goes out. */
  close() {
    this.#turn += 1;
    this.#release();
    if (this.#state !== CameraState.OFF) this.#enter(CameraState.OFF);
  }

  /** @returns {Promise<MediaDeviceInfo[]>} without names until the user has once allowed a camera; empty without one */
  async devices() {
    if (whyNoCameras() !== null) return [];
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === "videoinput" && device.deviceId !== "");
  }

  /**
   * @param {MediaStream} stream
   * @param {number} turn
   */
  #listen(stream, turn) {
    // The camera was unplugged, or the permission withdrawn. Our own stop does not fire this event.
    stream.getVideoTracks()[0]?.addEventListener("ended", () => {
      if (turn !== this.#turn) return;
      this.#turn += 1;
      this.#release();
      this.#enter(CameraState.FAILED, "lost");
    });
  }

  #release() {
    if (this.#stream !== null) stopAll(this.#stream);
    this.#stream = null;
    this.#video.srcObject = null;
  }

  /**
   * @param {string} next
   * @param {Problem | null} [problem]
   */
  #enter(next, problem = null) {
    if (!NEXT[this.#state].includes(next)) throw new Error(`camera: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this.#problem = problem;
    this.#onState(next, problem);
  }
}

/** @returns {Problem | null} why this page cannot use any camera */
function whyNoCameras() {
  if (navigator.mediaDevices?.getUserMedia !== undefined) return null;
  // Browsers hide cameras from pages that could have been changed on their way (no https).
  return window.isSecureContext ? "unsupported" : "insecure";
}

/**
 * @param {DOMException} error of `getUserMedia` (its specification lists the names) or `play`
 * @returns {Problem}
 */
function problemOf(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "not_found";
    case "NotReadableError":
    case "AbortError":
      return "in_use";
    default:
      console.warn("camera:", error);
      return "other";
  }
}

/** @param {MediaStream} stream */
function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}
