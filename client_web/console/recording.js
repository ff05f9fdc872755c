/**
 * The record button: starts and stops a recording at the server, and shows its length and a link to the last one.
 * Hidden until the server has answered that it can record.
 *
 * @module recording
 */

import { RequestError } from "../sdk/errors.js";
import { byId, make } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @typedef {import("../sdk/session.js").Session} Session */
/** @typedef {import("../sdk/types.js").ServerMessage} ServerMessage */

const TICK_MS = 1000;
const DOWNLOAD_WITHIN_S = 60;

export class Recording {
  #elements = {
    root: byId("recording", HTMLElement),
    button: byId("record", HTMLButtonElement),
    text: byId("record-text", HTMLElement),
    link: byId("record-link", HTMLAnchorElement),
  };
  /** @type {Session | null} */
  #session = null;
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
   * @param {import("../sdk/address.js").Address} address
   * @param {(error: Error) => void} onError
   */
  constructor(address, onError) {
    this.#address = address;
    this.#onError = onError;
    this.#elements.button.addEventListener("click", () => {
      this.#session?.record(!this.#isRecording).catch(onError);
    });
    this.#elements.link.addEventListener("click", (event) => {
      if (address.token === null || this.#last === null) return;
      event.preventDefault();
      void this.#download(this.#last).catch(onError);
    });
  }

  /** @param {Session} session */
  follow(session) {
    this.#session = session;
    session.on("recording.changed", (message) => this.#changed(message));
    session.on("session", ({ isResumed }) => !isResumed && this.#learn());
  }

  /** Asks a new session's server whether it can record: a stop without a recording changes nothing, but is answered. */
  #learn() {
    this.#session?.record(false).catch((error) => {
      // A refusal means that it cannot. Any other error is a lost connection, and the next session asks again.
      if (error instanceof RequestError) this.#elements.root.hidden = true;
    });
  }

  /** @param {ServerMessage} message `recording.changed`, requested or not */
  #changed(message) {
    this.#elements.root.hidden = false;
    this.#isRecording = message.recording;
    if (message.recording) this.#beganAt = performance.now() - (message.duration_s ?? 0) * 1000;
    else if (message.url) this.#last = { name: message.name, url: message.url, sizeBytes: message.size_bytes };
    clearInterval(this.#ticking);
    if (message.recording) this.#ticking = setInterval(() => this.render(), TICK_MS);
    this.render();
    if (message.error) this.#onError(new RequestError(message.error));
  }

  /**
   * A download has no header for a token, and proxies log queries. So its address gets a secret that opens this once.
   *
   * @param {{name: string, url: string}} recording
   */
  async #download({ name, url }) {
    const { makeSecret } = await import("./share.js");
    const wish = {
      scope: ["record"],
      session: url.split("/")[3],
      uses: 1,
      expires_after: { seconds: DOWNLOAD_WITHIN_S },
    };
    // A page that was opened with a secret can make no narrower one.
    const secret = (await makeSecret(this.#address, wish)) ?? this.#address.token ?? "";
    const link = make("a", "");
    link.href = `${this.#address.http(url)}?token=${encodeURIComponent(secret)}`;
    link.download = name;
    link.click();
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
    link.href = this.#address.http(this.#last.url);
    link.download = this.#last.name;
    link.textContent = t("recording.download", { megabytes });
  }
}
