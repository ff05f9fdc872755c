/**
 * The path for the picture where UDP is blocked: the program as fMP4 over `WS /v1/sessions/{id}/watch` into a
 * MediaSource, kept close to the live edge. An `MsePath` is one attempt; `player.js` makes the next one.
 */

import { RequestError, SceneshiftError } from "./errors.js";

// Playback delay behind the newest frame. With less, every hiccup of TCP is visible.
const TARGET_S = 0.15;
// Beyond the first delay the picture plays imperceptibly faster; beyond the second it jumps.
const CATCH_UP_S = 0.5;
const JUMP_S = 2;
const CATCH_UP_RATE = 1.15;
// Seconds kept in the buffer behind the picture. Safari needs a keyframe there, and one comes each second.
const KEPT_S = 4;
// About a minute at 2 Mbit/s. If the browser takes no data for so long, the path is closed, and the next one begins at
// a keyframe.
const MAX_QUEUED_BYTES = 16 * 1024 * 1024;
// Frames come at least five times a second.
const SILENCE_MS = 5000;

export class MsePath {
  #video;
  #dial;
  #handlers;
  #over = new AbortController();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {any} a SourceBuffer */
  #buffer = null;
  /** @type {ArrayBuffer[]} bounded: beyond MAX_QUEUED_BYTES the path is closed */
  #queue = [];
  #numQueuedBytes = 0;
  #objectUrl = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silenceTimer;

  /** @param {HTMLVideoElement} video @param {() => WebSocket | null} dial @param {import("./types.js").MseHandlers} handlers */
  constructor(video, dial, handlers) {
    this.#video = video;
    this.#dial = dial;
    this.#handlers = handlers;
  }

  open() {
    if (mediaSource() === undefined) {
      this.#lose(new SceneshiftError("no_mse", "this browser cannot play a stream without WebRTC"));
      return;
    }
    const socket = this.#dial();
    if (socket === null) {
      this.#lose(new SceneshiftError("no_connection", "there is no session to watch yet"));
      return;
    }
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
    return true; // otherwise the silence timer has closed the path
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
    // iOS opens a ManagedMediaSource only if the element disables remote playback.
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

  /** Appends the whole queue at once, because after a pause it holds many frames. */
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

  /**
   * Removes frames shown more than `kept` seconds ago. Returns whether it removes any, which keeps the buffer busy.
   *
   * @param {number} kept
   */
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
    // Ahead of the buffer, before a gap that the server left, or too far behind.
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

/** iPhones have only ManagedMediaSource. */
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
