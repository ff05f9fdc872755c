/**
 * `<live-scene>`: a live scene in any page. It has its own stage (`stage.js`) or, with `session`, watches another one.
 * docs/widget.md describes its attributes, methods and events. `#render` derives everything visible from the fields.
 *
 * @module widget/live-scene
 */

import { ConnectionState } from "../sdk/connection.js";
import { Screen } from "../shared/screen.js";
import { Address } from "../sdk/address.js";
import { Whep } from "../sdk/whep.js";
import { furnish, parsePresets } from "./markup.js";
import { Seen } from "./seen.js";
import { Stage } from "./stage.js";
import style from "./style.js";
import { textsIn } from "./texts.js";

/** @typedef {"idle" | "connecting" | "queued" | "live" | "paused" | "failed"} LiveSceneState */

const SERVER = new URL(import.meta.url).origin;
// Errors that another attempt does not fix.
const REFUSALS = Object.freeze(["unauthorized", "forbidden_origin", "forbidden_host", "token_needed_behind_proxy"]);
const ADDRESS = Object.freeze(["server", "session", "token", "quality"]);

export class LiveScene extends HTMLElement {
  /** How long an unwatched stage is kept, because it holds a place that another visitor may need. */
  static keepStageMs = 60_000;
  static observedAttributes = [...ADDRESS, "presets", "poster", "lang", "theme", "controls", "allow-prompts"];

  #parts;
  #t = textsIn("en");
  #presets = /** @type {string[]} */ ([]);
  #seen = new Seen(this, () => this.#seenChanged());
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #themeChanged = () => this.#renderTheme();
  /** @type {Screen | null} */
  #screen = null;
  /** @type {Stage | null} null with `session` */
  #stage = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #stageTimer;

  /** The visitor or the page wants it to run. It runs only while it can be seen. */
  #isWanted = false;
  #connection = /** @type {string} */ (ConnectionState.CLOSED);
  #position = 0;
  #hasBeenLive = false;
  #onAir = "idle";
  #text = "";
  /** @type {{step: number, numSteps: number} | null} */
  #making = null;
  /** @type {"refused" | "failed" | null} */
  #trouble = null;
  /** With `session`: the session does not exist (yet). */
  #isAwaited = false;
  #reported = /** @type {LiveSceneState} */ ("idle");

  constructor() {
    super();
    const root = this.attachShadow({ mode: "closed", delegatesFocus: true });
    root.adoptedStyleSheets = [style];
    this.#parts = furnish(root);
    const { start, pause, retry, form, field } = this.#parts;
    start.addEventListener("click", () => this.start());
    pause.addEventListener("click", () => {
      this.pause();
      start.focus();
    });
    retry.addEventListener("click", () => this.#retry());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.prompt(field.value)) field.value = "";
    });
  }

  // --- for the host page -----------------------------------------------------------------------------------------

  /** @returns {LiveSceneState} */
  get state() {
    if (this.#trouble === "refused") return "failed";
    if (!this.#isWanted) return this.#hasBeenLive ? "paused" : "idle";
    if (!this.#seen.isSeen) return this.#hasBeenLive ? "paused" : "connecting";
    if (this.#connection === ConnectionState.QUEUED) return "queued";
    return this.#screen?.isLive ? "live" : "connecting";
  }

  get presets() {
    return [...this.#presets];
  }

  set presets(texts) {
    this.#presets = texts.map(String);
    this.#renderPresets();
  }

  /** Runs from now on whenever it can be seen. */
  start() {
    this.#isWanted = true;
    this.#trouble = null;
    this.#run();
  }

  /** Stops watching. The last frame stays. */
  pause() {
    this.#isWanted = false;
    this.#rest();
  }

  /**
   * Puts a scene on the stage, and starts if necessary. The page may forbid it by cancelling the `prompt` event. With
   * `session` the widget sends no prompt: the page gets the event and passes the text on.
   *
   * @param {string} text
   * @returns {boolean} false if it was empty or forbidden
   */
  prompt(text) {
    const wish = text.trim();
    if (wish === "" || !this.#mayPrompt || !this.#tell("prompt", { text: wish }, true)) return false;
    if (this.#session === null) {
      this.#text = wish;
      this.#trouble = null;
      this.#stage?.prompt(wish);
    }
    this.start();
    return true;
  }

  // --- the element's life ----------------------------------------------------------------------------------------

  connectedCallback() {
    this.#dark.addEventListener("change", this.#themeChanged);
    this.#text = this.getAttribute("prompt") ?? "";
    // Do not start by itself for visitors who prefer reduced motion.
    const mayMove = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#isWanted = this.hasAttribute("autostart") && mayMove;
    this.#renderTexts();
    this.#renderTheme();
    this.#seen.watch();
  }

  disconnectedCallback() {
    this.#dark.removeEventListener("change", this.#themeChanged);
    this.#seen.stop();
    this.#end();
    this.#hasBeenLive = false;
  }

  /** @param {string} name */
  attributeChangedCallback(name) {
    if (name === "presets") this.#readPresets();
    if (!this.isConnected) return;
    if (ADDRESS.includes(name) && this.#screen !== null) {
      this.#end();
      this.#run();
    }
    if (name === "theme") this.#renderTheme();
    else this.#renderTexts();
  }

  get #session() {
    return this.getAttribute("session");
  }

  get #mayPrompt() {
    return this.#session === null || this.hasAttribute("allow-prompts");
  }

  #readPresets() {
    try {
      this.presets = parsePresets(this.getAttribute("presets") ?? "");
    } catch {
      this.#tell("error", {
        code: "invalid_presets",
        message: "presets: expected a JSON list of texts, or texts with | between",
      });
    }
  }

  // --- running and resting ---------------------------------------------------------------------------------------

  #seenChanged() {
    if (this.#seen.isSeen) this.#run();
    else this.#rest();
  }

  #run() {
    if (this.#isWanted && this.#seen.isSeen && this.#trouble !== "refused") {
      clearTimeout(this.#stageTimer);
      if (this.#screen === null) this.#build();
      this.#stage?.open();
      this.#screen?.enter();
    }
    this.#render();
  }

  #rest() {
    this.#screen?.leave();
    clearTimeout(this.#stageTimer);
    if (this.#stage !== null) this.#stageTimer = setTimeout(() => this.#stage?.close(), LiveScene.keepStageMs);
    this.#render();
  }

  #end() {
    clearTimeout(this.#stageTimer);
    this.#screen?.leave();
    this.#stage?.close();
    this.#screen = this.#stage = null;
    this.#onAir = "idle";
  }

  #build() {
    const address = new Address(this.getAttribute("server") ?? SERVER, this.getAttribute("token"));
    const { signalling, openWatch } = this.#source(address);
    const { video, held } = this.#parts;
    this.#screen = new Screen(
      video,
      held,
      signalling,
      { openWatch },
      {
        // Before its first scene our own stage is empty, so the poster or the held frame stays.
        mayShow: () => this.#stage === null || this.#onAir !== "idle",
        onLive: (isLive) => {
          this.#hasBeenLive ||= isLive;
          this.#render();
        },
        onError: (error) => this.#pictureFailed(error),
      },
    );
  }

  /** @param {Address} address */
  #source(address) {
    const session = this.#session;
    if (session === null) {
      const stage = (this.#stage = this.#newStage(address));
      return { signalling: stage, openWatch: () => stage.openWatch() };
    }
    const id = encodeURIComponent(session);
    const openWatch = () => address.openSocket(`/v1/sessions/${id}/watch`);
    return { signalling: new Whep(address.http(`/whep/${id}`), address.headers), openWatch };
  }

  /** @param {Address} address */
  #newStage(address) {
    const quality = /** @type {"fast" | "fine"} */ (this.getAttribute("quality") ?? "fast");
    const stage = new Stage(
      address,
      { quality },
      {
        onState: (state) => this.#update(() => (this.#connection = state)),
        onNewStage: () => this.#screen?.reenter(),
        onQueued: (position) => this.#update(() => (this.#position = position)),
        onMaking: (making) => this.#update(() => (this.#making = making)),
        onAir: (onAir) => this.#update(() => (this.#onAir = onAir)),
        onScene: (scene) => this.#tell("scene-change", scene),
        onTrouble: (error, isOver) => this.#fail(error, isOver),
      },
    );
    if (this.#text !== "") stage.prompt(this.#text);
    return stage;
  }

  /** @param {Error & {code?: string}} error of the path or the signalling; retried unless one of `REFUSALS` */
  #pictureFailed({ code = "client", message }) {
    if (this.#stage !== null) return; // the stage reports the errors that a visitor can act on
    this.#update(() => (this.#isAwaited = code === "unknown_session"));
    this.#fail({ code, message }, REFUSALS.includes(code));
  }

  /**
   * @param {{code: string, message: string}} error
   * @param {boolean} isOver no other attempt follows by itself
   */
  #fail({ code, message }, isOver) {
    this.#tell("error", { code, message });
    // For the page's developer; its visitor reads that the scene cannot be opened here.
    if (code === "unauthorized") console.error(`live-scene: ${message} (attribute token="…": a client secret)`);
    if (!isOver) return;
    const isStageLive = this.#connection === ConnectionState.LIVE;
    this.#trouble = isStageLive ? "failed" : "refused";
    if (!isStageLive) this.#screen?.leave();
    this.#render();
  }

  #retry() {
    const isRefused = this.#trouble === "refused";
    this.#trouble = null;
    if (!isRefused && this.#text !== "") this.#stage?.prompt(this.#text);
    this.start();
  }

  /** @param {() => void} change */
  #update(change) {
    change();
    this.#render();
  }

  /**
   * @param {string} type
   * @param {object} detail
   * @param {boolean} [cancelable]
   * @returns {boolean} false if the page has cancelled it
   */
  #tell(type, detail, cancelable = false) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable, bubbles: type !== "error", composed: true }));
  }

  // --- rendering -------------------------------------------------------------------------------------------------

  #renderTexts() {
    const language = this.getAttribute("lang") || this.closest("[lang]")?.getAttribute("lang") || navigator.language;
    const t = (this.#t = textsIn(language));
    const { stage, label, start, pause, retry, field, send, presets, controls, poster } = this.#parts;
    stage.ariaLabel = t("name");
    label.textContent = t("label");
    start.ariaLabel = start.title = t("start");
    pause.ariaLabel = pause.title = t("pause");
    retry.textContent = t("retry");
    field.placeholder = field.ariaLabel = t("field");
    send.textContent = t("send");
    presets.ariaLabel = t("presets");
    const image = this.getAttribute("poster");
    poster.style.backgroundImage =
      image === null ? "" : `url(${JSON.stringify(new URL(image, document.baseURI).href)})`;
    this.#parts.form.hidden = this.getAttribute("controls") === "presets";
    controls.hidden = this.getAttribute("controls") === "none" || !this.#mayPrompt;
    this.#render();
  }

  #renderTheme() {
    const theme = this.getAttribute("theme");
    this.dataset.theme = theme === "light" || theme === "dark" ? theme : this.#dark.matches ? "dark" : "light";
  }

  #renderPresets() {
    const buttons = this.#presets.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "preset";
      button.part.add("preset");
      button.textContent = text;
      button.addEventListener("click", () => this.prompt(text));
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    this.#parts.presets.replaceChildren(...buttons);
    this.#parts.presets.hidden = buttons.length === 0;
    this.#renderPressed();
  }

  #renderPressed() {
    for (const button of this.#parts.presets.querySelectorAll("button")) {
      button.ariaPressed = String(this.#session === null && button.textContent === this.#text);
    }
  }

  #render() {
    const { stage, start, pause, status, words, progress, retry } = this.#parts;
    const { state } = this;
    stage.dataset.picture = String(this.#hasBeenLive);
    start.hidden = this.#isWanted || this.#trouble !== null;
    pause.hidden = !this.#isWanted || !this.#hasBeenLive || this.#trouble !== null;
    const text = this.#isWanted || this.#trouble !== null ? this.#words(state) : "";
    // Set only when it changes, or screen readers would repeat it at each step.
    if (words.textContent !== text) words.textContent = text;
    status.hidden = text === "";
    retry.hidden = this.#trouble === null;
    progress.hidden = this.#making === null || this.#trouble !== null;
    if (this.#making !== null && this.#making.numSteps > 0) progress.value = this.#making.step / this.#making.numSteps;
    else progress.removeAttribute("value");
    progress.ariaLabel = text;
    this.#renderPressed();
    if (state === this.#reported) return;
    this.#reported = state;
    this.#tell("state-change", { state });
  }

  /** @param {LiveSceneState} state */
  #words(state) {
    if (this.#trouble !== null) return this.#t(this.#trouble);
    if (state === "queued") return this.#t("queued", { position: this.#position });
    if (this.#connection === ConnectionState.WAITING) return this.#t("reconnecting");
    if (this.#making !== null) return this.#t("making");
    if (this.#stage !== null && this.#connection === ConnectionState.LIVE && this.#text === "")
      return this.#t("choose");
    if (state !== "connecting") return "";
    return this.#t(
      this.#stage === null && this.#isAwaited ? "waiting" : this.#hasBeenLive ? "reconnecting" : "connecting",
    );
  }
}

customElements.define("live-scene", LiveScene);
