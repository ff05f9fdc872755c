/**
 * Finds and makes elements, with their types. The console and the studio use it.
 *
 * @module dom
 */

const SVG = "http://www.w3.org/2000/svg";

/** SVG paths in a box of 24 × 24; the class `icon` styles them. */
const ICONS = Object.freeze({
  up: "M6 14l6-6 6 6",
  down: "M6 10l6 6 6-6",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  remove: "M6 6l12 12M18 6L6 18",
  edit: "M5 19h3.5L19 8.5 15.5 5 5 15.5z",
  star: "M12 3.6l2.6 5.3 5.8.8-4.2 4.1 1 5.8-5.2-2.7-5.2 2.7 1-5.8-4.2-4.1 5.8-.8z",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  again: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.4M20 4.5v5h-5",
  longer: "M4 12h15M14 7l5 5-5 5M4 7v10",
  plan: "M4 6h12M4 12h8M4 18h6M17 12v8M13 16h8",
});

/**
 * The element with this id. Throws without it, because the page is then broken.
 *
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no <${kind.name}> with id ${id}`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} className
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className, children = []) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} [children]
 * @returns {SVGElement}
 */
export function makeSvg(tag, attributes, children = []) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  return makeSvg("svg", { viewBox: "0 0 24 24", class: `icon ${name}`, "aria-hidden": "true" }, [
    makeSvg("path", { d: ICONS[name] }),
  ]);
}

/**
 * A button with a picture only; its label has the words.
 *
 * @param {string} className
 * @param {Node} picture
 * @param {string} label
 * @param {() => void} onPressed
 */
export function iconButton(className, picture, label, onPressed) {
  const button = make("button", className, [picture]);
  button.type = "button";
  button.ariaLabel = label;
  button.title = label;
  button.addEventListener("click", onPressed);
  return button;
}

/**
 * A button with a text.
 *
 * @param {string} className
 * @param {string} text
 * @param {() => void} onPressed
 */
export function textButton(className, text, onPressed) {
  const button = make("button", className, [text]);
  button.type = "button";
  button.addEventListener("click", onPressed);
  return button;
}
