/**
 * The program on a `<video>`, for as long as it is wanted: over WebRTC, or where UDP does not get through, as fMP4 over a
 * WebSocket. Opens again when a path fails, holds the last picture meanwhile, and reports each shown frame.
 * `rtc.js` and `mse.js` are one attempt each; this is what stays.
 *
 * @module player
 */

import { Backoff } from "./backoff.js";
import { SceneshiftError } from "./errors.js";
import { RtcPath } from "./rtc.js";

export const PlayerState = Object.freeze({
  CLOSED: "closed",
  NEGOTIATING: "negotiating", // a path is being opened
  PLAYING: "playing", // connected
  FAILED: "failed", // will be opened again after a while
  PAUSED: "paused", // nobody looks; nothing is received
});

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  closed: ["negotiating"],
  negotiating: ["playing", "failed", "paused", "closed", "negotiating"],
  playing: ["failed", "paused", "closed", "negotiating"],
  failed: ["negotiating", "paused", "closed"],
  paused: ["negotiating", "closed"],
});

export const Transport = Object.freeze({ WEBRTC: "webrtc", MSE: "mse" });

// ICE needs longer to notice that nobody is there; the eye does not.
const STALLED_MS = 2000;
// A path that lasted so long was a good one: the next attempt is the first again.
const SETTLED_MS = 10_000;
// So many losses in a row are the path's fault, and the other one's turn.
const MAX_LOSSES = 2;
// Whether UDP gets through by now: each probe costs the server an answer.
const FIRST_PROBE_MS = 60_000;
const LONGEST_PROBE_MS = 960_000;
const GRACE_MS = 5000;
// Faults of a path as such: waiting would not mend them.
const USELESS = ["udp_blocked", "no_webrtc", "no_mse", "no_h264"];

/** @typedef {import("./rtc.js").Signalling} Signalling */

/**
 * @typedef {object} ShownFrame
 * @property {number | undefined} rtpTimestamp 90 kHz, as in the packet; only over WebRTC
 * @property {number | undefined} frameIndex of the program; only over MSE
 * @property {number} shownAt when it is on the glass, on the clock of `performance.now()`
 * @property {number} presentedFrames how many the browser has shown so far
 */

/**
 * @typedef {object} PlayerHandlers
 * @property {(state: string) => void} onState
 * @property {(frame: ShownFrame) => void} onFrame
 * @property {() => void} [onStalled] no frame has come for two seconds
 * @property {(error: Error) => void} onError
 */

/**
 * @typedef {object} PlayerSettings
 * @property {() => string | null} [watchUrl] the WebSocket of the program's fMP4; without one there is only WebRTC
 * @property {"auto" | "webrtc" | "mse"} [transport]
 * @property {() => number} [random]
 * @property {number} [graceMs] from `pause` until the path is closed
 */

/** @typedef {{open: () => void, close: () => void, statistics: () => Promise<RTCStatsReport | null>, isReceiving: () => Promise<boolean>}} Path */

export class Player {
  #video;
  #signalling;
  #handlers;
  #settings;
  #backoff;
  #probeBackoff;
  #state = /** @type {string} */ (PlayerState.CLOSED);
  #transport;
  /** @type {Path | null} */
  #path = null;
  /** @type {RtcPath | null} tried in the background while the other path plays */
  #probe = null;
  #numLosses = 0;
  #playingSince = 0;
  #canMse = true;
  #frameRate = 0;
  /** @type {Record<"reopen" | "stall" | "probe" | "pause", ReturnType<typeof setTimeout> | undefined>} */
  #timers = { reopen: undefined, stall: undefined, probe: undefined, pause: undefined };
  #frameCallback = 0;
  /** Counts what was opened: whoever has waited sees whether it was for nothing. */
  #attempt = 0;
  #poster;

  /**
   * @param {HTMLVideoElement} video
   * @param {Signalling} signalling
   * @param {PlayerHandlers} handlers
   * @param {PlayerSettings} [settings]
   */
  constructor(video, signalling, handlers, settings = {}) {
    this.#video = video;
    this.#poster = video.poster;
    this.#signalling = signalling;
    this.#handlers = handlers;
    this.#settings = settings;
    const random = settings.random ?? Math.random;
    this.#backoff = new Backoff(random);
    this.#probeBackoff = new Backoff(random, FIRST_PROBE_MS, LONGEST_PROBE_MS);
    this.#transport = settings.transport === "mse" ? Transport.MSE : Transport.WEBRTC;
  }

  get state() {
    return this.#state;
  }

  /** @returns {string} what the picture comes over, or is being opened over */
  get transport() {
    return this.#transport;
  }

  /** Opens, or opens anew. What goes wrong is reported, and tried again. */
  open() {
    clearTimeout(this.#timers.pause);
    this.#drop();
    this.#enter(PlayerState.NEGOTIATING);
    if (this.#transport === Transport.MSE) void this.#openMse();
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
    if (this.#state !== PlayerState.CLOSED) this.#enter(PlayerState.CLOSED);
  }

  /** Nobody looks: after a grace nothing is received any more. The last picture stays. */
  pause() {
    if (this.#state === PlayerState.CLOSED || this.#state === PlayerState.PAUSED) return;
    clearTimeout(this.#timers.pause);
    this.#timers.pause = setTimeout(() => {
      this.#drop();
      this.#enter(PlayerState.PAUSED);
    }, this.#settings.graceMs ?? GRACE_MS);
  }

  resume() {
    clearTimeout(this.#timers.pause);
    if (this.#state === PlayerState.PAUSED) this.open();
  }

  /**
   * What the video shows now, small, as a JPEG data URI; null before the first frame.
   *
   * @param {number} width
   * @returns {string | null}
   */
  picture(width) {
    const { videoWidth, videoHeight } = this.#video;
    if (videoWidth === 0) return null;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.round((width * videoHeight) / videoWidth);
    canvas.getContext("2d")?.drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.8);
  }

  /** @returns {Promise<RTCStatsReport | null>} null without WebRTC */
  async statistics() {
    return this.#path === null ? null : this.#path.statistics();
  }

  /** @param {string} next */
  #enter(next) {
    if (!NEXT[this.#state].includes(next)) throw new Error(`player: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this.#handlers.onState(next);
  }

  // --- paths ----------------------------------------------------------------------------------------------------

  #openRtc() {
    /** @type {MediaStream | null} */
    let stream = null;
    /** @type {RtcPath} */
    const path = new RtcPath(this.#signalling, {
      onStream: (received) => {
        stream = received;
        // While an old picture is held, the new one has to be there before it.
        if (this.#path === path && this.#video.videoWidth === 0) this.#show(received);
      },
      onConnected: () => {
        if (this.#path !== path) return;
        if (stream !== null && this.#video.srcObject !== stream) this.#show(stream);
        this.#connected();
      },
      onLost: (error) => this.#path === path && this.#lost(error),
    });
    this.#path = path;
    path.open();
  }

  async #openMse() {
    const attempt = this.#attempt;
    try {
      // Most viewers never need it.
      const { MsePath } = await import("./mse.js");
      if (this.#attempt !== attempt) return;
      /** @type {Path} */
      const path = new MsePath(this.#video, this.#settings.watchUrl?.() ?? null, {
        onStarted: (frameRate) => {
          this.#frameRate = frameRate;
          this.#hold();
        },
        onAttached: () => this.#play(),
        onConnected: () => this.#path === path && this.#connected(),
        onLost: (error) => this.#path === path && this.#lost(error),
      });
      this.#path = path;
      path.open();
    } catch (error) {
      if (this.#attempt === attempt) this.#lost(/** @type {Error} */ (error));
    }
  }

  #connected() {
    if (this.#state !== PlayerState.NEGOTIATING) return;
    this.#playingSince = performance.now();
    this.#enter(PlayerState.PLAYING);
    this.#watchForStall();
    if (this.#transport === Transport.MSE && this.#settings.transport !== "mse") this.#probeLater();
  }

  /** @param {Error} error */
  #lost(error) {
    if (this.#state === PlayerState.PLAYING && performance.now() - this.#playingSince > SETTLED_MS) {
      this.#backoff.reset();
      this.#numLosses = 0;
    }
    this.#drop();
    const code = /** @type {{code?: string}} */ (error).code ?? "";
    const isOver = this.#turnOver(code);
    this.#enter(PlayerState.FAILED);
    this.#handlers.onError(error);
    if (this.#state !== PlayerState.FAILED) return; // whoever was told has opened or closed it
    const delay = isOver && USELESS.includes(code) ? 0 : this.#backoff.next();
    this.#timers.reopen = setTimeout(() => this.open(), delay);
  }

  /**
   * Whose turn it is after a path was lost. Errors in signalling say nothing about a path.
   *
   * @param {string} code of the error
   * @returns {boolean} whether it is the other one's
   */
  #turnOver(code) {
    if (code === "no_mse") this.#canMse = false;
    if ((this.#settings.transport ?? "auto") !== "auto") return false;
    const isRtc = this.#transport === Transport.WEBRTC;
    if (isRtc && !(this.#canMse && this.#settings.watchUrl)) return false;
    if (USELESS.includes(code)) this.#numLosses = MAX_LOSSES;
    else if (code === "picture_lost") this.#numLosses += 1;
    if (this.#numLosses < MAX_LOSSES) return false;
    this.#numLosses = 0;
    this.#transport = isRtc ? Transport.MSE : Transport.WEBRTC;
    return true;
  }

  /** WebRTC is faster and adapts: now and then it is looked whether it gets through by now. */
  #probeLater() {
    clearTimeout(this.#timers.probe);
    this.#timers.probe = setTimeout(() => this.#probeRtc(), FIRST_PROBE_MS / 2 + this.#probeBackoff.next());
  }

  #probeRtc() {
    /** @type {MediaStream | null} */
    let stream = null;
    const probe = new RtcPath(this.#signalling, {
      onStream: (received) => (stream = received),
      onConnected: () => {
        if (this.#probe !== probe || stream === null) return;
        this.#probe = null;
        this.#drop();
        this.#path = probe;
        this.#transport = Transport.WEBRTC;
        this.#probeBackoff.reset();
        this.#enter(PlayerState.NEGOTIATING);
        this.#show(stream);
        this.#connected();
      },
      onLost: (error) => {
        if (this.#path === probe) this.#lost(error);
        else if (this.#probe === probe) this.#probeLater();
      },
    });
    this.#probe = probe;
    probe.open();
  }

  #drop() {
    this.#attempt += 1;
    clearTimeout(this.#timers.reopen);
    clearTimeout(this.#timers.stall);
    clearTimeout(this.#timers.probe);
    const paths = [this.#path, this.#probe];
    this.#path = this.#probe = null;
    for (const path of paths) path?.close();
  }

  // --- the glass ------------------------------------------------------------------------------------------------

  /** @param {MediaStream} stream */
  #show(stream) {
    this.#hold();
    this.#video.removeAttribute("src");
    this.#video.srcObject = stream;
    this.#play();
  }

  /** A new source empties the element until its first frame: the last picture is its poster meanwhile. */
  #hold() {
    const last = this.picture(this.#video.videoWidth);
    if (last !== null) this.#video.poster = last;
  }

  #play() {
    // Muted autoplay is allowed everywhere; a refusal all the same (power saving) leaves the browser's own play button.
    this.#video.play().catch((error) => {
      if (error.name !== "AbortError") this.#handlers.onError(error);
    });
    if (this.#frameCallback === 0 && "requestVideoFrameCallback" in this.#video) this.#awaitFrame();
  }

  #awaitFrame() {
    this.#frameCallback = this.#video.requestVideoFrameCallback((now, metadata) => {
      this.#awaitFrame();
      this.#frame(metadata);
    });
  }

  /** @param {VideoFrameCallbackMetadata} metadata */
  #frame(metadata) {
    if (this.#state === PlayerState.PLAYING) this.#watchForStall();
    const isMse = this.#transport === Transport.MSE;
    this.#handlers.onFrame({
      rtpTimestamp: metadata.rtpTimestamp,
      frameIndex: isMse ? Math.round(metadata.mediaTime * this.#frameRate) : undefined,
      shownAt: metadata.expectedDisplayTime,
      presentedFrames: metadata.presentedFrames,
    });
  }

  #watchForStall() {
    clearTimeout(this.#timers.stall);
    this.#timers.stall = setTimeout(() => void this.#stalled(), STALLED_MS);
  }

  /** A hidden page shows no frames either: only a path on which nothing comes is lost. */
  async #stalled() {
    this.#handlers.onStalled?.();
    const path = this.#path;
    const isReceiving = (await path?.isReceiving()) ?? true;
    if (this.#path !== path || path === null || this.#state !== PlayerState.PLAYING) return;
    if (isReceiving) this.#watchForStall();
    else this.#lost(new SceneshiftError("picture_lost", "no picture comes any more"));
  }
}
