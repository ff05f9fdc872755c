/**
 * The studio: the streamer's webcam, cut out, in front of the live scene. Connects camera, scene, mixer, output window
 * and controls, which do not know each other.
 *
 * @module studio/app
 */

import { byId, make } from "../shared/dom.js";
import { chooseLanguage, storage, t, toggleLanguage } from "../shared/i18n.js";
import { listenForToken, pageToken } from "../shared/token.js";
import { Camera, CameraState } from "./camera.js";
import { Compositor } from "./compositor.js";
import { Controls } from "./controls.js";
import { Mixer } from "./mixer.js";
import { Output } from "./output.js";
import { listenToPointing } from "./pointing.js";
import { Scene, SceneState } from "./scene.js";
import { Segmenter, SegmenterError } from "./segmenter.js";
import { Settings } from "./settings.js";

const DEVICE_KEY = "sceneshift.studio.camera";
const WAS_ON_KEY = "sceneshift.studio.on"; // in sessionStorage: the camera starts again after a reload
const FIGURES_MS = 1000;

class Studio {
  #picture = byId("picture", HTMLCanvasElement);
  #stageField = byId("stage", HTMLInputElement);
  #deviceList = byId("device", HTMLSelectElement);
  #startButton = byId("start", HTMLButtonElement);
  #outputButton = byId("output", HTMLButtonElement);
  #problems = byId("problems", HTMLElement);
  #figures = byId("figures", HTMLElement);

  #settings = new Settings(storage(), () => this.#settingsChanged());
  #controls = new Controls((change) => this.#settings.set(change));
  #camera = new Camera(byId("camera-video", HTMLVideoElement), (state) => this.#cameraChanged(state));
  #scene = new Scene(byId("scene-video", HTMLVideoElement), (state, problem) => this.#sceneChanged(state, problem));
  #segmenter = new Segmenter();
  #output = new Output(() => this.#windowsChanged());
  /** @type {Mixer | null} null without WebGL2 */
  #mixer = null;

  /** @type {SegmenterError | Error | null} */
  #cutProblem = null;
  /** @type {import("./scene.js").SceneProblem | null} */
  #sceneProblem = null;
  #isPopupBlocked = false;

  async open() {
    this.#makeMixer();
    this.#listen();
    await chooseLanguage();
    this.#controls.show(this.#settings.values);
    this.#render();
    document.body.dataset.ready = "";
    this.#mixer?.refresh();
    const stage = new URLSearchParams(location.search).get("session");
    if (stage !== null && stage !== "") this.#watch(stage);
    void this.#listDevices();
    if ((storage("sessionStorage")?.getItem(WAS_ON_KEY) ?? null) !== null) this.#start();
    setInterval(() => this.#renderFigures(), FIGURES_MS);
  }

  #makeMixer() {
    this.#resize();
    try {
      const compositor = new Compositor(this.#picture, () => this.#mixer?.refresh());
      const videos = { scene: byId("scene-video", HTMLVideoElement), camera: byId("camera-video", HTMLVideoElement) };
      this.#mixer = new Mixer(compositor, this.#segmenter, videos, this.#settings.values, {
        screen: () => (document.hidden ? this.#output.visibleWindow : window),
        onPainted: (picture) => this.#painted(picture),
        onCutFailed: (error) => this.#cutFailed(error),
      });
    } catch (error) {
      console.warn("studio:", error);
      this.#cutProblem = new SegmenterError("no_webgl", String(error));
      for (const button of [this.#startButton, this.#outputButton]) button.disabled = true;
    }
  }

  #listen() {
    byId("stage-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const stage = this.#stageField.value.trim();
      if (stage === "") return;
      // The stage goes into the address, so that a reload and a bookmark find it again.
      history.replaceState(null, "", `${location.pathname}?session=${encodeURIComponent(stage)}`);
      this.#watch(stage);
    });
    this.#startButton.addEventListener("click", () => (this.#isCameraWanted ? this.#stop() : this.#start()));
    this.#deviceList.addEventListener("change", () => {
      storage()?.setItem(DEVICE_KEY, this.#deviceList.value);
      if (this.#isCameraWanted) this.#start();
    });
    this.#outputButton.addEventListener("click", () => this.#openOutput());
    byId("fullscreen", HTMLButtonElement).addEventListener("click", () => this.#toggleFullscreen());
    byId("hide", HTMLButtonElement).addEventListener("click", () => this.#toggleControls());
    byId("reset", HTMLButtonElement).addEventListener("click", () => this.#settings.reset());
    byId("language", HTMLButtonElement).addEventListener("click", async () => {
      await toggleLanguage();
      this.#render();
    });
    listenToPointing(
      this.#picture,
      () => this.#settings.values,
      (change) => this.#settings.set(change),
    );
    document.addEventListener("keydown", (event) => this.#key(event));
    listenForToken(() => this.#sceneProblem === "no_token" && this.#watch(this.#stageField.value));
    document.addEventListener("visibilitychange", () => this.#windowsChanged());
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#listDevices());
    window.addEventListener("pagehide", () => this.#scene.close());
    // The page came back from the browser's page cache.
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
  }

  // --- requests of the user -------------------------------------------------------------------------------------

  /** @param {string} stage */
  #watch(stage) {
    this.#stageField.value = stage;
    this.#scene.open(stage, pageToken());
  }

  get #isCameraWanted() {
    return this.#camera.state === CameraState.OPENING || this.#camera.state === CameraState.LIVE;
  }

  #start() {
    this.#cutProblem = null;
    storage("sessionStorage")?.setItem(WAS_ON_KEY, "");
    const device = storage()?.getItem(DEVICE_KEY) ?? "";
    void this.#camera.open(device === "" ? null : device);
  }

  #stop() {
    storage("sessionStorage")?.removeItem(WAS_ON_KEY);
    this.#cutProblem = null;
    this.#camera.close();
  }

  #openOutput() {
    this.#isPopupBlocked = !this.#output.open(this.#picture.width, this.#picture.height);
    this.#renderProblems();
  }

  #toggleFullscreen() {
    const monitor = /** @type {HTMLElement} */ (this.#picture.parentElement);
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else monitor.requestFullscreen().catch((error) => console.warn("studio:", error.message));
  }

  #toggleControls() {
    const isHidden = document.body.dataset.controls === "hidden";
    document.body.dataset.controls = isHidden ? "shown" : "hidden";
    // The button with the focus may be hidden now.
    this.#picture.focus({ preventScroll: true });
    this.#renderHint();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    const target = /** @type {Element} */ (event.target);
    if (target.matches("input:not([type=range], [type=radio], [type=checkbox]), select, textarea")) return;
    switch (event.key.toLowerCase()) {
      case "h":
        this.#toggleControls();
        break;
      case "m":
        this.#settings.set({ mirror: !this.#settings.values.mirror });
        break;
      case "o":
        if (!this.#outputButton.disabled) this.#openOutput();
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  // --- changes --------------------------------------------------------------------------------------------------

  #settingsChanged() {
    const { values } = this.#settings;
    this.#controls.show(values);
    this.#resize();
    this.#mixer?.setValues(values);
    this.#renderProblems();
    this.#renderHint();
  }

  #resize() {
    const height = Number(this.#settings.values.resolution);
    const width = Math.round((height * 16) / 9);
    if (this.#picture.height !== height) Object.assign(this.#picture, { width, height });
  }

  /** @param {string} state */
  #cameraChanged(state) {
    this.#mixer?.setCamera(state === CameraState.LIVE);
    if (state === CameraState.LIVE) void this.#listDevices();
    this.#renderStates();
    this.#renderProblems();
    this.#renderHint();
  }

  /**
   * @param {string} state
   * @param {import("./scene.js").SceneProblem | null} problem
   */
  #sceneChanged(state, problem) {
    this.#sceneProblem = problem;
    // While the studio waits for the scene, its last picture stays.
    this.#mixer?.setScene(state !== SceneState.OFF);
    this.#renderStates();
    this.#renderProblems();
  }

  /** @param {Error} error */
  #cutFailed(error) {
    console.warn("studio:", error.message);
    this.#cutProblem = error;
    this.#renderProblems();
    this.#renderHint();
  }

  #windowsChanged() {
    this.#mixer?.refresh();
    this.#renderOutputButton();
  }

  /** @param {HTMLCanvasElement} picture */
  #painted(picture) {
    const { label, background } = this.#settings.values;
    const hasLabel = label && background === "scene" && this.#scene.state !== SceneState.OFF;
    this.#output.show(picture, hasLabel ? t("output.label.text") : null);
    byId("label", HTMLElement).hidden = !hasLabel;
    if (this.#mixer?.showsCamera && !byId("hint", HTMLElement).hidden) this.#renderHint();
  }

  async #listDevices() {
    const devices = await this.#camera.devices();
    const chosen = this.#camera.deviceId ?? storage()?.getItem(DEVICE_KEY) ?? "";
    const options = devices.map((device, index) => {
      const name = device.label || t("camera.device.nameless", { number: index + 1 });
      return new Option(name, device.deviceId, false, device.deviceId === chosen);
    });
    this.#deviceList.replaceChildren(new Option(t("camera.device.any"), ""), ...options);
    this.#deviceList.value = devices.some((device) => device.deviceId === chosen) ? chosen : "";
  }

  // --- rendering ------------------------------------------------------------------------------------------------

  #render() {
    this.#controls.render();
    this.#renderStates();
    this.#renderProblems();
    this.#renderHint();
    this.#renderFigures();
    this.#renderOutputButton();
    void this.#listDevices();
  }

  #renderStates() {
    const sceneChip = byId("scene-state", HTMLElement);
    sceneChip.dataset.state = this.#scene.state;
    sceneChip.textContent = t(`scene.${this.#scene.state}`);
    const cameraChip = byId("camera-state", HTMLElement);
    cameraChip.dataset.state = { opening: "starting" }[this.#camera.state] ?? this.#camera.state;
    cameraChip.textContent = t(`camera.${this.#camera.state}`);
    this.#startButton.textContent = t(this.#isCameraWanted ? "camera.stop" : "camera.start");
  }

  #renderOutputButton() {
    this.#outputButton.textContent = t(this.#output.isOpen ? "output.front" : "output.open");
  }

  #renderProblems() {
    const texts = this.#problemTexts();
    const shown = [...this.#problems.children].map((one) => one.textContent);
    // It is an alert, so set it only when it changes, not at every move of a slider.
    if (shown.length === texts.length && texts.every((text, index) => text === shown[index])) return;
    this.#problems.replaceChildren(...texts.map((text) => make("p", "problem", [text])));
  }

  /** @returns {string[]} */
  #problemTexts() {
    const texts = [];
    if (this.#camera.problem !== null) {
      texts.push(t(`camera.problem.${this.#camera.problem}`, { address: localAddress() }));
    }
    const cutProblem = this.#cutProblem;
    if (cutProblem !== null && (this.#settings.values.cutOut || this.#mixer === null)) {
      const reason = cutProblem instanceof SegmenterError ? cutProblem.reason : "lost";
      texts.push(t(`edge.problem.${reason}`, { message: cutProblem.message }));
    }
    if (this.#isSlow) texts.push(t("edge.slow"));
    if (this.#sceneProblem !== null) texts.push(t(`scene.${this.#sceneProblem}`, { stage: this.#scene.stage ?? "" }));
    if (this.#isPopupBlocked) texts.push(t("output.blocked"));
    return texts;
  }

  get #isSlow() {
    return (
      this.#camera.state === CameraState.LIVE && this.#settings.values.cutOut && (this.#mixer?.pace.isSlow ?? false)
    );
  }

  #renderHint() {
    const hint = byId("hint", HTMLElement);
    const isShown =
      !this.#mixer?.showsCamera && document.body.dataset.controls === "shown" && this.#problems.childElementCount === 0;
    hint.hidden = !isShown;
    hint.textContent = t(this.#camera.state === CameraState.LIVE ? "edge.loading" : "studio.hint.start");
  }

  #renderFigures() {
    const rate = this.#mixer?.pace.measured(performance.now()) ?? 0;
    this.#figures.textContent =
      rate === 0 ? "" : t("edge.figures", { rate: Math.round(rate), ms: Math.round(this.#mixer?.pace.tookMs ?? 0) });
    this.#renderProblems();
  }
}

/** This page's address on the server's own computer, where browsers allow the camera without https. */
function localAddress() {
  const address = new URL(location.href);
  address.protocol = "http:";
  address.hostname = "localhost";
  address.hash = "";
  return address.href;
}

void new Studio().open();
