/**
 * The record button: begins and ends a recording at the server, shows how long it has run and where the last one can be
 * fetched. Loaded when a server has answered that it can record; before, the button is hidden.
 *
 * @module recording
 */

import { t } from "../shared/i18n.js";

/** @typedef {import("../sdk/messages.js").ServerMessage} ServerMessage */

const TICK_MS = 1000;

export class Recording {
  #elements;
  #ask;
  #address;
  #onError;
  #isRecording = false;
  /** When it began, on the clock of `performance.now()`. */
  #beganAt = 0;
  /** @type {{name: string, url: string, sizeBytes: number} | null} the last one that ended */
  #last = null;
  /** @type {ReturnType<typeof setInterval> | undefined} only while it records */
  #ticking;

  /**
   * @param {{root: HTMLElement, button: HTMLButtonElement, text: HTMLElement, link: HTMLAnchorElement}} elements
   * @param {(recording: boolean) => Promise<ServerMessage>} ask
   * @param {(url: string) => string} address of a file of the server's, with what opens it
   * @param {(error: Error) => void} onError
   */
  constructor(elements, ask, address, onError) {
    this.#elements = elements;
    this.#ask = ask;
    this.#address = address;
    this.#onError = onError;
    elements.button.addEventListener("click", () => void this.#toggle());
  }

  /** @param {ServerMessage} message `recording.changed`, asked for or not */
  changed(message) {
    this.#elements.root.hidden = false;
    this.#isRecording = message.recording;
    if (message.recording) this.#beganAt = performance.now() - (message.duration_s ?? 0) * 1000;
    else if (message.url) this.#last = { name: message.name, url: message.url, sizeBytes: message.size_bytes };
    clearInterval(this.#ticking);
    if (message.recording) this.#ticking = setInterval(() => this.render(), TICK_MS);
    this.render();
  }

  render() {
    const { button, text, link } = this.#elements;
    const elapsedS = Math.max(0, Math.floor((performance.now() - this.#beganAt) / 1000));
    const clock = `${Math.floor(elapsedS / 60)}:${String(elapsedS % 60).padStart(2, "0")}`;
    text.textContent = this.#isRecording ? clock : t("recording.start");
    button.ariaPressed = String(this.#isRecording);
    button.ariaLabel = t(this.#isRecording ? "recording.stop" : "recording.start");
    button.title = button.ariaLabel;
    link.hidden = this.#last === null || this.#isRecording;
    if (this.#last === null) return;
    const megabytes = (this.#last.sizeBytes / 1e6).toFixed(1);
    link.href = this.#address(this.#last.url);
    link.download = this.#last.name;
    link.textContent = t("recording.download", { megabytes });
  }

  async #toggle() {
    try {
      this.changed(await this.#ask(!this.#isRecording));
    } catch (error) {
      this.#onError(/** @type {Error} */ (error));
    }
  }
}
