/**
 * Paints the picture with WebGL2: the scene, and in front of it the camera, cut out by the mask. `mixer.js` gives it
 * both, from any source that can become a texture. Sizes in pixels, places as in `placement.js`.
 *
 * A camera's picture is *held* when its mask is requested and shown when the mask arrives, so that a moving person and
 * their outline are of the same moment.
 *
 * @module compositor
 */

import { fitted, placed } from "./placement.js";

/** @typedef {import("./settings.js").Values} Values */
/** @typedef {import("./segmenter.js").Mask} Mask */

/** The background without a scene, or instead of it for a chroma key. */
const COLOURS = Object.freeze({ scene: [0.043, 0.051, 0.067], green: [0, 0.694, 0.251], blue: [0, 0.278, 0.733] });
// The mask comes as 256x144. At this size its edge is aligned with the edges in the camera's picture.
const REFINED = Object.freeze({ width: 640, height: 360 });

const VERTEX = `#version 300 es
uniform float u_flip; // -1 where row 0 is the upper one: on the canvas; 1 into a texture
out vec2 v_at;
void main() {
  v_at = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4(v_at.x * 2.0 - 1.0, (v_at.y * 2.0 - 1.0) * u_flip, 0.0, 1.0);
}`;

// A joint bilateral filter (Kopf et al., Joint Bilateral Upsampling, 2007): it averages the mask over neighbours with a
// similar colour in the camera's picture, so that its coarse edge moves onto the edge of hair and shoulders.
const REFINE = `#version 300 es
precision highp float;
uniform sampler2D u_mask, u_camera;
uniform vec2 u_texel;
uniform float u_softness;
in vec2 v_at;
out vec4 o_mask;
void main() {
  vec3 here = texture(u_camera, v_at).rgb;
  float likeness = 60.0 * (1.0 - u_softness) * (1.0 - u_softness), reach = mix(0.7, 2.5, u_softness);
  float sum = 0.0, weights = 0.0;
  for (int y = -2; y <= 2; y += 1) {
    for (int x = -2; x <= 2; x += 1) {
      vec2 at = v_at + vec2(x, y) * u_texel * reach;
      vec3 difference = texture(u_camera, at).rgb - here;
      float weight = exp(-float(x * x + y * y) / 4.0 - dot(difference, difference) * likeness);
      sum += weight * texture(u_mask, at).r;
      weights += weight;
    }
  }
  o_mask = vec4(sum / weights);
}`;

const COMPOSE = `#version 300 es
precision highp float;
uniform sampler2D u_scene, u_camera, u_mask;
uniform bool u_has_scene, u_has_camera, u_has_mask, u_mirror;
uniform vec3 u_colour;
uniform vec2 u_fit;
uniform vec4 u_place; // left, top, width, height of what is seen of the camera
uniform vec4 u_crop;  // left, top, right, bottom of it in the camera's picture, as seen
uniform float u_opacity, u_softness, u_shift, u_wrap;
in vec2 v_at;
out vec4 o_colour;

vec3 scene(float blur) {
  vec2 at = (v_at - 0.5) * u_fit + 0.5;
  if (!u_has_scene || at != clamp(at, 0.0, 1.0)) return u_colour;
  return textureLod(u_scene, at, blur).rgb;
}

void main() {
  vec3 colour = scene(0.0);
  vec2 seen = (v_at - u_place.xy) / u_place.zw;
  if (u_has_camera && seen == clamp(seen, 0.0, 1.0)) {
    vec2 at = mix(u_crop.xy, u_crop.zw, seen);
    if (u_mirror) at.x = 1.0 - at.x;
    vec3 person = texture(u_camera, at).rgb;
    float alpha = 1.0;
    if (u_has_mask) {
      float mask = texture(u_mask, at).r;
      float edge = 0.5 - 0.45 * u_shift, width = mix(0.06, 0.5, u_softness);
      alpha = smoothstep(max(0.0, edge - width), min(1.0, edge + width), mask);
      // Light from behind creeps around an edge; without it a person looks pasted on.
      float rim = u_wrap * (1.0 - smoothstep(edge, 1.0, mask));
      if (u_has_scene && rim > 0.0) person = 1.0 - (1.0 - person) * (1.0 - scene(5.0) * rim);
    }
    colour = mix(colour, person, alpha * u_opacity);
  }
  o_colour = vec4(colour, 1.0);
}`;

/** This browser has no WebGL2, or a shader of ours does not compile on it. */
export class NoWebGL extends Error {}

export class Compositor {
  #canvas;
  #gl;
  /** @type {ReturnType<typeof makeParts> | null} null while the graphics device is lost */
  #parts;
  #sceneAspect = 0; // 0: no scene
  #cameraAspect = 0; // 0: no camera
  #heldAspect = 0;
  #hasMask = false;
  /** The softness that the refined mask was made with. */
  #refinedSoftness = -1;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(isThere: boolean) => void} [onDevice] the graphics device was lost, or is back and needs all textures
   */
  constructor(canvas, onDevice = () => {}) {
    const gl = canvas.getContext("webgl2", {
      alpha: false,
      antialias: false,
      depth: false,
      powerPreference: "high-performance",
    });
    if (gl === null) throw new NoWebGL("no WebGL2");
    this.#canvas = canvas;
    this.#gl = gl;
    this.#parts = makeParts(gl);
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // or the context is never restored
      this.#parts = null;
      onDevice(false);
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.forgetScene();
      this.forgetCamera();
      this.#parts = makeParts(gl);
      onDevice(true);
    });
  }

  get canvas() {
    return this.#canvas;
  }

  get hasCamera() {
    return this.#cameraAspect !== 0;
  }

  get hasMask() {
    return this.#hasMask;
  }

  /** width / height; 0 without a camera */
  get cameraAspect() {
    return this.#cameraAspect;
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    if (this.#canvas.width === width && this.#canvas.height === height) return;
    Object.assign(this.#canvas, { width, height });
  }

  /** @param {TexImageSource} source */
  showScene(source) {
    if (this.#parts === null) return;
    this.#sceneAspect = upload(this.#gl, this.#parts.scene, source);
    // Level 5 of the mipmap is the scene's light around the person's edge.
    this.#gl.generateMipmap(this.#gl.TEXTURE_2D);
  }

  forgetScene() {
    this.#sceneAspect = 0;
  }

  /**
   * Shows this picture from now on, with the current mask.
   *
   * @param {TexImageSource} source
   */
  showCamera(source) {
    if (this.#parts === null) return;
    this.#cameraAspect = upload(this.#gl, this.#parts.camera, source);
  }

  /**
   * Holds this picture until its mask arrives.
   *
   * @param {TexImageSource} source
   */
  holdCamera(source) {
    if (this.#parts === null) return;
    this.#heldAspect = upload(this.#gl, this.#parts.held, source);
  }

  /**
   * The mask of the held picture. Both are shown from now on.
   *
   * @param {Mask} mask
   */
  showMask(mask) {
    const parts = this.#parts;
    if (parts === null || this.#heldAspect === 0) return;
    const gl = this.#gl;
    gl.bindTexture(gl.TEXTURE_2D, parts.mask);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, mask.width, mask.height, 0, gl.RED, gl.UNSIGNED_BYTE, mask.pixels);
    parts.maskSize = [mask.width, mask.height];
    [parts.camera, parts.held] = [parts.held, parts.camera];
    [this.#cameraAspect, this.#heldAspect] = [this.#heldAspect, 0];
    this.#hasMask = true;
    this.#refinedSoftness = -1;
  }

  /** Drops the mask. Until the next one the camera is hidden with `cutOut`, and a whole rectangle without. */
  forgetMask() {
    this.#hasMask = false;
  }

  forgetCamera() {
    this.#cameraAspect = 0;
    this.#heldAspect = 0;
    this.#hasMask = false;
  }

  /** @param {Readonly<Values>} values */
  draw(values) {
    const parts = this.#parts;
    if (parts === null) return;
    // With `cutOut` the camera is never shown without a mask.
    const hasCamera = this.#cameraAspect !== 0 && (this.#hasMask || !values.cutOut);
    const hasMask = this.#hasMask && values.cutOut;
    if (hasMask && hasCamera && this.#refinedSoftness !== values.softness) this.#refine(parts, values.softness);
    this.#compose(parts, values, hasCamera, hasMask);
  }

  /**
   * @param {ReturnType<typeof makeParts>} parts
   * @param {number} softness
   */
  #refine(parts, softness) {
    const gl = this.#gl;
    const { program, at } = parts.refine;
    gl.bindFramebuffer(gl.FRAMEBUFFER, parts.refinedBuffer);
    gl.viewport(0, 0, REFINED.width, REFINED.height);
    gl.useProgram(program);
    bind(gl, at("u_mask"), 0, parts.mask);
    bind(gl, at("u_camera"), 1, parts.camera);
    gl.uniform1f(at("u_flip"), 1);
    gl.uniform2f(at("u_texel"), 1 / parts.maskSize[0], 1 / parts.maskSize[1]);
    gl.uniform1f(at("u_softness"), softness);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    this.#refinedSoftness = softness;
  }

  /**
   * @param {ReturnType<typeof makeParts>} parts
   * @param {Readonly<Values>} values
   * @param {boolean} hasCamera
   * @param {boolean} hasMask
   */
  #compose(parts, values, hasCamera, hasMask) {
    const gl = this.#gl;
    const { program, at } = parts.compose;
    const { width, height } = this.#canvas;
    const place = placed(values, this.#cameraAspect || 1, width / height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.useProgram(program);
    bind(gl, at("u_scene"), 0, parts.scene);
    bind(gl, at("u_camera"), 1, parts.camera);
    bind(gl, at("u_mask"), 2, parts.refined);
    const hasScene = this.#sceneAspect !== 0 && values.background === "scene";
    gl.uniform1f(at("u_flip"), -1);
    gl.uniform1i(at("u_has_scene"), Number(hasScene));
    gl.uniform1i(at("u_has_camera"), Number(hasCamera));
    gl.uniform1i(at("u_has_mask"), Number(hasMask));
    gl.uniform1i(at("u_mirror"), Number(values.mirror));
    gl.uniform3fv(at("u_colour"), COLOURS[values.background]);
    gl.uniform2fv(at("u_fit"), hasScene ? fitted(values.fit, this.#sceneAspect, width / height) : [1, 1]);
    gl.uniform4f(at("u_place"), place.left, place.top, place.width, place.height);
    gl.uniform4f(at("u_crop"), values.cropLeft, values.cropTop, 1 - values.cropRight, 1 - values.cropBottom);
    gl.uniform1f(at("u_opacity"), values.opacity);
    gl.uniform1f(at("u_softness"), values.softness);
    gl.uniform1f(at("u_shift"), values.shift);
    gl.uniform1f(at("u_wrap"), values.wrap);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}

/**
 * Everything that lives on the graphics device.
 *
 * @param {WebGL2RenderingContext} gl
 */
function makeParts(gl) {
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1); // rows of a mask have no padding
  gl.bindVertexArray(gl.createVertexArray()); // empty: corners come from gl_VertexID
  const refined = makeTexture(gl, gl.LINEAR);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R8, REFINED.width, REFINED.height);
  const refinedBuffer = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, refinedBuffer);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, refined, 0);
  return {
    refine: makeProgram(gl, REFINE),
    compose: makeProgram(gl, COMPOSE),
    scene: makeTexture(gl, gl.LINEAR_MIPMAP_LINEAR),
    camera: makeTexture(gl, gl.LINEAR),
    held: makeTexture(gl, gl.LINEAR),
    mask: makeTexture(gl, gl.LINEAR),
    maskSize: [1, 1],
    refined,
    refinedBuffer,
  };
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {string} fragment
 */
function makeProgram(gl, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of /** @type {[number, string][]} */ ([
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, fragment],
  ])) {
    const shader = gl.createShader(kind);
    if (shader === null) throw new NoWebGL("the graphics device is lost");
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    gl.deleteShader(shader); // deleted together with the program
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new NoWebGL(`a shader does not compile: ${gl.getProgramInfoLog(program)}`);
  }
  /** @type {Map<string, WebGLUniformLocation | null>} */
  const places = new Map();
  const at = (/** @type {string} */ name) => {
    const place = places.has(name) ? places.get(name) : gl.getUniformLocation(program, name);
    places.set(name, place ?? null);
    return place ?? null;
  };
  return { program, at };
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {number} minification
 */
function makeTexture(gl, minification) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, minification);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return texture;
}

/**
 * Leaves the texture bound.
 *
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLTexture | null} texture
 * @param {TexImageSource} source
 * @returns {number} width / height
 */
function upload(gl, texture, source) {
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
  if (source instanceof HTMLVideoElement) return source.videoWidth / source.videoHeight;
  return /** @type {HTMLCanvasElement} */ (source).width / /** @type {HTMLCanvasElement} */ (source).height;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLUniformLocation | null} place
 * @param {number} unit
 * @param {WebGLTexture | null} texture
 */
function bind(gl, place, unit, texture) {
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.uniform1i(place, unit);
}
