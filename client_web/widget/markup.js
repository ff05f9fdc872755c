/**
 * The elements of the widget, in the shadow root of `live-scene.js`.
 *
 * @module widget/markup
 */

const template = document.createElement("template");
template.innerHTML = `
<section class="stage" role="group">
  <div class="below">
    <video autoplay muted playsinline disablepictureinpicture></video>
    <canvas aria-hidden="true" hidden></canvas>
    <div class="poster" part="poster"></div>
    <button class="start" part="start" type="button"><svg viewBox="0 0 24 24" width="30" height="30" aria-hidden="true"><path d="M8 5v14l11-7z"/></svg></button>
    <button class="pause" part="pause" type="button" hidden><svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d="M7 5h4v14H7zM13 5h4v14h-4z"/></svg></button>
    <div class="status" part="status" hidden><p role="status"></p><progress part="progress" max="1" hidden></progress><button class="retry" part="retry" type="button" hidden></button></div>
  </div>
  <p class="label"></p>
</section>
<div class="controls" part="controls">
  <form part="form"><input class="field" part="field" maxlength="300" enterkeyhint="send" autocomplete="off"><button class="send" part="send"></button></form>
  <ul part="presets"></ul>
</div>`;

/** @param {ShadowRoot} root */
export function furnish(root) {
  root.append(template.content.cloneNode(true));
  /** @type {<T extends Element>(selector: string) => T} */
  const find = (selector) => /** @type {any} */ (root.querySelector(selector));
  return {
    stage: /** @type {HTMLElement} */ (find(".stage")),
    video: /** @type {HTMLVideoElement} */ (find("video")),
    held: /** @type {HTMLCanvasElement} */ (find("canvas")),
    poster: /** @type {HTMLElement} */ (find(".poster")),
    start: /** @type {HTMLButtonElement} */ (find(".start")),
    pause: /** @type {HTMLButtonElement} */ (find(".pause")),
    status: /** @type {HTMLElement} */ (find(".status")),
    words: /** @type {HTMLElement} */ (find(".status p")),
    progress: /** @type {HTMLProgressElement} */ (find("progress")),
    retry: /** @type {HTMLButtonElement} */ (find(".retry")),
    label: /** @type {HTMLElement} */ (find(".label")),
    controls: /** @type {HTMLElement} */ (find(".controls")),
    form: /** @type {HTMLFormElement} */ (find("form")),
    field: /** @type {HTMLInputElement} */ (find(".field")),
    send: /** @type {HTMLButtonElement} */ (find(".send")),
    presets: /** @type {HTMLElement} */ (find("ul")),
  };
}

/**
 * Parses the `presets` attribute: a JSON list, or texts with | between. Throws for wrong JSON.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function parsePresets(text) {
  const parts = text.trim().startsWith("[") ? JSON.parse(text) : text.split("|");
  return parts
    .map((/** @type {unknown} */ part) => String(part).trim())
    .filter((/** @type {string} */ part) => part !== "");
}
