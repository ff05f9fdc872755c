/**
 * The pages' texts in the user's language, from `texts/`. Elements name their text with `data-i18n`, `data-i18n-label`
 * (aria-label) and `data-i18n-placeholder`; a page names its title with `data-title`. Scripts call `t`. Only the
 * language in use is loaded.
 *
 * @module i18n
 */

const STORAGE_KEY = "sceneshift.language";
/** Each language has a file in `texts/`. The value is its own name and its `lang` attribute. */
const LANGUAGES = Object.freeze({ en: ["English", "en"], zh: ["中文", "zh-Hans"] });

/** @typedef {keyof typeof LANGUAGES} Language */

/** @type {Language} */
let language = "en";
/** @type {Record<string, string> | null} null until the language is loaded */
let texts = null;

/** Loads the stored language, else the browser's. Await it before you call `t`. */
export async function chooseLanguage() {
  const wanted = (storage()?.getItem(STORAGE_KEY) ?? navigator.language).toLowerCase();
  await setLanguage(codes().find((code) => wanted.startsWith(code)) ?? "en");
}

/** Switches to the next language and stores the choice. */
export async function toggleLanguage() {
  const next = following(language);
  storage()?.setItem(STORAGE_KEY, next);
  await setLanguage(next);
}

/** Example prompts in the language in use. */
export function examplePrompts() {
  return Object.keys(texts ?? {})
    .filter((key) => key.startsWith("example."))
    .map((key) => t(key));
}

/**
 * The text under `key` with its `{names}` filled in; `{next_language}` needs no value. Throws for an unknown key.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  // A page listens before its language is there. It says nothing yet, and renders all when the texts come.
  if (texts === null) return "";
  const text = texts[key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  /** @type {Record<string, string | number>} */
  const filled = { next_language: LANGUAGES[following(language)][0], ...values };
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(filled[name] ?? whole));
}

/** @param {string} key */
export function hasText(key) {
  return texts !== null && key in texts;
}

/**
 * A duration for people: 62 ms, 0.31 s, 12.4 s.
 *
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 99.5) return `${ms.toFixed(0)} ms`;
  return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
}

/** @returns {Language[]} */
const codes = () => /** @type {Language[]} */ (Object.keys(LANGUAGES));

/** @param {Language} code */
const following = (code) => codes()[(codes().indexOf(code) + 1) % codes().length];

/** @param {Language} next */
async function setLanguage(next) {
  texts = await (await fetch(new URL(`../texts/${next}.json`, import.meta.url))).json();
  language = next;
  const { documentElement } = document;
  documentElement.lang = LANGUAGES[next][1];
  document.title = t(documentElement.dataset.title ?? "title");
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(/** @type {HTMLElement} */ (element).dataset.i18n ?? "");
  }
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    const label = t(/** @type {HTMLElement} */ (element).dataset.i18nLabel ?? "");
    element.setAttribute("aria-label", label);
    if (element instanceof HTMLButtonElement) element.title = label;
  }
  for (const element of document.querySelectorAll("[data-i18n-placeholder]")) {
    element.setAttribute("placeholder", t(/** @type {HTMLElement} */ (element).dataset.i18nPlaceholder ?? ""));
  }
}

/** The browser's storage; null if it is blocked. The page then works, but forgets. */
export function storage(kind = /** @type {"localStorage" | "sessionStorage"} */ ("localStorage")) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
