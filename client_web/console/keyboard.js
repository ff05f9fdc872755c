/**
 * The console's keys. Escape blanks wherever the focus is, because it is the panic key; only an open sheet takes the
 * first Escape, as every dialog does. The other keys work if the focused element does not use them itself.
 *
 * @module keyboard
 */

/**
 * @typedef {object} KeyHandlers
 * @property {() => void} onBlank
 * @property {() => boolean} onTake whether a clip waited for a take
 * @property {(index: number) => void} onFavourite from 0
 * @property {() => void} onNext of the rundown
 * @property {() => void} onWrite
 * @property {() => void} onHelp
 */

/** @param {KeyHandlers} handlers */
export function listenToKeys(handlers) {
  document.addEventListener("keydown", (event) => {
    // While an input method is composing, Escape and the digits belong to it.
    if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") !== null) return;
    if (event.key === "Escape") handlers.onBlank();
    else if (!hasOwnUse(event.target, event.key) && isHandled(event.key, handlers)) event.preventDefault();
  });
}

/**
 * @param {string} key
 * @param {KeyHandlers} handlers
 */
function isHandled(key, handlers) {
  if (key === " ") return handlers.onTake();
  if (key === "/" || key === "p") handlers.onWrite();
  else if (key === "n") handlers.onNext();
  else if (key === "?") handlers.onHelp();
  else if (/^[1-9]$/.test(key)) handlers.onFavourite(Number(key) - 1);
  else return false;
  return true;
}

/**
 * Whether the focused element uses the key itself: text fields use all keys, buttons use Space.
 *
 * @param {EventTarget | null} target
 * @param {string} key
 */
function hasOwnUse(target, key) {
  if (!(target instanceof Element)) return false;
  if (target.closest("textarea, select, input:not([type=radio], [type=checkbox], [type=range])") !== null) return true;
  return key === " " && target.closest("button, a, input, summary") !== null;
}
