/**
 * The window that OBS captures, with only the picture. It has its own page (`output.html`, `output_window.js`), and the
 * studio paints into its canvas. So there is one camera, one viewer and one composite, and no frame of delay between
 * the windows.
 *
 * @module output
 */

const PAGE = "/client/studio/output.html";
const NAME = "sceneshift-studio-output";
/** `output_window.js` sends this to its opener from its loading until the studio paints. */
export const HELLO = "sceneshift.studio.output";

export class Output {
  #onChange;
  /** @type {Window | null} */
  #window = null;
  /** @type {CanvasRenderingContext2D | null} */
  #canvas = null;

  /** @param {() => void} onChange the window was opened, closed, shown or hidden */
  constructor(onChange) {
    this.#onChange = onChange;
    window.addEventListener("message", (event) => {
      if (event.origin === location.origin && event.data === HELLO) this.#adopt(/** @type {Window} */ (event.source));
    });
    // The window outlives a reload of the studio: it keeps its last picture and sends HELLO again.
    window.addEventListener("pagehide", () => this.#release());
  }

  get isOpen() {
    return this.#window !== null && !this.#window.closed;
  }

  /** The window if it is open and visible, else null. */
  get visibleWindow() {
    return this.isOpen && this.#canvas !== null && !this.#window?.document.hidden ? this.#window : null;
  }

  /**
   * Opens the window, or brings it to the front.
   *
   * @param {number} width
   * @param {number} height
   * @returns {boolean} false: the browser's popup blocker refused
   */
  open(width, height) {
    if (this.isOpen) {
      this.#window?.focus();
      return true;
    }
    return window.open(PAGE, NAME, `popup,width=${width},height=${height}`) !== null;
  }

  close() {
    this.#window?.close();
  }

  /**
   * @param {HTMLCanvasElement} picture drawn in this same task: a WebGL canvas is empty after it
   * @param {string | null} label the text in the corner
   */
  show(picture, label) {
    const canvas = this.#canvas;
    if (canvas === null || !this.isOpen) return;
    const { width, height } = picture;
    if (canvas.canvas.width !== width || canvas.canvas.height !== height)
      Object.assign(canvas.canvas, { width, height });
    canvas.drawImage(picture, 0, 0);
    const corner = canvas.canvas.ownerDocument.getElementById("label");
    if (corner === null) return;
    corner.hidden = label === null;
    if (corner.textContent !== label) corner.textContent = label;
  }

  /** @param {Window} opened its page is loaded */
  #adopt(opened) {
    const canvas = opened.document.getElementById("picture");
    // `instanceof` would fail: each window has its own HTMLCanvasElement.
    this.#canvas = /** @type {HTMLCanvasElement | null} */ (canvas)?.getContext("2d", { alpha: false }) ?? null;
    if (this.#canvas === null) return;
    this.#window = opened;
    opened.document.documentElement.dataset.state = "live";
    opened.addEventListener("pagehide", () => {
      this.#window = null;
      this.#canvas = null;
      this.#onChange();
    });
    opened.document.addEventListener("visibilitychange", this.#onChange);
    this.#onChange();
  }

  #release() {
    if (this.isOpen && this.#window !== null) this.#window.document.documentElement.dataset.state = "waiting";
  }
}
