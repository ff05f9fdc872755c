/**
 * The program monitor: the video with what lies over it (tally, caption, standing-by picture, full screen).
 *
 * @module monitor
 */

import { t } from "./i18n.js";

/** @typedef {"idle" | "preview" | "clip" | "blank"} OnAir */

/**
 * @typedef {object} MonitorElements
 * @property {HTMLElement} root carries `data-on-air` and `data-video`
 * @property {HTMLElement} tally
 * @property {HTMLElement} caption
 * @property {HTMLElement} hint
 * @property {HTMLButtonElement} fullscreen
 */

export class Monitor {
  #elements;
  /** @type {OnAir} */
  #onAir = "idle";
  #caption = "";
  #hasVideo = false;
  #engineState = "unknown";
  #isConnected = false;

  /**
   * @param {MonitorElements} elements
   * @param {(error: Error) => void} onError
   */
  constructor(elements, onError) {
    this.#elements = elements;
    elements.fullscreen.addEventListener("click", () => void this.#toggleFullscreen().catch(onError));
    document.addEventListener("fullscreenchange", () => this.render());
  }

  /**
   * @param {OnAir} onAir
   * @param {string} caption the prompt on air, or nothing
   */
  show(onAir, caption) {
    this.#onAir = onAir;
    this.#caption = caption;
    this.render();
  }

  /** @param {boolean} hasVideo */
  setVideo(hasVideo) {
    if (hasVideo === this.#hasVideo) return;
    this.#hasVideo = hasVideo;
    this.render();
  }

  /** @param {boolean} isConnected */
  setConnected(isConnected) {
    if (isConnected === this.#isConnected) return;
    this.#isConnected = isConnected;
    this.render();
  }

  /** @param {string} engineState */
  setEngine(engineState) {
    if (engineState === this.#engineState) return;
    this.#engineState = engineState;
    this.render();
  }

  render() {
    const { root, tally, caption, hint, fullscreen } = this.#elements;
    const onAir = this.#known();
    root.dataset.onAir = onAir;
    root.dataset.video = this.#hasVideo ? "playing" : "none";
    document.body.dataset.onAir = onAir;
    tally.textContent = t(`tally.${onAir}`);
    caption.textContent = this.#caption;
    caption.hidden = this.#caption === "" || !["preview", "clip"].includes(onAir);
    hint.textContent = this.#hint(onAir);
    hint.hidden = hint.textContent === "";
    const label = t(document.fullscreenElement === null ? "program.fullscreen" : "program.fullscreen_exit");
    fullscreen.ariaLabel = label;
    fullscreen.title = label;
  }

  /** Without word from the server, and without its video, nobody here knows what is on air. */
  #known() {
    return this.#isConnected || this.#hasVideo ? this.#onAir : "lost";
  }

  /** @param {OnAir | "lost"} onAir */
  #hint(onAir) {
    switch (onAir) {
      case "lost":
        return t("program.lost");
      case "idle":
        return t(this.#engineState === "starting" ? "program.loading" : "program.hint");
      case "blank":
        return t("program.blanked");
      case "preview":
      case "clip":
        return this.#hasVideo ? "" : t("program.no_video");
      default:
        throw new Error(`unknown on-air state ${onAir}`);
    }
  }

  async #toggleFullscreen() {
    if (document.fullscreenElement !== null) await document.exitFullscreen();
    else await this.#elements.root.requestFullscreen();
  }
}
