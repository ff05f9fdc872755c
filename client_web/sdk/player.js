/**
 * The program on a `<video>`, for as long as it is wanted: over WebRTC, or where UDP does not get through, as fMP4 over a
 * WebSocket. Opens again what fails, holds the last picture meanwhile. `rtc.js` and `mse.js` are one attempt each.
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
  // will be opened again after a while
  FAILED: "failed",
  // nobody looks; nothing is received
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

// ICE needs longer to notice that nobody is there; the eye does not.
const STALLED_MS = 2000;
// A path that lasted so long was a good one: the next attempt is the first again.
const SETTLED_MS = 10_000;
// So many losses in a row are the path's fault, and it is the other one's turn.
const MAX_LOSSES = 2;
// Faults of a path as such: waiting would not mend them.
const USELESS = ["udp_blocked", "no_webrtc", "no_mse", "no_video_codec"];
// After so long, and ever more rarely, it is looked whether UDP gets through by now.
const PROBE_MS = 30_000;
const LONGEST_PROBE_MS = 960_000;
const GRACE_MS = 5000;

/**
 * Events: `state`, `frame`, `stalled` after two seconds without a frame, `error` (what failed is tried again).
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
  /** Counts what was opened: whoever has waited sees whether it was for nothing. */
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
    this.#canMse = settings.watchUrl !== undefined;
  }

  get state() {
    return this.#state;
  }

  /** What the picture comes over, or is being opened over. */
  get transport() {
    return this.#transport;
  }

  /** Opens, or opens anew. What goes wrong is reported, and tried again. */
  open() {
    clearTimeout(this.#timers.pause);
    this.#drop();
    this.#enter("negotiating");
    if (this.#transport === "mse") void this.#openMse();
    else this.#openRtc();
  }

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

  /** Nobody looks: after a grace nothing is received any more. The last picture stays. */
  pause() {
    if (this.#state === "closed" || this.#state === "paused") return;
    this.#after("pause", this.#settings.graceMs, () => {
      this.#drop();
      this.#enter("paused");
    });
  }

  resume() {
    clearTimeout(this.#timers.pause);
    if (this.#state === "paused") this.open();
  }

  /** What the video shows now, as a JPEG data URI; null before the first frame. @param {number} [width] @returns {string | null} */
  picture(width = this.#video.videoWidth) {
    const { videoWidth, videoHeight } = this.#video;
    // a source that has ended is drawn black
    if (this.#path === null || videoWidth === 0) return this.#held;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.round((width * videoHeight) / videoWidth);
    canvas.getContext("2d")?.drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.8);
  }

  /** null without WebRTC. @returns {Promise<RTCStatsReport | null>} */
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
        // A held picture stays until there is another one behind it.
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
      // most viewers never need it
      const { MsePath } = await import("./mse.js");
      if (this.#attempt !== attempt) return;
      const path = new MsePath(this.#video, this.#settings.watchUrl?.() ?? null, {
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

  /** Turns to the other transport if it is its turn. Errors of the signalling say nothing about either. @param {string} code */
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

  /** WebRTC is faster, and adapts. */
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

  /** Chromium blackens a stream that has ended, and the next source empties the element: the last picture is its poster. */
  #hold() {
    const { srcObject } = this.#video;
    const picture = this.#path === null ? null : this.picture();
    if (picture === null) return;
    this.#held = this.#video.poster = picture;
    const image = new Image();
    image.src = picture;
    const detach = () => srcObject && this.#video.srcObject === srcObject && (this.#video.srcObject = null);
    // where a page forbids data URIs, there is no poster either
    image.decode().then(detach, () => {});
  }

  #play() {
    // Muted autoplay is allowed everywhere; a refusal all the same (power saving) leaves the browser's own play button.
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
      // A hidden page shows no frames either: only a path on which nothing comes is lost.
      const isReceiving = (await path?.isReceiving()) ?? true;
      if (this.#path !== path || this.#state !== "playing") return;
      if (isReceiving) this.#watchForStall();
      else this.#lost(new SceneshiftError("picture_lost", "no picture comes any more"));
    });
  }
}
