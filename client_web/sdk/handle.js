/**
 * One prompt as its sender sees it: a state, promises for its preview and picture, and exactly one end. No I/O:
 * `session.js` drives it through methods named by symbols, so that users cannot call them.
 */

/** @import { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js" */

import { Emitter, emit } from "./emitter.js";
import { newId } from "./messages.js";
import { checkMove } from "./states.js";

/** @type {readonly PromptEnd[]} */
const ENDS = ["applied", "superseded", "cancelled", "rejected", "failed"];

/** @type {Readonly<Record<string, readonly string[]>>} */
const NEXT = Object.freeze({
  // waits for a connection or for the rate limit
  waiting: ["sent", "superseded", "cancelled", "rejected"],
  // waits again if the server limited the rate or lost the session
  sent: ["waiting", "accepted", "started", "ready", ...ENDS],
  accepted: ["waiting", "started", "ready", ...ENDS],
  // started again if the engine was lost and generates the clip again
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
 * One prompt. Its promises never reject. `accepted`, `preview` and `picture` resolve with null if the event did not
 * happen.
 *
 * Events: `state`, and the server's messages about this prompt under their types.
 *
 * @extends {Emitter<PromptEvents>}
 */
export class PromptHandle extends Emitter {
  promptId = newId("p-");
  eventId = newId("e-");
  /** When the prompt was made, in milliseconds of `performance.now()`. */
  askedAt = performance.now();
  /** Why it was rejected or failed. @type {ErrorDetail | null} */
  error = null;
  /** The id of the newer prompt. @type {string | null} */
  supersededBy = null;
  /** @type {PromptState} */
  #state = "waiting";
  #cancel;
  #promises = { accepted: promised(), preview: promised(), picture: promised(), ended: promised() };
  /** Resolves with `prompt.accepted`. @type {Promise<ServerMessage | null>} */
  accepted = this.#promises.accepted.promise;
  /** Resolves when the video shows the first preview. @type {Promise<Shown | null>} */
  preview = this.#promises.preview.promise;
  /** Resolves when the video shows the first frame of the finished clip. @type {Promise<Shown | null>} */
  picture = this.#promises.picture.promise;
  /** Resolves with the prompt's one end. @type {Promise<PromptEnd>} */
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

  /** Cancels the prompt. Resolves with its end, which is not `cancelled` if the cancel came too late. */
  cancel() {
    if (!this.hasEnded) this.#cancel(this);
    return this.ended;
  }

  /** @internal @param {ServerMessage} message */
  [receive](message) {
    const next = message.type.slice("prompt.".length);
    // If the prompt was sent twice, the second prompt.accepted may come after later events.
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

/** A promise with its `resolve`. Only the first call of `resolve` counts. */
function promised() {
  /** @type {(value: any) => void} */
  let resolve = () => {};
  const promise = new Promise((keep) => (resolve = keep));
  return { promise, resolve };
}
