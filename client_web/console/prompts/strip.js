/**
 * The "next" monitor: the prompt in the making, its picture after each denoising step, and what the model understood.
 *
 * @module strip
 */

import { byId, make } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { sharpestPicture } from "./prompts.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */

export class Strip {
  #elements = {
    root: byId("next", HTMLElement),
    picture: byId("next-picture", HTMLImageElement),
    text: byId("next-text", HTMLElement),
    progress: byId("next-progress", HTMLElement),
    bar: byId("next-bar", HTMLProgressElement),
    steps: byId("steps", HTMLElement),
    words: byId("words", HTMLElement),
    cancel: byId("cancel", HTMLButtonElement),
  };
  /** @type {Prompt | null} */
  #prompt = null;
  #numStepsExpected = 4;

  constructor() {
    this.#elements.cancel.addEventListener("click", () => void this.#prompt?.handle.cancel());
  }

  /** @param {number} numSteps that the model is expected to need, until a prompt has started */
  expect(numSteps) {
    this.#numStepsExpected = numSteps;
    this.render();
  }

  /** @param {Prompt | null} prompt */
  show(prompt) {
    this.#prompt = prompt;
    this.render();
  }

  render() {
    const { root, text, cancel } = this.#elements;
    const prompt = this.#prompt;
    root.dataset.state = prompt === null ? "empty" : prompt.state;
    text.textContent = prompt === null ? t("next.empty") : prompt.text;
    cancel.hidden = prompt === null || prompt.handle.hasEnded;
    this.#renderProgress();
    this.#renderSteps();
    this.#renderWords();
  }

  #renderProgress() {
    const { progress, bar } = this.#elements;
    const prompt = this.#prompt;
    progress.textContent = prompt === null ? t("next.empty_hint") : progressText(prompt);
    bar.max = Math.max(1, prompt?.numSteps ?? 1);
    bar.value = prompt?.numStepsDone ?? 0;
  }

  #renderSteps() {
    const { picture, steps } = this.#elements;
    const prompt = this.#prompt;
    const sharpest = prompt === null ? null : sharpestPicture(prompt);
    picture.hidden = sharpest === null;
    if (sharpest !== null && picture.src !== sharpest) picture.src = sharpest;
    const numSteps = this.#numSteps();
    while (steps.childElementCount > numSteps) steps.lastElementChild?.remove();
    while (steps.childElementCount < numSteps) steps.append(stepCell());
    for (const [index, cell] of Array.from(steps.children).entries()) renderStep(cell, prompt, index);
  }

  /** How many cells to show: none for a reused clip, which has no steps to see. */
  #numSteps() {
    if (this.#prompt === null || this.#prompt.numSteps === 0) return this.#numStepsExpected;
    return this.#prompt.isReused ? 0 : this.#prompt.numSteps;
  }

  #renderWords() {
    const { words } = this.#elements;
    const prompt = this.#prompt;
    words.replaceChildren();
    if (prompt === null) return;
    words.append(...wordGroup("understood", prompt.understood), ...wordGroup("not_understood", prompt.notUnderstood));
  }
}

/** @param {Prompt} prompt */
function progressText(prompt) {
  switch (prompt.state) {
    case "waiting":
    case "sent":
    case "accepted":
      return t("next.queued");
    case "started":
      if (prompt.numStepsDone === prompt.numSteps) return t("next.decoding");
      if (prompt.attempt > 1) return t("next.again", { attempt: prompt.attempt });
      return t("next.step", { done: prompt.numStepsDone, total: prompt.numSteps });
    case "ready":
      return t("next.ready");
    case "applied":
      return t("next.on_air");
    case "superseded":
    case "cancelled":
    case "rejected":
    case "failed":
      return prompt.error?.message ?? t(`prompt.state.${prompt.state}`);
    default:
      throw new Error(`unknown prompt state ${prompt.state}`);
  }
}

function stepCell() {
  const picture = make("img", "");
  picture.alt = "";
  return make("li", "step", [picture, make("span", "step-number")]);
}

/**
 * @param {Element} cell
 * @param {Prompt | null} prompt
 * @param {number} index
 */
function renderStep(cell, prompt, index) {
  const picture = /** @type {HTMLImageElement} */ (cell.firstElementChild);
  // The last step has no preview: it makes the clip itself.
  const isLast = prompt !== null && index === prompt.numSteps - 1;
  const source = prompt?.pictures[index] ?? (isLast ? prompt.finalPicture : null) ?? null;
  picture.hidden = source === null;
  if (source !== null && picture.src !== source) picture.src = source;
  /** @type {HTMLElement} */ (cell.lastElementChild).textContent = String(index + 1);
  const isDone = prompt !== null && index < prompt.numStepsDone;
  const isRunning = prompt?.state === "started" && index === prompt.numStepsDone;
  /** @type {HTMLElement} */ (cell).dataset.step = isDone ? "done" : isRunning ? "running" : "waiting";
}

/**
 * @param {"understood" | "not_understood"} kind
 * @param {string[]} words
 * @returns {HTMLElement[]}
 */
function wordGroup(kind, words) {
  if (words.length === 0) return [];
  const label = make("span", "words-label", [t(`next.${kind}`)]);
  return [make("p", `words words-${kind}`, [label, ...words.map((word) => make("span", "word", [word]))])];
}
