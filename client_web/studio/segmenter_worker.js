/**
 * Cuts people out: a worker that runs MediaPipe's selfie segmentation in TensorFlow Lite, compiled to WebAssembly. It
 * is a classic worker, because Emscripten's loader is a classic script. `segmenter.js` is its only caller and sends one
 * picture at a time.
 *
 * The server sends this file with its own content security policy, the only one that allows WebAssembly: see the
 * server's table of policies.
 */

/* global importScripts, createTwilioTFLiteSIMDModule */

"use strict";

const FOLDER = "/client/vendor/selfie_segmentation/";
// The smallest module with a SIMD instruction (i8x16.splat): valid only in browsers with SIMD.
const SIMD_MODULE = Uint8Array.of(
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  8,
  1,
  6,
  0,
  65,
  0,
  253,
  15,
  11,
);

/** How much of the previous mask stays where the model is in doubt. At 0 the edge flickers; at 1 it lags. */
const STEADINESS = 0.6;

/** @type {any} Emscripten's module with the model loaded */
let model = null;
/** @type {OffscreenCanvasRenderingContext2D | null} */
let canvas = null;
/** @type {Float32Array | null} the previous mask, 0 to 1; null after a change of camera */
let before = null;

self.addEventListener("message", (event) => void receive(event.data));

/** @param {{type: string, id: number, picture: ImageBitmap}} message */
async function receive(message) {
  switch (message.type) {
    case "open":
      try {
        await open();
        self.postMessage({ type: "opened", width: model._getInputWidth(), height: model._getInputHeight() });
      } catch (error) {
        const reason = error === NO_SIMD ? "no_simd" : "load";
        self.postMessage({ type: "failed", reason, message: String(error instanceof Error ? error.message : error) });
      }
      break;
    case "forget":
      before = null;
      break;
    case "cut":
      try {
        const startedAt = performance.now();
        const pixels = cut(message.picture);
        const answer = { type: "mask", id: message.id, pixels, inferenceMs: performance.now() - startedAt };
        self.postMessage(answer, { transfer: [pixels.buffer] });
      } catch (error) {
        self.postMessage({ type: "failed", reason: "lost", message: String(error) });
      }
      break;
    default:
      throw new Error(`unknown message ${message.type}`);
  }
}

const NO_SIMD = new Error("this browser has no WebAssembly SIMD");

async function open() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD_MODULE)) throw NO_SIMD;
  importScripts(`${FOLDER}tflite-simd-1-0-0.js`);
  const file = fetch(`${FOLDER}selfie_segmentation_landscape.tflite`);
  file.catch(() => {}); // awaited below; until then a rejection must not be an unhandled one
  const said = /** @type {string[]} */ ([]);
  const loaded = await /** @type {any} */ (globalThis).createTwilioTFLiteSIMDModule({
    locateFile: (/** @type {string} */ name) => FOLDER + name,
    print: () => {},
    printErr: (/** @type {string} */ line) => said.push(line),
  });
  const answer = await file;
  if (!answer.ok) throw new Error(`the model's file: HTTP ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  loaded.HEAPU8.set(bytes, loaded._getModelBufferMemoryOffset());
  const status = loaded._loadModel(bytes.byteLength);
  if (status !== 0) throw new Error(`the model was refused (${status}): ${said.join(" ")}`);
  const [width, height] = [loaded._getInputWidth(), loaded._getInputHeight()];
  canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (canvas === null) throw new Error("no 2D canvas in a worker");
  model = loaded;
}

/**
 * @param {ImageBitmap} picture of the model's input size; closed here
 * @returns {Uint8Array} the person's share of each pixel, 0 to 255, row by row from the top
 */
function cut(picture) {
  if (model === null || canvas === null) throw new Error("cut before it was opened");
  const { width, height } = canvas.canvas;
  canvas.drawImage(picture, 0, 0, width, height);
  picture.close();
  const { data } = canvas.getImageData(0, 0, width, height);
  // Ask for the offsets each time, because the heap moves when it grows.
  const input = model.HEAPF32.subarray(model._getInputMemoryOffset() / 4);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    input[to++] = data[from] / 255;
    input[to++] = data[from + 1] / 255;
    input[to++] = data[from + 2] / 255;
  }
  const status = model._runInference();
  if (status !== 0) throw new Error(`the model failed (${status})`);
  const start = model._getOutputMemoryOffset() / 4;
  return steadied(model.HEAPF32.subarray(start, start + width * height));
}

/**
 * Blends the new mask with the previous one. Where the model is sure, the new value counts; where it is in doubt (near
 * one half), mostly the previous one.
 *
 * @param {Float32Array} mask 0 to 1
 */
function steadied(mask) {
  const pixels = new Uint8Array(mask.length);
  const old = before ?? mask;
  const next = before ?? new Float32Array(mask.length);
  for (let i = 0; i < mask.length; i += 1) {
    const sureness = 2 * mask[i] - 1;
    const doubt = 1 - sureness * sureness;
    const value = mask[i] + (old[i] - mask[i]) * doubt * STEADINESS;
    next[i] = value;
    pixels[i] = Math.round(Math.min(1, Math.max(0, value)) * 255);
  }
  before = next;
  return pixels;
}
