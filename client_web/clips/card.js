/**
 * One clip in the grid: its progress while it is made, then a picture that plays when it is pointed at or focused, and
 * the buttons of what can be done with it.
 *
 * @module clips/card
 */

import { icon, iconButton, make, textButton } from "../shared/dom.js";
import { hasText, t } from "../shared/i18n.js";

/** @typedef {import("./api.js").Clip} Clip */

/**
 * @typedef {object} CardHandlers
 * @property {(clip: Clip) => void} onStage
 * @property {(clip: Clip) => void} onDownload
 * @property {(clip: Clip) => void} onAgain with another seed
 * @property {(clip: Clip) => void} onLonger
 * @property {(clip: Clip) => void} onWords
 * @property {(clip: Clip) => void} onRemove
 * @property {() => boolean} canGoOn whether the model can make a clip longer
 * @property {(at: number) => number} secondsUntil
 * @property {(id: string) => Promise<Clip>} find with fresh links
 */

const isCalm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

export class Card {
  element = make("li", "clip");
  #handlers;
  #clip;
  /** @type {HTMLElement} */
  #screen = make("div", "");
  #facts = make("p", "clip-facts");
  #tools = make("div", "clip-tools");
  /** @type {HTMLVideoElement | null} while it plays */
  #video = null;

  /** @param {Clip} clip @param {CardHandlers} handlers */
  constructor(clip, handlers) {
    this.#clip = clip;
    this.#handlers = handlers;
    const words = make("p", "clip-words", [clip.prompt]);
    words.title = clip.prompt;
    this.element.append(this.#screen, words, this.#facts, this.#tools);
    this.#render();
  }

  get clip() {
    return this.#clip;
  }

  get hasEnded() {
    return this.#clip.status === "completed" || this.#clip.status === "failed";
  }

  /** @param {Clip} clip the same one, later */
  update(clip) {
    const { status } = this.#clip;
    this.#clip = clip;
    this.element.dataset.status = clip.status;
    if (!this.hasEnded) this.#renderProgress();
    else if (status !== clip.status) this.#render();
  }

  /** Frees the video. */
  close() {
    this.#stop();
    this.element.remove();
  }

  #render() {
    this.#stop();
    const { status, seconds, size, quality, seed, created_at: createdAt } = this.#clip;
    this.element.dataset.status = status;
    const screen = status === "completed" ? this.#newPicture() : make("div", "clip-media clip-wait");
    this.#screen.replaceWith(screen);
    this.#screen = screen;
    if (status === "failed") screen.append(make("p", "", [failure(this.#clip)]));
    else if (status !== "completed") this.#renderProgress();
    const made = new Date(createdAt * 1000).toLocaleString(document.documentElement.lang, {
      dateStyle: "short",
      timeStyle: "short",
    });
    const parts = [
      `${seconds} s`,
      size.replace("x", "×"),
      t(`clips.quality.${quality}`),
      t("clips.with_seed", { seed }),
    ];
    this.#facts.replaceChildren(`${parts.join(" · ")} · `, make("span", "clip-date", [made]));
    this.#renderTools();
  }

  #renderProgress() {
    const { status, progress, prompt, queue_position: before = 0, estimated_completed_at: at } = this.#clip;
    // The same elements, so that nothing is read out anew each second.
    const bar = this.#screen.querySelector("progress") ?? make("progress", "");
    const [state, rest] = [...this.#screen.querySelectorAll("p"), make("p", ""), make("p", "")];
    bar.max = 100;
    bar.value = progress;
    bar.ariaLabel = t("clips.progress", { text: prompt });
    state.textContent = status === "in_progress" ? t("clips.making", { percent: progress }) : queued(before);
    rest.textContent = at === undefined ? "" : left(Math.ceil(this.#handlers.secondsUntil(at)));
    if (bar.parentElement === null) this.#screen.replaceChildren(bar, state, rest);
  }

  #renderTools() {
    const { onStage, onDownload, onAgain, onLonger, onWords, onRemove, canGoOn } = this.#handlers;
    const button = (/** @type {Parameters<typeof icon>[0]} */ name, /** @type {(clip: Clip) => void} */ act) =>
      iconButton("icon-button", icon(name), t(`clips.${name}`, { text: this.#clip.prompt }), () => act(this.#clip));
    const isMade = this.#clip.status === "completed";
    const tools = [button("again", onAgain), button("edit", onWords), this.#removeButton(onRemove)];
    if (isMade) {
      const stage = textButton("plain", t("clips.stage"), () => onStage(this.#clip));
      stage.ariaLabel = t("clips.stage_of", { text: this.#clip.prompt });
      if (canGoOn()) tools.unshift(button("longer", onLonger));
      tools.unshift(stage, button("download", onDownload));
    }
    this.#tools.replaceChildren(...tools);
  }

  /** @param {(clip: Clip) => void} onRemove */
  #removeButton(onRemove) {
    const label = t("clips.remove", { text: this.#clip.prompt });
    const button = iconButton("icon-button", icon("remove"), label, () => {
      // A deleted clip is gone with its file: the second press does it.
      if (button.dataset.sure !== undefined) onRemove(this.#clip);
      button.dataset.sure = "";
      button.textContent = t("clips.sure");
      button.ariaLabel = `${t("clips.sure")}: ${label}`;
    });
    button.addEventListener("blur", () => {
      delete button.dataset.sure;
      button.replaceChildren(icon("remove"));
      button.ariaLabel = label;
    });
    return button;
  }

  // --- the picture ------------------------------------------------------------------------------------------------

  #newPicture() {
    const { prompt, seconds, size, thumbnail_url: thumbnail } = this.#clip;
    const picture = make("img", "");
    picture.loading = "lazy";
    picture.alt = "";
    if (thumbnail) picture.src = thumbnail;
    const button = make("button", "clip-media", [picture, make("span", "clip-time", [`${seconds} s`])]);
    button.type = "button";
    const [width, height] = size.split("x").map(Number);
    if (width > 1.5 * height) button.dataset.wide = ""; // fills the card; others are shown whole
    button.ariaLabel = t("clips.play", { text: prompt, seconds });
    button.ariaPressed = "false";
    button.addEventListener("pointerenter", ({ pointerType }) => pointerType === "mouse" && !isCalm() && this.#play());
    button.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.#stop());
    button.addEventListener("focus", () => button.matches(":focus-visible") && !isCalm() && this.#play());
    button.addEventListener("blur", () => this.#stop());
    button.addEventListener("click", () => (this.#video === null ? this.#play() : this.#stop()));
    return button;
  }

  #play() {
    if (this.#video !== null) return;
    const video = make("video", "");
    video.muted = video.loop = video.playsInline = true;
    video.tabIndex = -1;
    video.addEventListener("playing", () => (this.#screen.dataset.playing = ""), { once: true });
    video.addEventListener("error", () => void this.#playFresh(video), { once: true });
    this.#video = video;
    this.#screen.ariaPressed = "true";
    this.#screen.querySelector("img")?.after(video);
    this.#begin(video);
  }

  /** The link has ended, because the page is open for long. @param {HTMLVideoElement} video */
  async #playFresh(video) {
    const fresh = await this.#handlers.find(this.#clip.id).catch(() => null);
    if (this.#video !== video || fresh === null) return;
    this.#clip = fresh;
    this.#begin(video);
  }

  /** @param {HTMLVideoElement} video */
  #begin(video) {
    video.src = this.#clip.content_url ?? "";
    video.play().catch(() => {}); // it was stopped before it began
  }

  #stop() {
    const video = this.#video;
    if (video === null) return;
    this.#video = null;
    delete this.#screen.dataset.playing;
    this.#screen.ariaPressed = "false";
    video.pause();
    video.removeAttribute("src");
    video.load(); // frees what was loaded
    video.remove();
  }
}

/** @param {Clip} clip */
function failure({ error }) {
  const key = `clips.failed.${error?.code}`;
  return hasText(key) ? t(key) : (error?.message ?? "");
}

/** @param {number} before */
function queued(before) {
  return before === 0 ? t("clips.next") : t("clips.queued", { count: before });
}

/** @param {number} seconds */
function left(seconds) {
  return seconds < 100 ? t("clips.left", { seconds }) : t("clips.left_minutes", { minutes: Math.round(seconds / 60) });
}
