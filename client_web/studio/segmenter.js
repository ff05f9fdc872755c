/**
 * Finds the person in a picture: the page's side of `segmenter_worker.js`. The page uses only `open`, `cut`, `forget`
 * and `close`, so a test or another model can replace it.
 *
 * @module segmenter
 */

/**
 * @typedef {object} Mask
 * @property {Uint8Array} pixels the person's share of each pixel, 0 to 255, row by row from the top
 * @property {number} width
 * @property {number} height
 * @property {number} inferenceMs in the worker; a caller waits longer
 */

/** A person cannot be cut out. `reason` is `no_simd`, `load`, `lost`, or `no_webgl` (from `app.js`). */
export class SegmenterError extends Error {
  /**
   * @param {string} reason
   * @param {string} message
   */
  constructor(reason, message) {
    super(message);
    this.name = "SegmenterError";
    this.reason = reason;
  }
}

export class Segmenter {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Promise<void> | null} */
  #opened = null;
  #size = { width: 0, height: 0 };
  #lastId = 0;
  /** @type {{id: number, resolve: (mask: Mask) => void} | null} one picture at a time; a second one is refused */
  #waiting = null;
  /** @type {((error: SegmenterError) => void) | null} rejects the pending promise */
  #reject = null;

  /** Loads runtime and model once. Rejects with `SegmenterError`; the next call then tries again. */
  open() {
    this.#opened ??= this.#load();
    return this.#opened;
  }

  /** @returns {Promise<void>} */
  #load() {
    const worker = new Worker("/client/studio/segmenter_worker.js", { name: "segmenter" });
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      worker.addEventListener("error", (event) =>
        this.#lose(worker, "lost", event.message ?? "the worker did not start"),
      );
      worker.addEventListener("message", ({ data }) => {
        if (this.#worker !== worker) return;
        switch (data.type) {
          case "opened":
            this.#size = { width: data.width, height: data.height };
            this.#reject = null;
            resolve();
            break;
          case "failed":
            this.#lose(worker, data.reason, data.message);
            break;
          case "mask":
            this.#answered(data);
            break;
          default:
            throw new Error(`unknown message ${data.type}`);
        }
      });
      worker.postMessage({ type: "open" });
    });
  }

  get isBusy() {
    return this.#waiting !== null;
  }

  /**
   * @param {HTMLVideoElement | ImageBitmap | HTMLCanvasElement} picture
   * @returns {Promise<Mask>} rejects with `SegmenterError` if the worker is lost meanwhile, or it is closed
   */
  async cut(picture) {
    if (this.#waiting !== null) throw new Error("one picture at a time");
    const worker = this.#worker;
    if (worker === null) throw new SegmenterError("lost", "the segmenter is not open");
    const id = ++this.#lastId;
    const mask = new Promise((resolve, reject) => {
      this.#waiting = { id, resolve };
      this.#reject = reject;
    });
    mask.catch(() => {}); // awaited below; a loss before that must not be an unhandled rejection
    try {
      const { width, height } = this.#size;
      const small = await createImageBitmap(picture, {
        resizeWidth: width,
        resizeHeight: height,
        resizeQuality: "low",
      });
      worker.postMessage({ type: "cut", id, picture: small }, [small]);
    } catch (error) {
      if (/** @type {any} */ (this.#waiting)?.id === id) this.#waiting = null;
      throw error;
    }
    return mask;
  }

  /** Another camera: the next picture has nothing to do with the last one. */
  forget() {
    this.#worker?.postMessage({ type: "forget" });
  }

  close() {
    this.#drop(new SegmenterError("lost", "the segmenter was closed"));
  }

  /** @param {{id: number, pixels: Uint8Array, inferenceMs: number}} answer */
  #answered({ id, pixels, inferenceMs }) {
    const waiting = this.#waiting;
    if (waiting?.id !== id) return;
    this.#waiting = null;
    this.#reject = null;
    waiting.resolve({ pixels, ...this.#size, inferenceMs });
  }

  /**
   * @param {Worker} worker
   * @param {string} reason
   * @param {string} message
   */
  #lose(worker, reason, message) {
    if (this.#worker === worker) this.#drop(new SegmenterError(reason, message));
  }

  /** @param {SegmenterError} error for the pending promise */
  #drop(error) {
    this.#worker?.terminate();
    this.#worker = null;
    this.#opened = null;
    this.#waiting = null;
    this.#reject?.(error);
    this.#reject = null;
  }
}
