/**
 * Moves and resizes the person on the picture by pointer, wheel and keys.
 *
 * @module pointing
 */

import { enlarged } from "./placement.js";
import { RANGES } from "./settings.js";

/** @typedef {import("./settings.js").Values} Values */

const STEP = 0.01; // of the picture, for an arrow key
const BIG_STEP = 0.05; // with Shift
const KEY_FACTOR = 1.05;
const WHEEL_FACTOR = 1.0015; // per pixel of the wheel; a notch is about 100
const LINE_PX = 16;

/**
 * @param {HTMLElement} picture
 * @param {() => Readonly<Values>} values
 * @param {(change: Partial<Values>) => void} change
 */
export function listenToPointing(picture, values, change) {
  // Where the pointer was; not `movementX`, whose unit differs between browsers and screens.
  let last = { x: 0, y: 0 };
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    picture.setPointerCapture(event.pointerId);
    last = { x: event.clientX, y: event.clientY };
  });
  picture.addEventListener("pointermove", (event) => {
    if (!picture.hasPointerCapture(event.pointerId)) return;
    const { x, y } = values();
    change({
      x: x + (event.clientX - last.x) / picture.clientWidth,
      y: y + (event.clientY - last.y) / picture.clientHeight,
    });
    last = { x: event.clientX, y: event.clientY };
  });
  picture.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * LINE_PX;
      const at = { x: event.offsetX / picture.clientWidth, y: event.offsetY / picture.clientHeight };
      change(enlarged(values(), WHEEL_FACTOR ** -pixels, at, RANGES.size));
    },
    { passive: false },
  );
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moved = afterKey(values(), event.key, event.shiftKey ? BIG_STEP : STEP);
    if (moved === null) return;
    event.preventDefault();
    change(moved);
  });
}

/**
 * @param {Readonly<Values>} values
 * @param {string} key
 * @param {number} step
 * @returns {Partial<Values> | null} null: the key has no meaning here
 */
function afterKey(values, key, step) {
  switch (key) {
    case "ArrowLeft":
      return { x: values.x - step };
    case "ArrowRight":
      return { x: values.x + step };
    case "ArrowUp":
      return { y: values.y - step };
    case "ArrowDown":
      return { y: values.y + step };
    case "+":
    case "=":
      return enlarged(values, KEY_FACTOR, values, RANGES.size);
    case "-":
    case "_":
      return enlarged(values, 1 / KEY_FACTOR, values, RANGES.size);
    default:
      return null;
  }
}
