/**
 * One prompt, as whoever sent it sees it: promises for what will be seen, and exactly one end.
 * Pure: `session.js` drives it through the methods under `receive`, `finish`, `sent` and `shown`.
 *
 * @module handle
 */

import { Emitter, emit } from "./emitter.js";
import { ServerType, newId } from "./messages.js";

/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./messages.js").ErrorDetail} ErrorDetail */
/** @typedef {import("./messages.js").FrameStamp} FrameStamp */
/** @typedef {import("./messages.js").PromptTimings} PromptTimings */

export const HandleState = Object.freeze({
  WAITING: "waiting", // not sent: there is no connection, or prompts come too fast
  SENT: "sent",
  ACCEPTED: "accepted",
  STARTED: "started",
  READY: "ready", // its clip waits for a take
  APPLIED: "applied",
  SUPERSEDED: "superseded",
  CANCELLED: "cancelled",
  REJECTED: "rejected",
  FAILED: "failed",
});

const ENDS = ["applied", "superseded", "cancelled", "rejected", "failed"];

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  waiting: ["sent", "superseded", "cancelled", "rejected", "failed"],
  // Back to waiting: the server asked for patience, or has forgotten the session. Onwards past a gap in a resume.
  sent: ["waiting", "sent", "accepted", "started", "ready", ...ENDS],
  accepted: ["waiting", "started", "ready", ...ENDS],
  started: ["waiting", "started", "ready", ...ENDS], // again: the engine was lost and the clip is made anew
  ready: ["waiting", "started", ...ENDS],
  applied: [],
  superseded: [],
  cancelled: [],
  rejected: [],
  failed: [],
});

/** @type {Record<string, string>} */
const MOVES = Object.freeze({
  [ServerType.PROMPT_ACCEPTED]: HandleState.ACCEPTED,
  [ServerType.PROMPT_STARTED]: HandleState.STARTED,
  [ServerType.PROMPT_READY]: HandleState.READY,
  [ServerType.PROMPT_APPLIED]: HandleState.APPLIED,
  [ServerType.PROMPT_SUPERSEDED]: HandleState.SUPERSEDED,
  [ServerType.PROMPT_CANCELLED]: HandleState.CANCELLED,
  [ServerType.PROMPT_REJECTED]: HandleState.REJECTED,
  [ServerType.PROMPT_FAILED]: HandleState.FAILED,
});

// What the session does to a handle, and nobody else can.
export const receive = Symbol("receive");
export const finish = Symbol("finish");
export const move = Symbol("move");
export const shown = Symbol("shown");

/** @typedef {{frame: FrameStamp, glassMs: number | null, timings: PromptTimings | null}} Shown */

export class PromptHandle extends Emitter {
  promptId = newId("p-");
  eventId = newId("e-");
  /** On the clock of `performance.now()`. */
  askedAt = performance.now();
  /** @type {ErrorDetail | null} why it was rejected or failed */
  error = null;
  /** @type {string | null} */
  supersededBy = null;
  #state = /** @type {string} */ (HandleState.WAITING);
  #cancel;
  #accepted = promised();
  #preview = promised();
  #picture = promised();
  #ended = promised();

  /**
   * @param {string} text
   * @param {Record<string, any>} options fields of `prompt.set`
   * @param {(handle: PromptHandle) => void} cancel
   */
  constructor(text, options, cancel) {
    super();
    this.text = text;
    this.options = options;
    this.#cancel = cancel;
  }

  get state() {
    return this.#state;
  }

  get hasEnded() {
    return NEXT[this.#state].length === 0;
  }

  /** @returns {Promise<ServerMessage | null>} `prompt.accepted`; null if the prompt ended without it */
  get accepted() {
    return this.#accepted.promise;
  }

  /** @returns {Promise<Shown | null>} when the first preview is seen; null if none will be */
  get preview() {
    return this.#preview.promise;
  }

  /** @returns {Promise<Shown | null>} when the first frame of the finished clip is seen; null if none will be */
  get picture() {
    return this.#picture.promise;
  }

  /** @returns {Promise<string>} applied, superseded, cancelled, rejected or failed */
  get ended() {
    return this.#ended.promise;
  }

  /** @returns {Promise<string>} its end, which may still be another one if the cancel comes too late */
  cancel() {
    if (!this.hasEnded) this.#cancel(this);
    return this.ended;
  }

  /** @param {ServerMessage} message any event about this prompt */
  [receive](message) {
    const next = MOVES[message.type];
    // The receipt of a repeated prompt may come after what followed the first one.
    const isLate = this.hasEnded || (next === HandleState.ACCEPTED && this.#state !== HandleState.SENT);
    if (isLate && next !== undefined) return;
    if (next === HandleState.ACCEPTED) this.#accepted.resolve(message);
    if (ENDS.includes(next)) this[finish](next, message.error ?? null, message.by_prompt_id ?? null);
    else if (next !== undefined) this[move](next);
    this[emit](message.type, message);
  }

  /**
   * @param {string} end
   * @param {ErrorDetail | null} [error]
   * @param {string | null} [supersededBy]
   */
  [finish](end, error = null, supersededBy = null) {
    this.error = error;
    this.supersededBy = supersededBy;
    this[move](end);
    this.#accepted.resolve(null);
    if (end !== HandleState.APPLIED) {
      this.#preview.resolve(null);
      this.#picture.resolve(null);
    }
    this.#ended.resolve(end);
  }

  /** @param {string} next */
  [move](next) {
    if (!NEXT[this.#state].includes(next)) throw new Error(`prompt: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this[emit]("state", next);
  }

  /**
   * @param {"preview" | "picture"} kind
   * @param {Shown} seen
   */
  [shown](kind, seen) {
    if (kind === "preview") {
      this.#preview.resolve(seen);
      return;
    }
    this.#preview.resolve(null); // none came before the picture, so none ever will
    this.#picture.resolve(seen);
  }
}

/** A promise that is kept by others; what it is kept with second does not count. */
function promised() {
  /** @type {(value: any) => void} */
  let resolve = () => {};
  const promise = new Promise((keep) => (resolve = keep));
  return { promise, resolve };
}
