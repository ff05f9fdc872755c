/**
 * The console's record of each prompt: its words, pictures and times. The SDK's `PromptHandle` has its state. No DOM:
 * the other modules of this folder show it.
 *
 * @module prompts
 */

import { ServerType } from "../../sdk/messages.js";

/** @typedef {import("../../sdk/handle.js").PromptHandle} PromptHandle */
/** @typedef {import("../../sdk/messages.js").ServerMessage} ServerMessage */

const NUM_REMEMBERED = 60;

/**
 * One line of a prompt's life: a new state, a step, or a picture on the screen.
 *
 * @typedef {object} Moment
 * @property {string} what a state, or `step`, `preview_glass`, `picture_glass`
 * @property {number} atMs since the prompt was sent, on this page's clock
 * @property {number} [count] of steps done
 */

/**
 * @typedef {object} Prompt
 * @property {PromptHandle} handle
 * @property {string} promptId
 * @property {string} text
 * @property {string} quality
 * @property {import("../../sdk/types.js").PromptState} state
 * @property {number} sentAt on the clock of `performance.now()`
 * @property {Moment[]} life oldest first
 * @property {number | null} seed in use; null while it is not known, and for a reused clip
 * @property {string | null} supersededBy the text of the newer prompt
 * @property {number} numSteps
 * @property {number} numStepsDone
 * @property {number} attempt
 * @property {string[]} degraded what the engine gave up to be in time
 * @property {boolean} isReused whether its clip was made before
 * @property {(string | null)[]} pictures one per denoising step, JPEG data URIs
 * @property {string | null} finalPicture of the clip on the screen, after the transition to it
 * @property {string[]} understood
 * @property {string[]} notUnderstood
 * @property {number | null} estimatedPictureMs
 * @property {{preview: number | null, picture: number | null}} atServerMs
 * @property {{preview: number | null, picture: number | null}} atGlassMs
 * @property {import("../../sdk/messages.js").PromptTimings | null} timings
 * @property {import("../../sdk/messages.js").ErrorDetail | null} error
 */

export class PromptLog {
  /** @type {Map<string, Prompt>} oldest first; bounded: the oldest ended one is dropped */
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

  /** @returns {Prompt | null} the newest without an end */
  get inTheMaking() {
    return this.newestFirst.find((prompt) => !prompt.handle.hasEnded) ?? null;
  }

  /** @returns {Prompt | null} */
  get waitingForTake() {
    return this.newestFirst.find((prompt) => prompt.state === "ready") ?? null;
  }

  /** @param {string | null} promptId */
  get(promptId) {
    return this.#prompts.get(promptId ?? "") ?? null;
  }

  /**
   * @param {PromptHandle} handle of a new prompt
   * @param {string} quality
   */
  follow(handle, quality) {
    /** @type {Prompt} */
    const prompt = {
      handle,
      promptId: handle.promptId,
      text: handle.text,
      quality,
      state: handle.state,
      sentAt: handle.askedAt,
      life: [{ what: handle.state, atMs: 0 }],
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
    handle.on("state", (state) => {
      prompt.state = state;
      prompt.error = handle.error;
      prompt.supersededBy = this.get(handle.supersededBy)?.text ?? null;
      this.#note(prompt, state);
      this.#onChanged(prompt);
    });
    for (const kind of /** @type {const} */ (["preview", "picture"])) {
      void handle[kind].then((seen) => this.#shownOnGlass(prompt, kind, seen?.glassMs ?? null));
    }
    this.#onChanged(prompt);
  }

  /** @param {ServerMessage} message any event; those about unknown prompts are ignored */
  receive(message) {
    const prompt = this.#prompts.get(message.prompt_id);
    if (prompt === undefined) return;
    switch (message.type) {
      case ServerType.PROMPT_ACCEPTED:
        prompt.quality = message.quality;
        prompt.seed = message.seed;
        prompt.estimatedPictureMs = message.estimated_picture_ms;
        prompt.understood = message.understood ?? [];
        prompt.notUnderstood = message.not_understood ?? [];
        break;
      case ServerType.PROMPT_STARTED:
        started(prompt, message);
        break;
      case ServerType.PROMPT_PREVIEW:
        this.#previewed(prompt, message);
        break;
      case ServerType.PROMPT_READY:
        prompt.numStepsDone = prompt.numSteps;
        break;
      case ServerType.PROMPT_APPLIED:
        prompt.numStepsDone = prompt.numSteps;
        prompt.atServerMs.picture = message.frame.sent_at_ms;
        prompt.timings = message.timings;
        break;
      default:
        // The handle has reported the state, and the message says nothing else.
        return;
    }
    this.#onChanged(prompt);
  }

  /**
   * @param {string} promptId
   * @param {string} picture of its clip, after the transition to it
   */
  seenOnGlass(promptId, picture) {
    const prompt = this.#prompts.get(promptId);
    if (prompt === undefined) return;
    prompt.finalPicture = picture;
    this.#onChanged(prompt);
  }

  /**
   * @param {Prompt} prompt
   * @param {"preview" | "picture"} kind
   * @param {number | null} glassMs
   */
  #shownOnGlass(prompt, kind, glassMs) {
    if (glassMs === null) return;
    prompt.atGlassMs[kind] = glassMs;
    prompt.life.push({ what: `${kind}_glass`, atMs: glassMs });
    this.#onChanged(prompt);
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
   * A preview may arrive one message after the prompt's end. It is still the picture of its step.
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
    const oldest = [...this.#prompts.values()].find((prompt) => prompt.handle.hasEnded);
    if (oldest !== undefined) this.#prompts.delete(oldest.promptId);
  }
}

/**
 * @param {Prompt} prompt
 * @param {ServerMessage} message
 */
function started(prompt, message) {
  prompt.numSteps = message.num_steps;
  prompt.attempt = message.attempt;
  prompt.degraded = message.degraded ?? [];
  prompt.isReused = message.is_reused ?? false;
  // A reused clip has the seed that it was made with, and the server does not tell it.
  if (prompt.isReused) prompt.seed = null;
  prompt.understood = message.understood;
  prompt.notUnderstood = message.not_understood;
  // Drop the pictures of a lost attempt.
  prompt.numStepsDone = 0;
  prompt.pictures = new Array(message.num_steps).fill(null);
}

/**
 * The sharpest picture of a prompt so far.
 *
 * @param {Prompt} prompt
 * @returns {string | null}
 */
export function sharpestPicture(prompt) {
  return prompt.finalPicture ?? prompt.pictures.findLast((picture) => Boolean(picture)) ?? null;
}
