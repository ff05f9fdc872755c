/**
 * One prompt, as whoever sent it sees it: promises for what will be seen, and exactly one end. Pure; `session.js` drives
 * it by methods whose names are symbols, so that nobody else does.
 */

/** @import { ErrorDetail, ServerMessage, Shown } from "./types.js" */

import { Emitter, emit } from "./emitter.js";
import { newId } from "./messages.js";
import { checkMove } from "./states.js";

const ENDS = ["applied", "superseded", "cancelled", "rejected", "failed"];

const NEXT = Object.freeze({
  // for a connection, or because prompts come too fast
  waiting: ["sent", "superseded", "cancelled", "rejected"],
  // to wait again: the server is busy, or has lost the session
  sent: ["waiting", "accepted", "started", "ready", ...ENDS],
  accepted: ["waiting", "started", "ready", ...ENDS],
  // again: the engine was lost and the clip is made anew
  started: ["waiting", "started", "ready", ...ENDS],
  // its clip waits for a take
  ready: ["waiting", "started", ...ENDS],
  ...Object.fromEntries(ENDS.map((end) => [end, []])),
});

export const receive = Symbol("receive");
export const finish = Symbol("finish");
export const move = Symbol("move");
export const shown = Symbol("shown");

export class PromptHandle extends Emitter {
  promptId = newId("p-");
  eventId = newId("e-");
  askedAt = performance.now();
  /** @type {ErrorDetail | null} */
  error = null;
  /** @type {string | null} */
  supersededBy = null;
  #state = "waiting";
  #cancel;
  #promises = { accepted: promised(), preview: promised(), picture: promised(), ended: promised() };
  // Each is null if it never came to that.
  /** @type {Promise<ServerMessage | null>} */
  accepted = this.#promises.accepted.promise;
  /** @type {Promise<Shown | null>} */
  preview = this.#promises.preview.promise;
  /** @type {Promise<Shown | null>} */
  picture = this.#promises.picture.promise;
  /** @type {Promise<string>} */
  ended = this.#promises.ended.promise;

  /** @param {string} text @param {object} options @param {(handle: PromptHandle) => void} cancel */
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
    return ENDS.includes(this.#state);
  }

  cancel() {
    if (!this.hasEnded) this.#cancel(this);
    return this.ended;
  }

  [receive](message) {
    const next = message.type.slice("prompt.".length);
    // The receipt of a repeated prompt may come after what followed the first one.
    if (next === "accepted" && this.#state !== "sent") return;
    if (next === "accepted") this.#promises.accepted.resolve(message);
    if (ENDS.includes(next)) this[finish](next, message.error, message.by_prompt_id);
    else if (next in NEXT) this[move](next);
    this[emit](message.type, message);
  }

  /** @param {string} end @param {ErrorDetail | null} [error] @param {string | null} [supersededBy] */
  [finish](end, error = null, supersededBy = null) {
    this.error = error;
    this.supersededBy = supersededBy;
    this[move](end);
    this.#promises.accepted.resolve(null);
    if (end !== "applied") this[shown]("picture", null);
    this.#promises.ended.resolve(end);
  }

  [move](next) {
    checkMove("prompt", NEXT, this.#state, next);
    this.#state = next;
    this[emit]("state", next);
  }

  [shown](kind, seen) {
    this.#promises[kind].resolve(seen);
    // No preview comes after the picture.
    if (kind === "picture") this.#promises.preview.resolve(null);
  }
}

/** A promise that is kept by others; what it is kept with second does not count. */
function promised() {
  /** @type {(value: any) => void} */
  let resolve = () => {};
  const promise = new Promise((keep) => (resolve = keep));
  return { promise, resolve };
}
