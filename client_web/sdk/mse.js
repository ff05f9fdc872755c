/**
 * The other way for the picture, where UDP does not get through: the program as fMP4 over `WS /v1/sessions/{id}/watch`
 * into a MediaSource, kept close to its live edge. One attempt; `player.js` makes the next one.
 */

import { RequestError, SceneshiftError } from "./errors.js";

// How far behind the newest frame the picture is played. Less, and every hiccup of TCP is seen.
const TARGET_S = 0.15;
// Further behind it is played faster, imperceptibly; much further behind it jumps.
const CATCH_UP_S = 0.5;
const JUMP_S = 2;
const CATCH_UP_RATE = 1.15;
// Seconds that stay in the buffer behind the picture; a keyframe comes each second, and Safari wants one of them.
const KEPT_S = 4;
// About a minute at 2 Mbit/s. A browser that takes nothing for so long is given up, and begins at a keyframe again.
const MAX_QUEUED_BYTES = 16 * 1024 * 1024;
// Frames come at least five times a second.
const SILENCE_MS = 5000;

export class MsePath {
  #video;
  #url;
  #handlers;
  #over = new AbortController();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {any} a SourceBuffer */
  #buffer = null;
  /** @type {ArrayBuffer[]} bounded: beyond MAX_QUEUED_BYTES the path is given up */
  #queue = [];
  #numQueuedBytes = 0;
  #objectUrl = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silenceTimer;

  /** @param {HTMLVideoElement} video @param {string | null} url @param {import("./types.js").MseHandlers} handlers */
  constructor(video, url, handlers) {
    this.#video = video;
    this.#url = url;
    this.#handlers = handlers;
  }

  open() {
    if (mediaSource() === undefined) {
      this.#lose(new SceneshiftError("no_mse", "this browser cannot play a stream without WebRTC"));
      return;
    }
    if (this.#url === null) {
      this.#lose(new SceneshiftError("no_connection", "there is no session to watch yet"));
      return;
    }
    const socket = new WebSocket(this.#url);
    const { signal } = this.#over;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => this.#receive(data), { signal });
    socket.addEventListener("close", () => this.#lose(lost("the stream was cut")), { signal });
    this.#socket = socket;
    this.#listenForSilence();
  }

  close() {
    this.#over.abort();
    clearTimeout(this.#silenceTimer);
    this.#socket?.close();
    this.#queue = [];
    this.#video.playbackRate = 1;
    URL.revokeObjectURL(this.#objectUrl);
  }

  async statistics() {
    return null;
  }

  async isReceiving() {
    return true; // silence is noticed here
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    this.#listenForSilence();
    if (typeof data !== "string") {
      this.#enqueue(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "stream.started") this.#attach(message);
    else if (message.type === "error") this.#lose(new RequestError(message.error));
  }

  /** @param {import("./types.js").StreamStarted} started */
  #attach({ mime, frame_rate: frameRate }) {
    const Source = mediaSource();
    if (!Source.isTypeSupported(mime)) {
      this.#lose(new SceneshiftError("no_mse", `this browser cannot play ${mime}`));
      return;
    }
    const source = new Source();
    const { signal } = this.#over;
    source.addEventListener("sourceopen", () => this.#begin(source, mime), { once: true, signal });
    this.#handlers.onStarted(frameRate);
    this.#video.addEventListener("loadeddata", () => this.#handlers.onConnected(), { once: true, signal });
    this.#objectUrl = URL.createObjectURL(source);
    // iOS opens a ManagedMediaSource only for an element that is not to be cast elsewhere.
    this.#video.disableRemotePlayback = true;
    this.#video.srcObject = null;
    this.#video.src = this.#objectUrl;
    this.#video.addEventListener("error", () => this.#lose(lost("the stream cannot be decoded")), { signal });
    this.#handlers.onAttached();
  }

  /** @param {MediaSource} source @param {string} mime */
  #begin(source, mime) {
    const buffer = source.addSourceBuffer(mime);
    buffer.addEventListener("updateend", () => this.#appended(), { signal: this.#over.signal });
    this.#buffer = buffer;
    this.#append();
  }

  /** @param {ArrayBuffer} bytes */
  #enqueue(bytes) {
    this.#queue.push(bytes);
    this.#numQueuedBytes += bytes.byteLength;
    if (this.#numQueuedBytes > MAX_QUEUED_BYTES) this.#lose(lost("the browser takes the stream too slowly"));
    else this.#append();
  }

  /** Everything that waits, at once: after a pause that is many frames. */
  #append() {
    const buffer = this.#buffer;
    if (buffer === null || buffer.updating || this.#queue.length === 0) return;
    const bytes = joined(this.#queue, this.#numQueuedBytes);
    try {
      buffer.appendBuffer(bytes);
    } catch (caught) {
      const error = /** @type {Error} */ (caught);
      if (error.name === "QuotaExceededError" && this.#trim(0)) return;
      this.#lose(error);
      return;
    }
    this.#queue = [];
    this.#numQueuedBytes = 0;
  }

  #appended() {
    this.#keepUp();
    if (!this.#trim(KEPT_S)) this.#append();
  }

  /** Lets go of what was shown before so many seconds; whether the buffer is busy with it. @param {number} kept */
  #trim(kept) {
    const buffer = this.#buffer;
    const end = this.#video.currentTime - kept;
    if (buffer.buffered.length === 0 || end - buffer.buffered.start(0) < Math.max(kept, 0.5)) return false;
    buffer.remove(0, end);
    return true;
  }

  #keepUp() {
    const { buffered } = this.#buffer;
    if (buffered.length === 0 || this.#video.seeking) return;
    const start = buffered.start(buffered.length - 1);
    const end = buffered.end(buffered.length - 1);
    const behind = end - this.#video.currentTime;
    // Ahead, before a gap that the server left, or hopelessly behind.
    if (behind < 0 || this.#video.currentTime < start || behind > JUMP_S) {
      this.#video.currentTime = Math.max(start, end - TARGET_S);
      this.#video.playbackRate = 1;
    } else if (behind > CATCH_UP_S) {
      this.#video.playbackRate = CATCH_UP_RATE;
    } else if (behind < CATCH_UP_S / 2) {
      this.#video.playbackRate = 1;
    }
  }

  #listenForSilence() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#lose(lost("the stream fell silent")), SILENCE_MS);
  }

  /** @param {Error} error */
  #lose(error) {
    if (this.#over.signal.aborted) return;
    this.close();
    this.#handlers.onLost(error);
  }
}

/** @param {string} message */
const lost = (message) => new SceneshiftError("picture_lost", message);

/** iPhones have the managed one only. */
const mediaSource = () => /** @type {any} */ (globalThis).ManagedMediaSource ?? globalThis.MediaSource;

/** @param {ArrayBuffer[]} parts @param {number} numBytes */
function joined(parts, numBytes) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(numBytes);
  let offset = 0;
  for (const part of parts) {
    whole.set(new Uint8Array(part), offset);
    offset += part.byteLength;
  }
  return whole;
}
