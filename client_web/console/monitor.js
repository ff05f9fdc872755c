/**
 * The program monitor: the video and the elements over it (tally, caption, stand-by picture, sound, full screen). While
 * the video is missing, the monitor shows its last picture, darkened.
 *
 * @module monitor
 */

import { byId } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @typedef {import("../sdk/types.js").OnAir} OnAir */

const HELD_WIDTH = 832;

export class Monitor {
  #elements = {
    root: byId("monitor", HTMLElement),
    tally: byId("tally", HTMLElement),
    caption: byId("caption", HTMLElement),
    hint: byId("hint", HTMLElement),
    fullscreen: byId("fullscreen", HTMLButtonElement),
    mute: byId("mute", HTMLButtonElement),
    video: byId("program", HTMLVideoElement),
    held: byId("held", HTMLImageElement),
  };
  /** @type {OnAir} */
  #onAir = "idle";
  #caption = "";
  #hasVideo = false;
  #engineState = "unknown";
  /** @type {import("../sdk/session.js").Session | null} */
  #session = null;

  /** @param {(error: Error) => void} onError */
  constructor(onError) {
    const { mute, video, fullscreen } = this.#elements;
    mute.addEventListener("click", () => {
      video.muted = !video.muted;
      this.render();
    });
    fullscreen.addEventListener("click", () => void this.#toggleFullscreen().catch(onError));
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

  /** @param {import("../sdk/session.js").Session} session with a viewer */
  follow(session) {
    this.#session = session;
    const { viewer } = session;
    session.on("state", () => this.render());
    viewer?.on("state", (state) => state !== "playing" && this.setVideo(false));
    viewer?.on("stalled", () => this.setVideo(false));
    viewer?.on("frame", () => this.setVideo(true));
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
    const picture = this.#session?.viewer?.picture(HELD_WIDTH);
    if (picture) this.#elements.held.src = picture;
  }

  /** What is on air; `lost` if there is neither a connection nor video to know it from. */
  #known() {
    return this.#session?.state === "live" || this.#hasVideo ? this.#onAir : "lost";
  }

  /** @param {OnAir | "lost"} onAir */
  #hint(onAir) {
    switch (onAir) {
      case "lost":
        if (this.#session?.state === "refused") return t("program.refused");
        if (this.#elements.held.src !== "") return t("program.held");
        // Not while the page opens: it cannot have a connection yet.
        return this.#session?.state === "reconnecting" ? t("program.lost") : "";
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
