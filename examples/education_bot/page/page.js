/**
 * The chat page: questions go to the bot over a WebSocket, answers come back, and the stage's picture runs beside them.
 * The bot hands the picture's signalling on, so this page speaks to nobody else.
 *
 * @module page
 */

import { watch } from "/client/sdk/watch.js";
import { SUGGESTIONS, text, wordList } from "./texts.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;
const LANGUAGE_KEY = "sceneshift.education.language";
const MAX_ROWS = 200;

/** @typedef {import("./texts.js").Language} Language */

class Page {
  #language = preferred();
  /** @type {WebSocket | null} */
  #socket = null;
  #numAttempts = 0;
  #state = "connecting";
  #sessionId = "";
  /** @type {ReturnType<typeof watch> | null} */
  #viewer = null;
  /** @type {string[]} asked while the bot was away: the newest only */
  #unsent = [];
  /** @type {string[]} what the model knows of the newest scene */
  #understood = [];
  #number = 0;

  open() {
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask(question().value);
    });
    byId("language").addEventListener("click", () => this.#speak(this.#language === "en" ? "zh" : "en"));
    this.#speak(this.#language);
    this.#connect();
  }

  #connect() {
    this.#enter("connecting");
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/chat`);
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#receive(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      this.#enter("waiting");
      const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#numAttempts);
      this.#numAttempts = Math.min(this.#numAttempts + 1, 10);
      setTimeout(() => this.#connect(), Math.random() * longest);
    });
  }

  /** @param {string} asked */
  #ask(asked) {
    const trimmed = asked.trim();
    if (trimmed === "") return;
    question().value = "";
    this.#row("child", trimmed);
    this.#unsent = [trimmed];
    this.#flush();
  }

  #flush() {
    if (this.#state !== "live" || this.#socket?.readyState !== WebSocket.OPEN) return;
    for (const asked of this.#unsent) this.#socket.send(JSON.stringify({ ask: asked }));
    this.#unsent = [];
  }

  /** @param {Record<string, any>} message */
  #receive(message) {
    switch (message.type) {
      case "stage":
        this.#numAttempts = 0;
        this.#enter("live");
        this.#watch(message.session_id);
        this.#flush();
        break;
      case "on_air":
        byId("monitor").dataset.onAir = message.on_air;
        byId("hint").hidden = message.on_air !== "idle";
        break;
      case "answer":
        this.#number = message.number;
        this.#understood = [];
        this.#row("bot", message.text, message.note === "" ? "" : text(this.#language, message.note));
        byId("caption").textContent = message.caption;
        this.#progress("");
        break;
      case "words":
        if (message.number !== this.#number) break;
        this.#understood = message.understood;
        if (message.not_understood.length > 0) {
          this.#row("bot", text(this.#language, "not_understood", wordList(this.#language, message.not_understood)));
        }
        break;
      case "scene":
        if (message.number === this.#number) this.#scene(message.state);
        break;
      case "queued":
        this.#progress(text(this.#language, "queued", message.position));
        break;
      case "full":
      case "no_stage":
        this.#progress(text(this.#language, message.type));
        break;
      case "error":
        this.#progress(message.message);
        break;
      default:
        throw new Error(`unknown message ${message.type}`);
    }
  }

  /** @param {string} state */
  #scene(state) {
    if (state === "making") this.#progress(text(this.#language, "making"));
    else if (state === "applied" && this.#understood.length > 0) {
      this.#progress(text(this.#language, "on_air", wordList(this.#language, this.#understood)));
    } else if (state === "applied") this.#progress(text(this.#language, "on_air_plain"));
    else if (state === "superseded") this.#progress("");
    else this.#progress(text(this.#language, "failed"));
  }

  /** @param {string} sessionId */
  #watch(sessionId) {
    if (sessionId === this.#sessionId) return;
    this.#sessionId = sessionId;
    this.#viewer?.close();
    const video = /** @type {HTMLVideoElement} */ (byId("video"));
    const show = (/** @type {string} */ state) => (byId("monitor").dataset.video = state);
    this.#viewer = watch(video, { session: sessionId, server: location.origin, on: { state: show } });
    show(this.#viewer.state);
  }

  /**
   * @param {"child" | "bot"} who
   * @param {string} said
   * @param {string} [note]
   */
  #row(who, said, note = "") {
    const row = document.createElement("li");
    row.className = who;
    row.textContent = said;
    if (note !== "") {
      const small = document.createElement("small");
      small.textContent = note;
      row.append(small);
    }
    const log = byId("log");
    log.append(row);
    while (log.childElementCount > MAX_ROWS) log.firstElementChild?.remove();
    log.scrollTop = log.scrollHeight;
  }

  /** @param {string} said */
  #progress(said) {
    byId("progress").textContent = said;
  }

  /** @param {"connecting" | "live" | "waiting"} state */
  #enter(state) {
    this.#state = state;
    const chip = byId("connection");
    chip.dataset.state = state;
    chip.textContent = text(this.#language, state);
  }

  /** @param {Language} language */
  #speak(language) {
    this.#language = language;
    keep(language);
    document.documentElement.lang = language;
    document.title = text(language, "title");
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = text(language, /** @type {HTMLElement} */ (element).dataset.text ?? "");
    }
    for (const element of document.querySelectorAll("[data-label]")) {
      element.setAttribute("aria-label", text(language, /** @type {HTMLElement} */ (element).dataset.label ?? ""));
    }
    question().placeholder = text(language, "placeholder");
    const other = byId("language");
    other.textContent = language === "en" ? "中文" : "English";
    other.lang = language === "en" ? "zh" : "en";
    byId("connection").textContent = text(language, this.#state);
    byId("suggestions").replaceChildren(...SUGGESTIONS[language].map((asked) => this.#suggestion(asked)));
  }

  /** @param {string} asked */
  #suggestion(asked) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = asked;
    button.addEventListener("click", () => this.#ask(asked));
    return button;
  }
}

/** @returns {Language} */
function preferred() {
  try {
    const kept = localStorage.getItem(LANGUAGE_KEY);
    if (kept === "en" || kept === "zh") return kept;
  } catch {
    // Storage may be blocked; then the browser's language decides each time.
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @param {Language} language */
function keep(language) {
  try {
    localStorage.setItem(LANGUAGE_KEY, language);
  } catch {
    // It is forgotten, no more.
  }
}

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** @returns {HTMLInputElement} */
function question() {
  return /** @type {HTMLInputElement} */ (byId("question"));
}

new Page().open();
