/**
 * The page for OBS: transparent until the first frame, then only the picture. `Screen` shows the program, and `Air`
 * tells when OBS shows the page. Errors go to the browser's log, never onto the picture. One is also shown, while there
 * is no picture yet and OBS does not send the page out: the address has no token, or a wrong one.
 *
 * @module obs
 */

import { Air } from "./air.js";
import { readAddress } from "./address.js";
import { Screen } from "../shared/screen.js";
import { Address } from "../sdk/address.js";
import { Whep } from "../sdk/whep.js";

const DEBUG_INTERVAL_MS = 500;

class ObsPage {
  #address = readAddress(location);
  #picture = /** @type {HTMLElement} */ (document.getElementById("picture"));
  #video = /** @type {HTMLVideoElement} */ (document.getElementById("program"));
  #held = /** @type {HTMLCanvasElement} */ (document.getElementById("held"));
  #note = /** @type {HTMLElement} */ (document.getElementById("note"));
  #lastComplaint = "";
  #isRefused = false;
  #screen = this.#newScreen();
  #air = new Air(this.#address.graceMs, (isOnAir) => this.#airChanged(isOnAir));

  open() {
    const { fit, isMirrored, fadeMs, wantsAudio, wantsDebug, complaints } = this.#address;
    const { style } = document.documentElement;
    style.setProperty("--fit", fit);
    style.setProperty("--flip", isMirrored ? "scaleX(-1)" : "none");
    style.setProperty("--fade", `${fadeMs}ms`);
    this.#video.muted = !wantsAudio;
    for (const complaint of complaints) this.#complain(complaint);
    if (wantsDebug) this.#showDebug();
    this.#air.listen(window);
    window.addEventListener("obsSourceActiveChanged", () => void this.#renderNote());
    window.addEventListener("pagehide", () => this.#screen.leave());
    // The page came back from the browser's page cache, where it was no viewer.
    window.addEventListener("pageshow", (event) => event.persisted && this.#air.isOnAir && this.#screen.enter());
    this.#screen.enter();
  }

  #newScreen() {
    const server = new Address(location.origin, this.#address.token);
    const id = encodeURIComponent(this.#address.session);
    return new Screen(
      this.#video,
      this.#held,
      new Whep(server.http(`/whep/${id}`), server.headers),
      { openWatch: () => server.openSocket(`/v1/sessions/${id}/watch`) },
      {
        onLive: (isLive) => this.#liveChanged(isLive),
        onError: (error) => this.#pictureFailed(error),
      },
    );
  }

  /** @param {Error & {code?: string}} error another attempt follows */
  #pictureFailed(error) {
    this.#isRefused = error.code === "unauthorized";
    void this.#renderNote();
    this.#complain(`${error.code ?? error.name}: ${error.message}; trying again`);
    if (error.name !== "NotAllowedError" || this.#video.muted) return;
    // OBS plays sound at once. A browser needs a click first, and without one would not show the picture either.
    this.#video.muted = true;
    this.#video.play().catch((reason) => this.#complain(`${reason.name}: ${reason.message}`));
  }

  /** @param {boolean} isLive */
  #liveChanged(isLive) {
    if (!isLive) return;
    this.#lastComplaint = "";
    this.#isRefused = false;
    void this.#renderNote();
    this.#picture.dataset.shown = "true"; // from now on there is always a picture: the program's, or the held one
  }

  async #renderNote() {
    this.#note.hidden = !this.#isRefused || this.#picture.dataset.shown === "true" || this.#air.isInProgram;
    if (this.#note.hidden || this.#note.textContent !== "") return;
    // Loaded now, because most pages for OBS never say anything.
    const { chooseLanguage, t } = await import("../shared/i18n.js");
    await chooseLanguage();
    this.#note.textContent = t("obs.no_token");
  }

  /** @param {boolean} isOnAir */
  #airChanged(isOnAir) {
    console.info(`sceneshift: ${isOnAir ? "on air again" : "off air: no viewer until OBS shows this source again"}`);
    if (isOnAir) this.#screen.enter();
    else this.#screen.leave();
  }

  /** @param {string} complaint logged once until it changes: an hour without a server must not log a thousand lines */
  #complain(complaint) {
    if (complaint === this.#lastComplaint) return;
    this.#lastComplaint = complaint;
    console.warn(`sceneshift: ${complaint}`);
  }

  #showDebug() {
    const debug = /** @type {HTMLElement} */ (document.getElementById("debug"));
    debug.hidden = false;
    const render = () => {
      const { videoWidth, videoHeight } = this.#video;
      debug.textContent = [
        `session  ${this.#address.session}`,
        `player   ${this.#screen.player.state} over ${this.#screen.player.transport}${this.#screen.isLive ? "" : ", frame held"}`,
        `on air   ${this.#air.isOnAir ? "yes" : "no"}`,
        `picture  ${videoWidth}×${videoHeight}`,
        `frames   ${this.#video.getVideoPlaybackQuality().totalVideoFrames}`,
        `last     ${this.#lastComplaint || "—"}`,
      ].join("\n");
    };
    render();
    setInterval(render, DEBUG_INTERVAL_MS);
  }
}

new ObsPage().open();
