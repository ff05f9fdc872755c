/**
 * One prompt, as whoever sent it sees it: promises for what will be seen, and exactly one end. Pure; `session.js` drives
 * it by methods whose names are symbols, so that nobody else does.
 */

/** @import { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js" */

import { Emitter, emit } from "./emitter.js";
import { newId } from "./messages.js";
import { checkMove } from "./states.js";

/** @type {readonly PromptEnd[]} */
const ENDS = ["applied", "superseded", "cancelled", "rejected", "failed"];

/** @type {Readonly<Record<string, readonly string[]>>} */
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

/**
 * One prompt. None of its promises ever rejects; `accepted`, `preview` and `picture` are null if it came not to that.
 *
 * @extends {Emitter<PromptEvents>}
 */
export class PromptHandle extends Emitter {
  promptId = newId("p-");
  eventId = newId("e-");
  askedAt = performance.now();
  /** Why it was rejected or failed. @type {ErrorDetail | null} */
  error = null;
  /** @type {string | null} */
  supersededBy = null;
  /** @type {PromptState} */
  #state = "waiting";
  #cancel;
  #promises = { accepted: promised(), preview: promised(), picture: promised(), ended: promised() };
  /** @type {Promise<ServerMessage | null>} */
  accepted = this.#promises.accepted.promise;
  /** When the first preview is seen. @type {Promise<Shown | null>} */
  preview = this.#promises.preview.promise;
  /** When the first frame of the finished clip is seen. @type {Promise<Shown | null>} */
  picture = this.#promises.picture.promise;
  /** @type {Promise<PromptEnd>} */
  ended = this.#promises.ended.promise;

  /** @param {string} text @param {PromptOptions} options @param {(handle: PromptHandle) => void} cancel */
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
    return isEnd(this.#state);
  }

  /** Resolves with its end, which is another one if the cancel comes too late. */
  cancel() {
    if (!this.hasEnded) this.#cancel(this);
    return this.ended;
  }

  /** @internal @param {ServerMessage} message */
  [receive](message) {
    const next = message.type.slice("prompt.".length);
    // The receipt of a repeated prompt may come after what followed the first one.
    if (next === "accepted" && this.#state !== "sent") return;
    if (next === "accepted") this.#promises.accepted.resolve(message);
    if (isEnd(next)) this[finish](next, message.error, message.by_prompt_id);
    else if (next in NEXT) this[move](/** @type {PromptState} */ (next));
    this[emit](message.type, message);
  }

  /** @internal @param {string} end @param {ErrorDetail | null} [error] @param {string | null} [supersededBy] */
  [finish](end, error = null, supersededBy = null) {
    this.error = error;
    this.supersededBy = supersededBy;
    this[move](/** @type {PromptEnd} */ (end));
    this.#promises.accepted.resolve(null);
    if (end !== "applied") this[shown]("picture", null);
    this.#promises.ended.resolve(end);
  }

  /** @internal @param {PromptState} next */
  [move](next) {
    checkMove("prompt", NEXT, this.#state, next);
    this.#state = next;
    this[emit]("state", next);
  }

  /** @internal @param {"preview" | "picture"} kind @param {Shown | null} seen */
  [shown](kind, seen) {
    this.#promises[kind].resolve(seen);
    // No preview comes after the picture.
    if (kind === "picture") this.#promises.preview.resolve(null);
  }
}

/** @param {string} state @returns {state is PromptEnd} */
const isEnd = (state) => ENDS.includes(/** @type {PromptEnd} */ (state));

/** A promise that is kept by others; what it is kept with second does not count. */
function promised() {
  /** @type {(value: any) => void} */
  let resolve = () => {};
  const promise = new Promise((keep) => (resolve = keep));
  return { promise, resolve };
}
