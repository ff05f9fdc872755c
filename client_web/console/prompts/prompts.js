/**
 * What became of each prompt: one state table, fed with the server's receipts and the times at the glass. No DOM.
 *
 * @module prompts
 */

import { ServerType } from "../../sdk/messages.js";

/** @typedef {import("../../sdk/messages.js").ServerMessage} ServerMessage */

export const PromptState = Object.freeze({
  SENT: "sent",
  ACCEPTED: "accepted",
  STARTED: "started",
  // its clip waits for a take
  READY: "ready",
  APPLIED: "applied",
  SUPERSEDED: "superseded",
  CANCELLED: "cancelled",
  REJECTED: "rejected",
  FAILED: "failed",
  // its session went away before it had an end
  LOST: "lost",
});

const ENDS = ["applied", "superseded", "cancelled", "rejected", "failed", "lost"];

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  // after a gap in a resume its receipt may be what is missing
  sent: ["accepted", "started", "ready", ...ENDS],
  accepted: ["started", "ready", ...ENDS],
  // started again: the engine was lost and the clip is made anew
  started: ["started", "ready", ...ENDS],
  ready: ["started", ...ENDS],
  applied: [],
  superseded: [],
  cancelled: [],
  rejected: [],
  failed: [],
  lost: [],
});

const NUM_REMEMBERED = 60;

/**
 * One line of a prompt's life: a state that it entered, or a step or picture on the way.
 *
 * @typedef {object} Moment
 * @property {string} what a state, or `step`, `preview_glass`, `picture_glass`
 * @property {number} atMs since it was sent, on this page's clock
 * @property {number} [count] of steps that were done, or of the attempt
 */

/**
 * @typedef {object} Prompt
 * @property {string} promptId
 * @property {string} eventId
 * @property {string} text
 * @property {string} quality
 * @property {string} state
 * @property {number} sentAt on the clock of `performance.now()`
 * @property {Moment[]} life oldest first
 * @property {number | null} seed that was used; null while it is not known, and for a clip that was made before
 * @property {string | null} supersededBy the text of the newer prompt
 * @property {number} numSteps
 * @property {number} numStepsDone
 * @property {number} attempt
 * @property {string[]} degraded what the engine gave up to be in time
 * @property {boolean} isReused whether its clip was made before
 * @property {(string | null)[]} pictures one per denoising step, JPEG data URIs
 * @property {string | null} finalPicture of the clip itself, seen at the glass, when the cross-fade to it was over
 * @property {string[]} understood
 * @property {string[]} notUnderstood
 * @property {number | null} estimatedPictureMs
 * @property {{preview: number | null, picture: number | null}} atServerMs
 * @property {{preview: number | null, picture: number | null}} atGlassMs
 * @property {import("../../sdk/messages.js").PromptTimings | null} timings
 * @property {import("../../sdk/messages.js").ErrorDetail | null} error
 */

export class PromptLog {
  /** @type {Map<string, Prompt>} oldest first, bounded, the oldest ended one goes */
  #prompts = new Map();
  #onChanged;
  #now;

  /**
   * @param {(prompt: Prompt) => void} onChanged
   * @param {() => number} [now]
   */
  constructor(onChanged, now = () => performance.now()) {
    this.#onChanged = onChanged;
    this.#now = now;
  }

  /** @returns {Prompt[]} newest first */
  get newestFirst() {
    return [...this.#prompts.values()].reverse();
  }

  /** @returns {Prompt | null} the newest that has no end yet */
  get inTheMaking() {
    return this.newestFirst.find((prompt) => !hasEnded(prompt)) ?? null;
  }

  /** @returns {Prompt | null} */
  get waitingForTake() {
    return this.newestFirst.find((prompt) => prompt.state === PromptState.READY) ?? null;
  }

  /** @returns {Prompt[]} sent, and not known to have arrived */
  get unacknowledged() {
    return [...this.#prompts.values()].filter((prompt) => prompt.state === PromptState.SENT);
  }

  /** @param {string} promptId */
  get(promptId) {
    return this.#prompts.get(promptId) ?? null;
  }

  /**
   * @param {{promptId: string, eventId: string, text: string, quality: string, sentAt: number}} sent
   * @returns {Prompt}
   */
  add(sent) {
    /** @type {Prompt} */
    const prompt = {
      ...sent,
      state: PromptState.SENT,
      life: [{ what: PromptState.SENT, atMs: 0 }],
      seed: null,
      supersededBy: null,
      numSteps: 0,
      numStepsDone: 0,
      attempt: 1,
      degraded: [],
      isReused: false,
      pictures: [],
      finalPicture: null,
      understood: [],
      notUnderstood: [],
      estimatedPictureMs: null,
      atServerMs: { preview: null, picture: null },
      atGlassMs: { preview: null, picture: null },
      timings: null,
      error: null,
    };
    this.#prompts.set(prompt.promptId, prompt);
    this.#forgetOldest();
    this.#onChanged(prompt);
    return prompt;
  }

  /** @param {ServerMessage} message any event about a prompt; one about a prompt that we never sent is ignored */
  receive(message) {
    const prompt = this.#prompts.get(message.prompt_id);
    if (prompt === undefined) return;
    switch (message.type) {
      case ServerType.PROMPT_ACCEPTED:
        // The receipt of a retry after a resume: the first one was in the replay.
        if (prompt.state !== PromptState.SENT) return;
        this.#move(prompt, PromptState.ACCEPTED);
        prompt.quality = message.quality;
        prompt.seed = message.seed;
        prompt.estimatedPictureMs = message.estimated_picture_ms;
        prompt.understood = message.understood ?? [];
        prompt.notUnderstood = message.not_understood ?? [];
        break;
      case ServerType.PROMPT_STARTED:
        this.#started(prompt, message);
        break;
      case ServerType.PROMPT_PREVIEW:
        this.#previewed(prompt, message);
        break;
      case ServerType.PROMPT_READY:
        this.#move(prompt, PromptState.READY);
        prompt.numStepsDone = prompt.numSteps;
        break;
      case ServerType.PROMPT_APPLIED:
        this.#move(prompt, PromptState.APPLIED);
        prompt.numStepsDone = prompt.numSteps;
        prompt.atServerMs.picture = message.frame.sent_at_ms;
        prompt.timings = message.timings;
        break;
      case ServerType.PROMPT_SUPERSEDED:
        this.#move(prompt, PromptState.SUPERSEDED);
        prompt.supersededBy = this.#prompts.get(message.by_prompt_id)?.text ?? null;
        break;
      case ServerType.PROMPT_CANCELLED:
        this.#move(prompt, PromptState.CANCELLED);
        break;
      case ServerType.PROMPT_REJECTED:
        this.#move(prompt, PromptState.REJECTED);
        prompt.error = message.error;
        break;
      case ServerType.PROMPT_FAILED:
        this.#move(prompt, PromptState.FAILED);
        prompt.error = message.error;
        break;
      default:
        throw new Error(`not an event about a prompt: ${message.type}`);
    }
    this.#onChanged(prompt);
  }

  /**
   * The server answered the prompt with an error instead of taking it.
   *
   * @param {string} eventId
   * @param {import("../../sdk/messages.js").ErrorDetail} detail
   * @returns {boolean} whether one of ours was meant
   */
  refuse(eventId, detail) {
    const prompt = this.unacknowledged.find((each) => each.eventId === eventId);
    if (prompt === undefined) return false;
    this.#move(prompt, PromptState.REJECTED);
    prompt.error = detail;
    this.#onChanged(prompt);
    return true;
  }

  /**
   * @param {string} promptId
   * @param {"preview" | "picture"} kind
   * @param {number} shownAt
   */
  shownOnGlass(promptId, kind, shownAt) {
    const prompt = this.#prompts.get(promptId);
    if (prompt === undefined || prompt.atGlassMs[kind] !== null) return;
    prompt.atGlassMs[kind] = shownAt - prompt.sentAt;
    prompt.life.push({ what: `${kind}_glass`, atMs: shownAt - prompt.sentAt });
    this.#onChanged(prompt);
  }

  /**
   * @param {string} promptId
   * @param {string} picture
   */
  seenOnGlass(promptId, picture) {
    const prompt = this.#prompts.get(promptId);
    if (prompt === undefined) return;
    prompt.finalPicture = picture;
    this.#onChanged(prompt);
  }

  /**
   * The session is another one now: what was in the making there has no end that we could learn of. What never arrived
   * there is not lost, for it can be sent again.
   */
  loseAllInFlight() {
    for (const prompt of this.#prompts.values()) {
      if (hasEnded(prompt) || prompt.state === PromptState.SENT) continue;
      this.#move(prompt, PromptState.LOST);
      this.#onChanged(prompt);
    }
  }

  /**
   * @param {Prompt} prompt
   * @param {string} next
   */
  #move(prompt, next) {
    if (!NEXT[prompt.state].includes(next)) throw new Error(`prompt: ${prompt.state} → ${next} is not a move`);
    prompt.state = next;
    this.#note(prompt, next);
  }

  /**
   * @param {Prompt} prompt
   * @param {string} what
   * @param {number} [count]
   */
  #note(prompt, what, count) {
    prompt.life.push({ what, atMs: this.#now() - prompt.sentAt, ...(count === undefined ? {} : { count }) });
  }

  /**
   * @param {Prompt} prompt
   * @param {ServerMessage} message
   */
  #started(prompt, message) {
    this.#move(prompt, PromptState.STARTED);
    prompt.numSteps = message.num_steps;
    prompt.attempt = message.attempt;
    prompt.degraded = message.degraded ?? [];
    prompt.isReused = message.is_reused ?? false;
    // The clip has the seed that it was made with, and that is not told.
    if (prompt.isReused) prompt.seed = null;
    prompt.understood = message.understood;
    prompt.notUnderstood = message.not_understood;
    // Pictures of a lost attempt are void.
    prompt.numStepsDone = 0;
    prompt.pictures = new Array(message.num_steps).fill(null);
  }

  /**
   * A preview may trail the prompt's end by a message; then it still is the picture of its step.
   *
   * @param {Prompt} prompt
   * @param {ServerMessage} message
   */
  #previewed(prompt, message) {
    if (message.step_index >= prompt.numStepsDone) this.#note(prompt, "step", message.step_index + 1);
    prompt.numStepsDone = Math.max(prompt.numStepsDone, message.step_index + 1);
    if (message.picture) prompt.pictures[message.step_index] = message.picture;
    if (message.frame) prompt.atServerMs.preview = message.frame.sent_at_ms;
  }

  #forgetOldest() {
    if (this.#prompts.size <= NUM_REMEMBERED) return;
    for (const prompt of this.#prompts.values()) {
      if (!hasEnded(prompt)) continue;
      this.#prompts.delete(prompt.promptId);
      return;
    }
  }
}

/** @param {Prompt} prompt */
export function hasEnded(prompt) {
  return NEXT[prompt.state].length === 0;
}

/**
 * The sharpest picture that there is of a prompt.
 *
 * @param {Prompt} prompt
 * @returns {string | null}
 */
export function sharpestPicture(prompt) {
  return prompt.finalPicture ?? prompt.pictures.findLast((picture) => Boolean(picture)) ?? null;
}
