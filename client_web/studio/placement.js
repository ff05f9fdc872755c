/**
 * Computes where the camera lies on the picture, for `compositor.js` and `pointing.js`. All values are shares of the
 * picture: (0, 0) is its top left corner, (1, 1) the bottom right one.
 *
 * @module placement
 */

/** @typedef {import("./settings.js").Values} Values */

/**
 * @typedef {object} Rectangle
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 */

/**
 * @param {Readonly<Values>} values
 * @param {number} cameraAspect width / height of the camera's picture, uncropped
 * @param {number} pictureAspect
 * @returns {Rectangle} of the cropped camera
 */
export function placed(values, cameraAspect, pictureAspect) {
  // A crop does not move the rest of the camera's picture.
  const [width, height] = [(values.size * cameraAspect) / pictureAspect, values.size];
  return {
    left: values.x + (values.cropLeft - 0.5) * width,
    top: values.y + (values.cropTop - 0.5) * height,
    width: width * (1 - values.cropLeft - values.cropRight),
    height: height * (1 - values.cropTop - values.cropBottom),
  };
}

/**
 * Changes the size and keeps the point under the pointer in its place, as maps do.
 *
 * @param {Readonly<Values>} values
 * @param {number} factor
 * @param {{x: number, y: number}} at
 * @param {{min: number, max: number}} range of the size
 * @returns {{x: number, y: number, size: number}}
 */
export function enlarged(values, factor, at, range) {
  const size = Math.min(range.max, Math.max(range.min, values.size * factor));
  const applied = size / values.size;
  return { x: at.x + (values.x - at.x) * applied, y: at.y + (values.y - at.y) * applied, size };
}

/**
 * The scale with which a source fills the picture or fits into it: source = (picture - 0.5) * scale + 0.5.
 *
 * @param {"cover" | "contain"} fit
 * @param {number} sourceAspect
 * @param {number} pictureAspect
 * @returns {[number, number]}
 */
export function fitted(fit, sourceAspect, pictureAspect) {
  const ratio = pictureAspect / sourceAspect;
  if ((fit === "cover") === ratio > 1) return [1, 1 / ratio];
  return [ratio, 1];
}
