/**
 * The iframe form of the widget (`live-scene.js`). The address sets the attributes. Events go to the parent page by
 * `postMessage`, as `{source: "live-scene", type, detail}`.
 *
 * @module widget/frame
 */

import "./live-scene.js";

const TOLD = Object.freeze(["state-change", "scene-change", "prompt", "error"]);
const ATTRIBUTES = Object.freeze([
  "session",
  "presets",
  "prompt",
  "poster",
  "lang",
  "theme",
  "controls",
  "quality",
  "autostart",
  "allow-prompts",
]);

const query = new URLSearchParams(location.search);
const scene = document.createElement("live-scene");
// `frame-ancestors` has let only allowed pages frame us. Any page may link here, or lead its visitor here: then nothing
// begins before a click, or a stranger's address would start a stage and choose its prompt.
const isFramed = window.parent !== window;
for (const name of ATTRIBUTES) {
  const value = query.get(name);
  if (value !== null && (name !== "autostart" || isFramed)) scene.setAttribute(name, value);
}
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token !== null) scene.setAttribute("token", token);
document.documentElement.lang = query.get("lang") ?? navigator.language;
for (const type of TOLD) {
  scene.addEventListener(type, (event) => {
    // Any parent may read it: `frame-ancestors` lets only allowed pages frame this one, and events hold no secrets.
    parent.postMessage({ source: "live-scene", type, detail: /** @type {CustomEvent} */ (event).detail }, "*");
  });
}
// Framed, it speaks to another page's visitors. The element tells that page's developer by itself.
if (!isFramed) scene.addEventListener("error", (event) => void explain(/** @type {any} */ (event).detail.code));
document.body.append(scene);

/** @param {string} code of an error */
async function explain(code) {
  if (code !== "unauthorized") return;
  const { chooseLanguage, t } = await import("../shared/i18n.js");
  await chooseLanguage();
  const note = /** @type {HTMLElement} */ (document.getElementById("note"));
  note.textContent = t("widget.no_token");
  note.hidden = false;
}
