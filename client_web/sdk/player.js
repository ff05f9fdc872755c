/**
 * Shows the program on a `<video>`: over WebRTC, or where UDP is blocked, as fMP4 over a WebSocket. Reopens a lost path
 * and shows the last picture meanwhile. `rtc.js` and `mse.js` make one attempt each.
 */

/** @import { PlayerHandlers, PlayerSettings, Signalling, ViewerEvents, ViewerState } from "./types.js" */

import { Emitter, emit } from "./emitter.js";
import { SceneshiftError } from "./errors.js";
import { RtcPath } from "./rtc.js";
import { Backoff, checkMove } from "./states.js";

export const PlayerState = Object.freeze({
  CLOSED: "closed",
  // a path is being opened
  NEGOTIATING: "negotiating",
  // connected
  PLAYING: "playing",
  // lost; a timer opens the next path
  FAILED: "failed",
  // the page is out of sight; nothing is received
  PAUSED: "paused",
});

/** @type {Readonly<Record<ViewerState, readonly ViewerState[]>>} */
const NEXT = Object.freeze({
  closed: ["negotiating"],
  negotiating: ["playing", "failed", "paused", "closed", "negotiating"],
  playing: ["failed", "paused", "closed", "negotiating"],
  failed: ["negotiating", "paused", "closed"],
  paused: ["negotiating", "closed"],
});

// ICE takes longer than this to notice a dead path; the eye does not.
const STALLED_MS = 2000;
// A path that lasted this long was good: the back-off starts again at its first wait.
const SETTLED_MS = 10_000;
// After so many losses in a row the player switches to the other transport.
const MAX_LOSSES = 2;
// Errors of the transport itself: waiting does not fix them.
const USELESS = ["udp_blocked", "no_webrtc", "no_mse", "no_video_codec"];
// While MSE plays, WebRTC is tried again after this wait plus a random one that grows up to the longest.
const PROBE_MS = 30_000;
const LONGEST_PROBE_MS = 960_000;
const GRACE_MS = 5000;

/**
 * A viewer of a program, made by `watch()` or `session.attach()`. It reopens a lost path until it is closed.
 *
 * Events: `state`, `frame`, `stalled` (no frame for two seconds) and `error` (a failed path, which is reopened, or a
 * refused autoplay).
 *
 * @extends {Emitter<ViewerEvents>}
 */
export class Player extends Emitter {
  #video;
  #poster;
  #signalling;
  #settings;
  #backoff;
  #probeBackoff;
  /** @type {ViewerState} */
  #state = "closed";
  /** @type {"webrtc" | "mse"} */
  #transport;
  /** @type {RtcPath | import("./mse.js").MsePath | null} */
  #path = null;
  /** @type {RtcPath | null} tried in the background while MSE plays */
  #probe = null;
  /** Counts attempts, so that code after an `await` can see that its attempt is over. */
  #attempt = 0;
  #numLosses = 0;
  #playingSince = 0;
  #canMse;
  #frameRate = 0;
  #frameCallback = 0;
  /** @type {string | null} */
  #held = null;
  /** @type {Record<string, any>} */
  #timers = {};

  /**
   * @param {HTMLVideoElement} video
   * @param {Signalling} signalling
   * @param {PlayerHandlers} [handlers]
   * @param {PlayerSettings} [settings]
   */
  constructor(video, signalling, handlers, settings = {}) {
    super(/** @type {Record<string, any>} */ (handlers));
    this.#video = video;
    this.#poster = video.poster;
    this.#signalling = signalling;
    const { random = Math.random, transport = "auto", graceMs = GRACE_MS } = settings;
    this.#settings = { ...settings, transport, graceMs };
    this.#backoff = new Backoff(random);
    this.#probeBackoff = new Backoff(random, PROBE_MS, LONGEST_PROBE_MS);
    this.#transport = transport === "mse" ? "mse" : "webrtc";
    this.#canMse = settings.openWatch !== undefined;
  }

  get state() {
    return this.#state;
  }

  /** The transport of the current path, or of the one being opened. */
  get transport() {
    return this.#transport;
  }

  /** Opens the picture, or reopens it. A failed attempt is an `error` event, and the next one follows by itself. */
  open() {
    clearTimeout(this.#timers.pause);
    this.#drop();
    this.#enter("negotiating");
    if (this.#transport === "mse") void this.#openMse();
    else this.#openRtc();
  }

  /** Stops watching and empties the video. `open` starts again. */
  close() {
    clearTimeout(this.#timers.pause);
    this.#drop();
    this.#video.cancelVideoFrameCallback?.(this.#frameCallback);
    this.#frameCallback = 0;
    this.#video.srcObject = null;
    this.#video.removeAttribute("src");
    this.#video.load();
    this.#video.poster = this.#poster;
    this.#held = null;
    if (this.#state !== "closed") this.#enter("closed");
  }

  /** For a page out of sight: stops receiving after `graceMs` milliseconds. The last picture stays. */
  pause() {
    if (this.#state === "closed" || this.#state === "paused") return;
    this.#after("pause", this.#settings.graceMs, () => {
      this.#drop();
      this.#enter("paused");
    });
  }

  /** Ends a pause, or cancels one that has not begun. */
  resume() {
    clearTimeout(this.#timers.pause);
    if (this.#state === "paused") this.open();
  }

  /**
   * The current picture as a JPEG data URI; null before the first frame.
   *
   * @param {number} [width] in pixels; default: the video's
   * @returns {string | null}
   */
  picture(width = this.#video.videoWidth) {
    const { videoWidth, videoHeight } = this.#video;
    // an ended source is drawn black
    if (this.#path === null || videoWidth === 0) return this.#held;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.round((width * videoHeight) / videoWidth);
    canvas.getContext("2d")?.drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.8);
  }

  /** The statistics of the WebRTC path; null over MSE or without a path. @returns {Promise<RTCStatsReport | null>} */
  async statistics() {
    return this.#path?.statistics() ?? null;
  }

  /** @param {ViewerState} next */
  #enter(next) {
    checkMove("player", NEXT, this.#state, next);
    this.#state = next;
    this[emit]("state", next);
  }

  // --- paths

  #openRtc() {
    const path = this.#makeRtc((stream) => {
      if (this.#video.srcObject !== stream) this.#show(stream);
      this.#connected();
    });
    this.#path = path;
    path.open();
  }

  /** @param {(stream: MediaStream) => void} onConnected */
  #makeRtc(onConnected) {
    /** @type {MediaStream} */
    let stream;
    /** @type {RtcPath} */
    const path = new RtcPath(this.#signalling, {
      onStream: (received) => {
        stream = received;
        // A held picture stays until the new path is connected.
        const isEmpty = this.#video.videoWidth === 0 && this.#video.srcObject !== stream;
        if (this.#path === path && isEmpty) this.#show(stream);
      },
      onConnected: () => {
        if (this.#path === path || this.#probe === path) onConnected(stream);
      },
      onLost: (error) => {
        if (this.#path === path) this.#lost(error);
        else if (this.#probe === path) this.#probeLater();
      },
    });
    return path;
  }

  async #openMse() {
    const attempt = this.#attempt;
    try {
      // loaded on demand, because most viewers never need it
      const { MsePath } = await import("./mse.js");
      if (this.#attempt !== attempt) return;
      const path = new MsePath(this.#video, this.#settings.openWatch ?? (() => null), {
        onStarted: (frameRate) => (this.#frameRate = frameRate),
        onAttached: () => this.#play(),
        onConnected: () => this.#connected(),
        onLost: (error) => this.#path === path && this.#lost(error),
      });
      this.#path = path;
      path.open();
    } catch (error) {
      if (this.#attempt === attempt) this.#lost(/** @type {Error} */ (error));
    }
  }

  #connected() {
    if (this.#state !== "negotiating") return;
    this.#playingSince = performance.now();
    this.#enter("playing");
    this.#watchForStall();
    if (this.#transport === "mse" && this.#settings.transport === "auto") this.#probeLater();
  }

  /** @param {Error & {code?: string}} error */
  #lost(error) {
    if (this.#state === "playing" && performance.now() - this.#playingSince > SETTLED_MS) {
      this.#backoff.reset();
      this.#numLosses = 0;
    }
    this.#drop();
    const isUseless = USELESS.includes(error.code ?? "");
    const isSwitched = this.#switchAfter(error.code ?? "");
    this.#after("reopen", isUseless && isSwitched ? 0 : this.#backoff.next(), () => this.open());
    this.#enter("failed");
    this[emit]("error", error);
  }

  /**
   * Switches to the other transport after a useless path or repeated losses, and returns whether it did. Signalling
   * errors do not count, because they say nothing about the transport.
   *
   * @param {string} code
   */
  #switchAfter(code) {
    if (code === "no_mse") this.#canMse = false;
    if (USELESS.includes(code)) this.#numLosses = MAX_LOSSES;
    else if (code === "picture_lost") this.#numLosses += 1;
    const isRtc = this.#transport === "webrtc";
    if (this.#numLosses < MAX_LOSSES || this.#settings.transport !== "auto" || (isRtc && !this.#canMse)) return false;
    this.#numLosses = 0;
    this.#transport = isRtc ? "mse" : "webrtc";
    return true;
  }

  /** Tries WebRTC in the background while MSE plays, because WebRTC is faster and adapts. */
  #probeLater() {
    this.#after("probe", PROBE_MS + this.#probeBackoff.next(), () => {
      const probe = this.#makeRtc((stream) => {
        if (this.#path === probe) return;
        this.#probe = null;
        this.#drop();
        this.#path = probe;
        this.#transport = "webrtc";
        this.#probeBackoff.reset();
        this.#enter("negotiating");
        this.#show(stream);
        this.#connected();
      });
      this.#probe = probe;
      probe.open();
    });
  }

  #drop() {
    this.#attempt += 1;
    this.#hold();
    for (const name of ["reopen", "stall", "probe"]) clearTimeout(this.#timers[name]);
    const paths = [this.#path, this.#probe];
    this.#path = this.#probe = null;
    for (const path of paths) path?.close();
  }

  /** @param {string} name @param {number} delay milliseconds @param {() => void} act */
  #after(name, delay, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(act, delay);
  }

  // --- the glass

  /** @param {MediaStream} stream */
  #show(stream) {
    this.#video.removeAttribute("src");
    this.#video.srcObject = stream;
    this.#play();
  }

  /** Keeps the last picture as poster: Chromium shows an ended stream black, and a new source empties the element. */
  #hold() {
    const { srcObject } = this.#video;
    const picture = this.#path === null ? null : this.picture();
    if (picture === null) return;
    this.#held = this.#video.poster = picture;
    const image = new Image();
    image.src = picture;
    const detach = () => srcObject && this.#video.srcObject === srcObject && (this.#video.srcObject = null);
    // If the page forbids data URIs, the poster fails too, and the old stream stays.
    image.decode().then(detach, () => {});
  }

  #play() {
    // Browsers allow muted autoplay. If one refuses all the same (power saving), it shows its own play button.
    this.#video.play().catch((error) => error.name !== "AbortError" && this[emit]("error", error));
    if (this.#frameCallback === 0 && "requestVideoFrameCallback" in this.#video) this.#awaitFrame();
  }

  #awaitFrame() {
    this.#frameCallback = this.#video.requestVideoFrameCallback((_now, metadata) => {
      this.#awaitFrame();
      if (this.#state === "playing") this.#watchForStall();
      const isMse = this.#transport === "mse";
      this[emit]("frame", {
        rtpTimestamp: metadata.rtpTimestamp,
        frameIndex: isMse ? Math.round(metadata.mediaTime * this.#frameRate) : undefined,
        shownAt: metadata.expectedDisplayTime,
        presentedFrames: metadata.presentedFrames,
      });
    });
  }

  #watchForStall() {
    this.#after("stall", STALLED_MS, async () => {
      const path = this.#path;
      this[emit]("stalled");
      // A hidden page shows no frames either, so a path is lost only if it also receives nothing.
      const isReceiving = (await path?.isReceiving()) ?? true;
      if (this.#path !== path || this.#state !== "playing") return;
      if (isReceiving) this.#watchForStall();
      else this.#lost(new SceneshiftError("picture_lost", "no picture comes any more"));
    });
  }
}
