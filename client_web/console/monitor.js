/**
 * The program monitor: the video with what lies over it (tally, caption, standing-by picture, sound, full screen). When the
 * video goes away, its last picture is held, darkened, until it comes back.
 *
 * @module monitor
 */

import { t } from "../shared/i18n.js";
import { ConnectionState } from "../sdk/connection.js";

/** @typedef {"idle" | "preview" | "clip" | "blank"} OnAir */

/**
 * @typedef {object} MonitorElements
 * @property {HTMLElement} root carries `data-on-air` and `data-video`
 * @property {HTMLElement} tally
 * @property {HTMLElement} caption
 * @property {HTMLElement} hint
 * @property {HTMLButtonElement} fullscreen
 * @property {HTMLButtonElement} mute
 * @property {HTMLVideoElement} video
 * @property {HTMLImageElement} held
 */

export class Monitor {
  #elements;
  /** @type {OnAir} */
  #onAir = "idle";
  #caption = "";
  #hasVideo = false;
  #engineState = "unknown";
  #connectionState = /** @type {string} */ (ConnectionState.CLOSED);
  #takePicture;

  /**
   * @param {MonitorElements} elements
   * @param {() => string | null} takePicture what the video shows, as a data URI
   * @param {(error: Error) => void} onError
   */
  constructor(elements, takePicture, onError) {
    this.#elements = elements;
    this.#takePicture = takePicture;
    elements.mute.addEventListener("click", () => {
      elements.video.muted = !elements.video.muted;
      this.render();
    });
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
    if (!hasVideo) this.#hold();
    this.render();
  }

  /** @param {boolean} hasSound whether the server can send any */
  setSound(hasSound) {
    this.#elements.mute.hidden = !hasSound;
  }

  /** @param {string} state */
  setConnection(state) {
    this.#connectionState = state;
    this.render();
  }

  /** @param {string} engineState */
  setEngine(engineState) {
    if (engineState === this.#engineState) return;
    this.#engineState = engineState;
    this.render();
  }

  render() {
    const { root, tally, caption, hint, fullscreen, mute, video, held } = this.#elements;
    const onAir = this.#known();
    const isHeld = !this.#hasVideo && held.src !== "";
    root.dataset.onAir = onAir;
    root.dataset.video = this.#hasVideo ? "playing" : isHeld ? "held" : "none";
    held.hidden = !isHeld;
    document.body.dataset.onAir = onAir;
    tally.textContent = t(`tally.${onAir}`);
    caption.textContent = this.#caption;
    caption.hidden = this.#caption === "" || !["preview", "clip"].includes(onAir);
    hint.textContent = this.#hint(onAir);
    hint.hidden = hint.textContent === "";
    const label = t(document.fullscreenElement === null ? "program.fullscreen" : "program.fullscreen_exit");
    fullscreen.ariaLabel = label;
    fullscreen.title = label;
    mute.ariaPressed = String(!video.muted);
    mute.ariaLabel = t(video.muted ? "program.unmute" : "program.mute");
    mute.title = mute.ariaLabel;
  }

  #hold() {
    const picture = this.#takePicture();
    if (picture !== null) this.#elements.held.src = picture;
  }

  /** Without word from the server, and without its video, nobody here knows what is on air. */
  #known() {
    return this.#connectionState === ConnectionState.LIVE || this.#hasVideo ? this.#onAir : "lost";
  }

  /** @param {OnAir | "lost"} onAir */
  #hint(onAir) {
    switch (onAir) {
      case "lost":
        if (this.#connectionState === ConnectionState.REFUSED) return t("program.refused");
        if (this.#elements.held.src !== "") return t("program.held");
        // Not while the page opens: that it has no connection yet is no news.
        return this.#connectionState === ConnectionState.WAITING ? t("program.lost") : "";
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
