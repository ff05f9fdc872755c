/**
 * The page of clips: orders them, shows how far they are, and does with a finished one what can be done.
 *
 * @module clips/app
 */

import { Toasts } from "../console/toasts.js";
import { ApiError } from "../shared/ask.js";
import { byId, make, textButton } from "../shared/dom.js";
import { chooseLanguage, examplePrompts, hasText, t, toggleLanguage } from "../shared/i18n.js";
import { listenForToken, pageAddress } from "../shared/token.js";
import { Api } from "./api.js";
import { Grid } from "./grid.js";
import { openStages, openWords } from "./sheets.js";

/** @typedef {import("./api.js").Clip} Clip */

const BUSY_REFRESH_MS = 1000;
const REFRESH_MS = 5000;
const SEARCH_AFTER_MS = 250;
// Clips below the newest page that are still in the making: the oldest are made first.
const NUM_FOLLOWED = 4;
const LONGER_S = 4;
const MAX_S = 20;

class ClipsPage {
  #address = pageAddress();
  #api = new Api(this.#address);
  #toasts = new Toasts();
  #sheet = byId("sheet", HTMLDialogElement);
  #problem = byId("problem", HTMLElement);
  #state = byId("state", HTMLElement);
  #more = byId("more", HTMLButtonElement);
  #search = byId("search", HTMLInputElement);
  #prompt = byId("prompt", HTMLTextAreaElement);
  #grid = new Grid(byId("grid", HTMLElement), {
    onStage: (clip) => void this.#chooseStage(clip),
    onDownload: (clip) => void this.#doing(() => this.#download(clip)),
    onAgain: (clip) => void this.#doing(() => this.#again(clip)),
    onLonger: (clip) => void this.#doing(() => this.#ordered(this.#api.extend(clip.id, LONGER_S))),
    onWords: (clip) => this.#otherWords(clip),
    onRemove: (clip) => void this.#doing(() => this.#remove(clip)),
    canGoOn: () => this.#canGoOn,
    secondsUntil: (at) => this.#api.secondsUntil(at),
    find: (id) => this.#api.find(id),
  });
  #canGoOn = false;
  #hasMore = false;
  #isLoadingMore = false;
  /** Counts searches, so that an answer to an earlier one is not shown. */
  #searchNumber = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #searchTimer;

  async open() {
    byId("language", HTMLButtonElement).addEventListener("click", () => void this.#changeLanguage());
    byId("order", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#doing(() => this.#order());
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("order", HTMLFormElement).requestSubmit();
    });
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#searchTimer);
      this.#searchTimer = setTimeout(
        () => void this.#loading(() => this.#refresh(++this.#searchNumber)),
        SEARCH_AFTER_MS,
      );
    });
    this.#more.addEventListener("click", () => void this.#loading(() => this.#loadMore()));
    new IntersectionObserver(
      ([entry]) => entry.isIntersecting && this.#hasMore && void this.#loading(() => this.#loadMore()),
      { rootMargin: "400px" },
    ).observe(this.#more);
    listenForToken((token) => (this.#address.token = token));
    document.addEventListener("visibilitychange", () => !document.hidden && this.#refreshSoon(0));
    await chooseLanguage();
    this.#canGoOn = await this.#api.canGoOn().catch(() => false);
    await this.#loading(() => this.#refresh());
    byId("main", HTMLElement).hidden = false; // whole at once: what comes one by one would push the rest
    document.body.dataset.ready = "";
    this.#refreshSoon();
  }

  // --- what is there ----------------------------------------------------------------------------------------------

  /** @param {number} [inMs] */
  #refreshSoon(inMs) {
    clearTimeout(this.#timer);
    const isBusy = this.#grid.unfinished.length > 0;
    this.#timer = setTimeout(
      async () => {
        if (!document.hidden) await this.#loading(() => this.#refresh());
        this.#refreshSoon();
      },
      inMs ?? (isBusy ? BUSY_REFRESH_MS : REFRESH_MS),
    );
  }

  async #refresh(number = this.#searchNumber) {
    const { data, has_more: hasMore } = await this.#api.list({ search: this.#search.value.trim() });
    if (number !== this.#searchNumber) return;
    this.#tellEnds(data);
    const newest = new Set(data.map(({ id }) => id));
    const isJoined = this.#grid.refresh(data);
    if (!isJoined || this.#grid.length === data.length) this.#hasMore = hasMore;
    const below = this.#grid.unfinished.filter(({ id }) => !newest.has(id)).slice(0, NUM_FOLLOWED);
    await Promise.all(below.map((clip) => this.#follow(clip)));
    this.#renderEnd();
  }

  /** @param {Clip} clip below the newest page */
  async #follow(clip) {
    try {
      this.#grid.put(await this.#api.find(clip.id));
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "unknown_video") throw error;
      this.#grid.remove(clip.id);
    }
  }

  async #loadMore() {
    if (this.#isLoadingMore) return;
    this.#isLoadingMore = true;
    this.#more.textContent = t("clips.loading");
    const number = this.#searchNumber;
    try {
      const page = await this.#api.list({ search: this.#search.value.trim(), after: this.#grid.lastId });
      if (number !== this.#searchNumber) return;
      this.#grid.append(page.data);
      this.#hasMore = page.has_more;
    } finally {
      this.#isLoadingMore = false;
      this.#more.textContent = t("clips.more");
      this.#renderEnd();
    }
  }

  /** Says which clips are finished now, for those who do not see them. @param {Clip[]} newest */
  #tellEnds(newest) {
    const waited = new Set(this.#grid.unfinished.map(({ id }) => id));
    const ended = newest.find(({ id, status }) => waited.has(id) && (status === "completed" || status === "failed"));
    if (ended !== undefined)
      byId("told", HTMLElement).textContent = t(`clips.told.${ended.status}`, { text: ended.prompt });
  }

  #renderEnd() {
    this.#more.hidden = !this.#hasMore;
    const empty = byId("empty", HTMLElement);
    empty.hidden = this.#grid.length > 0;
    if (empty.hidden) return;
    if (this.#search.value.trim() !== "") {
      empty.replaceChildren(make("p", "", [t("clips.none_found")]));
    } else if (
      empty.querySelector(".empty-examples") === null ||
      empty.dataset.language !== document.documentElement.lang
    ) {
      empty.dataset.language = document.documentElement.lang;
      const [first, , , second] = examplePrompts();
      const examples = [first, second].map((text) => textButton("plain", text, () => this.#write(text)));
      empty.replaceChildren(make("p", "", [t("clips.empty")]), make("div", "empty-examples", examples));
    }
  }

  /** @param {string} text */
  #write(text) {
    this.#prompt.value = text;
    byId("make", HTMLButtonElement).focus();
  }

  // --- what is done -----------------------------------------------------------------------------------------------

  async #order() {
    const make = byId("make", HTMLButtonElement);
    if (make.disabled) return;
    const value = (/** @type {string} */ id) =>
      /** @type {HTMLInputElement} */ (document.getElementById(id)).value.trim();
    const [size, seed] = [value("size"), value("seed")];
    const wish = { prompt: value("prompt"), seconds: value("seconds"), quality: value("quality") };
    make.disabled = true;
    try {
      await this.#ordered(this.#api.order({ ...wish, ...(size && { size }), ...(seed && { seed }) }));
      this.#prompt.value = "";
    } finally {
      make.disabled = false;
    }
  }

  /** @param {Promise<Clip>} order */
  async #ordered(order) {
    const clip = await order;
    const isFound = clip.prompt.toLowerCase().includes(this.#search.value.trim().toLowerCase());
    if (!isFound) this.#search.value = "";
    this.#grid.put(clip);
    this.#renderEnd();
    this.#toasts.show(t("clips.ordered"), "note");
    this.#refreshSoon(0);
  }

  /** @param {Clip} clip */
  async #again({ prompt, seconds, size, quality }) {
    await this.#ordered(this.#api.order({ prompt, seconds: String(Math.min(MAX_S, Number(seconds))), size, quality }));
  }

  /** @param {Clip} clip */
  #otherWords(clip) {
    openWords(this.#sheet, clip, (prompt) => void this.#doing(() => this.#ordered(this.#api.remix(clip.id, prompt))));
  }

  /** @param {Clip} clip */
  async #download({ id, seed, prompt }) {
    const { content_url: url } = await this.#api.find(id); // the link on the page may have ended
    const link = make("a", "");
    link.href = `${url}&${new URLSearchParams({ download: `${fileName(prompt)}-${seed}.mp4` })}`;
    link.click();
  }

  /** @param {Clip} clip */
  async #remove({ id }) {
    await this.#api.remove(id);
    this.#grid.remove(id);
    this.#renderEnd();
    byId("made", HTMLElement).querySelector("input")?.focus();
    this.#toasts.show(t("clips.removed"), "note");
  }

  /** @param {Clip} clip */
  async #chooseStage(clip) {
    const show = async (/** @type {string} */ stage) => {
      await this.#api.show(stage, clip.id);
      this.#toasts.show(t("clips.on_stage", { name: stage }), "note");
    };
    await openStages(
      this.#sheet,
      () => this.#api.stages(),
      (stage) => void this.#doing(() => show(stage)),
      explain,
    );
  }

  // --- how it goes ------------------------------------------------------------------------------------------------

  /** @param {() => Promise<void>} work that the user wants; a refusal is told in a toast */
  async #doing(work) {
    try {
      await work();
    } catch (error) {
      this.#toasts.show(explain(error), "error");
    }
  }

  /** @param {() => Promise<void>} work of the page itself; while it fails, the page says why */
  async #loading(work) {
    try {
      await work();
      this.#problem.hidden = true;
      this.#setState("live");
    } catch (error) {
      const makesNone = error instanceof ApiError && error.code === "not_supported";
      this.#problem.textContent = makesNone ? t("clips.none_here") : explain(error);
      this.#problem.hidden = false;
      this.#setState(!(error instanceof ApiError) ? "reconnecting" : isClosed(error) ? "refused" : "live");
    }
  }

  /** @param {"live" | "reconnecting" | "refused"} state */
  #setState(state) {
    this.#state.dataset.state = state;
    this.#state.textContent = t(`connection.${state}`);
  }

  async #changeLanguage() {
    await toggleLanguage();
    this.#setState("live");
    this.#grid.renderAll();
    this.#renderEnd();
  }
}

/** @param {ApiError} error */
const isClosed = ({ code }) => ["unauthorized", "missing_scope", "not_supported"].includes(code);

/** In the user's words. @param {unknown} error */
function explain(error) {
  if (!(error instanceof ApiError)) return t("operator.problem.lost");
  const key = ["clips.problem", "operator.problem", "error"].map((name) => `${name}.${error.code}`).find(hasText);
  return key === undefined ? error.message : t(key);
}

/** @param {string} prompt */
const fileName = (prompt) =>
  prompt
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 40) || "clip";

void new ClipsPage().open();
