/**
 * The measuring page of `bench glass`. It uses the product's own connection and player, and reads the number of each
 * shown frame from its marker on a canvas. `bench/live/glass.py` drives it through `window.glassBench`.
 *
 * @module glass_page
 */

/** @import { ServerMessage, SessionOptions, ShownFrame } from "/client/sdk/types.js" */

import { Address } from "/client/sdk/address.js";
import { Connection } from "/client/sdk/connection.js";
import { ClientType, ServerType } from "/client/sdk/messages.js";
import { Player } from "/client/sdk/player.js";

const ENDS = [
  ServerType.PROMPT_APPLIED,
  ServerType.PROMPT_SUPERSEDED,
  ServerType.PROMPT_CANCELLED,
  ServerType.PROMPT_REJECTED,
  ServerType.PROMPT_FAILED,
];
// The marker's layout: see server/media/video/marker.py.
const SYNC = "1010";
const NUM_CELLS = 32;
const NUM_CHECK_BITS = 4;
const CHECK_SEED = 0b0101;
const FIRST_FRAMES = 48;
const LINGER_MS = 2000;

class Bench {
  #video = /** @type {HTMLVideoElement} */ (document.querySelector("video"));
  #canvas = /** @type {CanvasRenderingContext2D} */ (
    document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  );
  #connection;
  #player;
  /**
   * Every shown frame: [frame number or null, shown at, frames presented so far, milliseconds of reading].
   *
   * @type {[number | null, number, number, number][]}
   */
  #frames = [];
  /** Every event that is not statistics. @type {{at: number, message: ServerMessage}[]} */
  #events = [];
  /** @type {ServerMessage | null} */
  #stats = null;
  /** Every second: [since the page began, frames due, of these in time, longest gap so far]. @type {number[][]} */
  #seconds = [];
  /** @type {ServerMessage | null} */
  #created = null;
  /** @type {string[]} */
  #errors = [];
  /** Every prompt. @type {{promptId: string, text: string, at: number}[]} */
  #sent = [];
  /** Pending waits, checked at each event and each frame. @type {{matches: () => boolean, resolve: () => void}[]} */
  #waiting = [];

  /** @param {SessionOptions} options */
  constructor(options) {
    const address = new Address(location.origin);
    this.#connection = new Connection(
      () => address.openSocket("/v1/realtime"),
      () => options,
      {
        onState: () => {},
        onSession: (_isResumed, created) => {
          this.#created = created;
          void this.#player.open();
        },
        onMessage: (message) => this.#receive(message),
        onError: (error) => this.#errors.push(String(error)),
      },
    );
    /** @type {import("/client/sdk/types.js").Signalling} */
    const signalling = {
      offer: async (sdp) => (await this.#connection.request({ type: ClientType.WEBRTC_OFFER, sdp })).sdp,
      candidate: (candidate) =>
        this.#connection.send({
          type: ClientType.WEBRTC_CANDIDATE,
          candidate: candidate?.candidate ?? "",
          sdp_mid: candidate?.sdpMid ?? null,
          sdp_mline_index: candidate?.sdpMLineIndex ?? null,
        }),
    };
    this.#player = new Player(this.#video, signalling, {
      onState: () => {},
      onFrame: (frame) => this.#shown(frame),
      onError: (error) => this.#errors.push(String(error)),
    });
  }

  /** Resolves when frames with readable numbers arrive and the engine is ready. */
  async open() {
    this.#connection.open();
    await this.#until(() => this.#frames.filter(([index]) => index !== null).length >= FIRST_FRAMES);
    await this.#until(() => this.#stats?.engine === "ready");
    this.#frames = [];
  }

  /**
   * Sends the prompts one after the other, each `delayMs` after the end of the one before. A prompt without an end
   * within `limitMs` is superseded by the next. Resolves with everything measured so far, also in earlier runs.
   *
   * @param {{text: string, delayMs: number}[]} plan
   * @param {number} limitMs
   */
  async run(plan, limitMs) {
    for (const { text, delayMs } of plan) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      const promptId = `glass-${this.#sent.length}`;
      this.#sent.push({ promptId, text, at: performance.now() });
      if (!this.#connection.send({ type: ClientType.PROMPT_SET, prompt_id: promptId, text }))
        throw new Error("cut off");
      const limit = new Promise((resolve) => setTimeout(resolve, limitMs));
      await Promise.race([this.#onGlass(promptId), limit]);
    }
    // A second end, or a late frame, would come now.
    await new Promise((resolve) => setTimeout(resolve, LINGER_MS));
    return {
      sent: this.#sent,
      receiver: await this.#receiver(),
      events: this.#events,
      frames: this.#frames,
      seconds: this.#seconds,
      stats: this.#stats,
      created: this.#created,
      errors: this.#errors,
    };
  }

  close() {
    this.#player.close();
    this.#connection.close();
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    if (message.type === ServerType.STATS_UPDATED) {
      this.#stats = message;
      const inTime = Math.round(message.frames_due * message.continuous_play_ratio);
      this.#seconds.push([performance.now(), message.frames_due, inTime, message.max_gap_ms]);
    } else {
      // The pictures are not needed here and would make the result large.
      this.#events.push({ at: performance.now(), message: { ...message, picture: undefined } });
    }
    this.#wake();
  }

  /** @param {ShownFrame} frame */
  #shown(frame) {
    const startedAt = performance.now();
    const index = this.#readMarker();
    this.#frames.push([index, frame.shownAt, frame.presentedFrames, performance.now() - startedAt]);
    this.#wake();
  }

  /** The frame number in the picture that the video shows now, or null. */
  #readMarker() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (width === 0) return null;
    const numRows = width >= 512 ? 1 : width >= 256 ? 2 : 4;
    const columns = NUM_CELLS / numRows;
    const cellHeight = Math.max(16, 2 * Math.floor(height / 40));
    const stripHeight = numRows * cellHeight;
    const context = this.#canvas;
    if (context.canvas.width !== width) Object.assign(context.canvas, { width, height: stripHeight });
    context.drawImage(this.#video, 0, height - stripHeight, width, stripHeight, 0, 0, width, stripHeight);
    const pixels = context.getImageData(0, 0, width, stripHeight).data;
    let bits = "";
    for (let cell = 0; cell < NUM_CELLS; cell += 1) {
      const x = Math.floor(((cell % columns) + 0.5) * (width / columns));
      const y = Math.floor((Math.floor(cell / columns) + 0.5) * cellHeight);
      bits += brightness(pixels, width, x, y) > 127 ? "1" : "0";
    }
    return decodeBits(bits);
  }

  /** The browser's own counters, such as the standard's freezeCount, totalFreezesDuration and framesDropped. */
  async #receiver() {
    const report = await this.#player.statistics();
    const inbound = [...(report?.values() ?? [])].find((each) => each.type === "inbound-rtp" && each.kind === "video");
    const counts = ["framesDecoded", "framesDropped", "freezeCount", "totalFreezesDuration"];
    const names = [...counts, "packetsLost", "pliCount", "nackCount", "keyFramesDecoded"];
    return Object.fromEntries(names.map((name) => [name, inbound?.[name] ?? null]));
  }

  /** Resolves when the prompt has ended and its picture, if it has one, has been shown. @param {string} promptId */
  async #onGlass(promptId) {
    await this.#until(() => this.#endsOf(promptId).length > 0);
    const last = this.#endsOf(promptId)[0].message.frame?.frame_index ?? 0;
    await this.#until(() => (this.#frames.at(-1)?.[0] ?? 0) >= last);
  }

  /** @param {string} promptId */
  #endsOf(promptId) {
    return this.#events.filter(
      ({ message }) => message.prompt_id === promptId && ENDS.some((end) => end === message.type),
    );
  }

  /** @param {() => boolean} matches @returns {Promise<void>} */
  #until(matches) {
    return new Promise((resolve) => {
      this.#waiting.push({ matches, resolve });
      this.#wake();
    });
  }

  #wake() {
    const due = this.#waiting.filter(({ matches }) => matches());
    this.#waiting = this.#waiting.filter((each) => !due.includes(each));
    for (const { resolve } of due) resolve();
  }
}

/** Mean green of the 8 x 8 pixels around a point. @param {Uint8ClampedArray} pixels @param {number} width @param {number} x @param {number} y */
function brightness(pixels, width, x, y) {
  let sum = 0;
  for (let row = y - 4; row < y + 4; row += 1) {
    for (let column = x - 4; column < x + 4; column += 1) sum += pixels[(row * width + column) * 4 + 1];
  }
  return sum / 64;
}

/** The number in the bits if sync and check are right, else null. @param {string} bits */
function decodeBits(bits) {
  if (!bits.startsWith(SYNC)) return null;
  const number = Number.parseInt(bits.slice(SYNC.length), 2);
  const index = Math.floor(number / 2 ** NUM_CHECK_BITS);
  let check = CHECK_SEED;
  for (let shift = 0; shift < 24; shift += 4) check ^= (index >> shift) & 0xf;
  return check === (number & 0xf) ? index : null;
}

Object.assign(window, { glassBench: { make: (/** @type {SessionOptions} */ options) => new Bench(options) } });
