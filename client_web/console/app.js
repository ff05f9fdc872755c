/**
 * The console: puts the parts together, carries out what the user asks, and shows what the server says.
 * All errors end in `#fail`.
 *
 * @module app
 */

import { Connection, ConnectionState, RequestError } from "../sdk/connection.js";
import { byId } from "../shared/dom.js";
import { Favourites } from "./favourites.js";
import { Field } from "./prompts/field.js";
import { Glass } from "../sdk/glass.js";
import { History } from "./prompts/history.js";
import { chooseLanguage, hasText, storage, t, toggleLanguage } from "../shared/i18n.js";
import { listenToKeys } from "./keyboard.js";
import { ClientType, ServerType, newId } from "../sdk/messages.js";
import { Monitor } from "./monitor.js";
import { Options } from "./options.js";
import { Player, PlayerState } from "../sdk/player.js";
import { Plot } from "./prompts/plot.js";
import { PromptLog, PromptState, hasEnded } from "./prompts/prompts.js";
import { RundownPanel } from "./rundown_panel.js";
import { openHelp, openItem } from "./sheets.js";
import { StageName } from "./stage_name.js";
import { Status } from "./status.js";
import { Strip } from "./prompts/strip.js";
import { Times } from "./prompts/times.js";
import { Toasts } from "./toasts.js";

/** @typedef {import("../sdk/messages.js").ServerMessage} ServerMessage */
/** @typedef {import("../sdk/messages.js").SessionOptions} SessionOptions */
/** @typedef {import("./prompts/prompts.js").Prompt} Prompt */

const TOKEN_KEY = "sceneshift.token";
const SESSION_KEY = "sceneshift.session";
const RTP_TICKS_PER_S = 90_000;

class App {
  #takeButton = byId("take", HTMLButtonElement);
  #takePurpose = byId("take-purpose", HTMLElement);
  #blankButton = byId("blank", HTMLButtonElement);
  #retryButton = byId("retry", HTMLButtonElement);
  #announcer = byId("announcer", HTMLElement);
  #sheet = byId("sheet", HTMLDialogElement);
  #stageName = new StageName();
  #toasts = new Toasts(byId("toasts", HTMLElement));
  #glass = new Glass();
  #prompts = new PromptLog((prompt) => this.#promptChanged(prompt));
  #history = new History(byId("history", HTMLElement), {
    onAgain: (text) => this.#send(text),
    onStar: (text) => this.#favourites.toggle(text),
    onPlan: (text) => this.#plan(text),
    onLock: (seed) => this.#options.lockSeed(seed),
    isFavourite: (text) => this.#favourites.has(text),
  });
  #favourites = new Favourites(
    {
      list: byId("favourites", HTMLElement),
      edit: byId("favourites-edit", HTMLButtonElement),
      reset: byId("favourites-reset", HTMLButtonElement),
    },
    (text) => this.#send(text),
    () => {
      this.#field.renderStar();
      this.#renderHistory();
    },
  );
  #field = new Field(
    {
      form: byId("prompt-form", HTMLFormElement),
      area: byId("prompt-text", HTMLTextAreaElement),
      star: byId("star", HTMLButtonElement),
      plan: byId("plan", HTMLButtonElement),
    },
    {
      onSend: (text) => this.#send(text),
      onPlan: (text) => this.#plan(text),
      onStar: (text) => this.#favourites.toggle(text),
      isFavourite: (text) => this.#favourites.has(text),
      onEmpty: () => this.#toasts.show(t("error.prompt_empty"), "note"),
    },
  );
  #rundown = new RundownPanel(
    {
      list: byId("rundown", HTMLElement),
      clock: byId("rundown-clock", HTMLElement),
      add: byId("rundown-add", HTMLButtonElement),
      next: byId("rundown-next", HTMLButtonElement),
      timer: byId("rundown-timer", HTMLButtonElement),
      stop: byId("rundown-stop", HTMLButtonElement),
      hold: byId("rundown-hold", HTMLInputElement),
      repeat: byId("rundown-repeat", HTMLButtonElement),
      importing: byId("rundown-import", HTMLButtonElement),
      exporting: byId("rundown-export", HTMLButtonElement),
      file: byId("rundown-file", HTMLInputElement),
    },
    {
      onFire: (text) => this.#send(text),
      onEdit: (item, onSave, onRemove) => openItem(this.#sheet, item, onSave, onRemove),
      onNote: (text, action) => this.#toasts.show(text, "note", action),
      onRefused: (text) => this.#toasts.show(text, "error"),
    },
  );
  #options = new Options(byId("options", HTMLElement), byId("mix", HTMLElement), (change) => this.#update(change));
  #times = new Times(byId("time-preview", HTMLElement), byId("time-picture", HTMLElement), byId("where", HTMLElement));
  #plot = new Plot(byId("plot", HTMLElement), byId("plot-legend", HTMLElement));
  #status = new Status(byId("connection", HTMLElement), byId("engine", HTMLElement), byId("stats", HTMLElement));
  #strip = new Strip(
    {
      root: byId("next", HTMLElement),
      picture: byId("next-picture", HTMLImageElement),
      text: byId("next-text", HTMLElement),
      progress: byId("next-progress", HTMLElement),
      bar: byId("next-bar", HTMLProgressElement),
      steps: byId("steps", HTMLElement),
      words: byId("words", HTMLElement),
      cancel: byId("cancel", HTMLButtonElement),
    },
    (promptId) => this.#cancel(promptId),
  );
  #monitor = new Monitor(
    {
      root: byId("monitor", HTMLElement),
      tally: byId("tally", HTMLElement),
      caption: byId("caption", HTMLElement),
      hint: byId("hint", HTMLElement),
      fullscreen: byId("fullscreen", HTMLButtonElement),
      mute: byId("mute", HTMLButtonElement),
      video: byId("program", HTMLVideoElement),
      held: byId("held", HTMLImageElement),
    },
    () => this.#player.picture(832),
    (error) => this.#fail(error),
  );
  #connection = new Connection(
    realtimeUrl(),
    () => /** @type {SessionOptions} */ ({ ...this.#options.values, ...this.#stageName.option }),
    {
      onState: (state) => this.#connectionChanged(state),
      onSession: (isResumed, created) => this.#sessionBegan(isResumed, created),
      onMessage: (message) => this.#receive(message),
      onError: (error) => this.#fail(error),
      onQueued: (position, waitMs) => this.#status.setQueue(position, waitMs),
    },
    { session: keptSession() },
  );
  #player = new Player(
    byId("program", HTMLVideoElement),
    {
      offer: async (sdp) => (await this.#connection.request({ type: ClientType.WEBRTC_OFFER, sdp })).sdp,
      candidate: (candidate) => this.#sendCandidate(candidate),
      iceServers: () => this.#iceServers,
    },
    {
      onState: (state) => this.#playerChanged(state),
      onFrame: (frame) => this.#frameShown(frame),
      onStalled: () => this.#monitor.setVideo(false),
      onError: (error) => this.#videoFailed(error),
    },
    { watchUrl: () => withToken(`/v1/sessions/${this.#connection.session?.sessionId}/watch`).replace("http", "ws") },
  );
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  #frameRate = 24;
  /** @type {Promise<import("./recording.js").Recording> | null} null while no server has said that it can record */
  #recording = null;
  /** @type {Promise<import("./pushes.js").Pushes> | null} null while no server has named a target */
  #pushes = null;
  /** @type {{onAir: "idle" | "preview" | "clip" | "blank", promptId: string | null}} */
  #program = { onAir: "idle", promptId: null };
  /** @type {string | null} the prompt that the next monitor shows */
  #inFocus = null;
  /** @type {string | null} null until somebody has asked */
  #modelName = null;
  /** Whether an option that was refused at the start has been reset, so that another start is worth it. */
  #mayStartAgain = false;
  /** Whether the next session is new because the user gave the stage another name. */
  #isRenamed = false;
  #lastUpdateId = "";
  #frameCount = { frames: 0, at: 0 };
  #presentedFrames = 0;

  open() {
    chooseLanguage();
    this.#listen();
    this.#renderAll();
    document.body.dataset.rendered = "true";
    this.#connection.open();
  }

  #listen() {
    this.#takeButton.addEventListener("click", () => this.#take());
    this.#retryButton.addEventListener("click", () => this.#connection.retry());
    this.#blankButton.addEventListener("click", () => this.#toggleBlank());
    byId("language", HTMLButtonElement).addEventListener("click", () => {
      toggleLanguage();
      this.#renderAll();
    });
    byId("theme", HTMLButtonElement).addEventListener("click", () => {
      const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
      window.dispatchEvent(new CustomEvent("sceneshift:theme", { detail: theme }));
    });
    byId("help", HTMLButtonElement).addEventListener("click", () => openHelp(this.#sheet));
    byId("share", HTMLButtonElement).addEventListener("click", () => void this.#share().catch((error) => this.#fail(error)));
    // The show goes on over a reload of its console, and over closing and opening it again. Kept only from here on: a
    // duplicated tab must find nothing, or the two would take the session from each other for ever.
    window.addEventListener("pagehide", () => keepSession(this.#connection.session));
    window.addEventListener("pageshow", () => keepSession(null));
    listenToKeys({
      onBlank: () => this.#blank(),
      onTake: () => this.#take(),
      onFavourite: (index) => this.#favourites.choose(index),
      onNext: () => void this.#rundown.fireNext(),
      onWrite: () => this.#field.focus(),
      onHelp: () => openHelp(this.#sheet),
    });
  }

  // --- what the user asks ---------------------------------------------------------------------------------------

  /**
   * @param {string} text
   * @returns {boolean} whether it went out
   */
  #send(text) {
    const promptId = newId("p-");
    const eventId = newId("e-");
    const sentAt = performance.now();
    const isSent = this.#connection.send({ type: ClientType.PROMPT_SET, event_id: eventId, prompt_id: promptId, text });
    if (!isSent) {
      this.#toasts.show(t("prompt.not_connected"), "error");
      return false;
    }
    this.#inFocus = promptId;
    this.#field.remember(text);
    this.#prompts.add({ promptId, eventId, text, quality: String(this.#options.values.quality), sentAt });
    return true;
  }

  /** @param {string} text */
  #plan(text) {
    this.#rundown.add(text);
    this.#toasts.show(t("prompt.planned"), "note");
  }

  /** @param {string} promptId */
  #cancel(promptId) {
    this.#connection.send({ type: ClientType.PROMPT_CANCEL, prompt_id: promptId });
  }

  /** @returns {boolean} whether there was something to take */
  #take() {
    if (this.#prompts.waitingForTake === null) return false;
    return this.#connection.send({ type: ClientType.PROGRAM_TAKE, ...this.#options.takeNow });
  }

  #blank() {
    this.#connection.send({ type: ClientType.PROGRAM_BLANK });
  }

  #toggleBlank() {
    if (this.#program.onAir === "blank") this.#connection.send({ type: ClientType.PROGRAM_RESUME });
    else this.#blank();
  }

  /** @param {SessionOptions} change */
  #update(change) {
    this.#lastUpdateId = newId("e-");
    this.#connection.send({ type: ClientType.SESSION_UPDATE, event_id: this.#lastUpdateId, ...change });
  }

  async #share() {
    const { session } = this.#connection;
    if (session === null) {
      this.#toasts.show(t("share.none"), "note");
      return;
    }
    const { openShare } = await import("./share.js");
    const { sessionId } = session;
    const prompt = this.#prompts.newestFirst[0]?.text ?? this.#favourites.texts[0] ?? "beach at sunset";
    const name = this.#stageName.option.name === undefined ? null : this.#stageName.value;
    const stage = { origin: location.origin, sessionId, token: accessToken(), prompt, name };
    openShare(this.#sheet, stage, (wanted) => this.#rename(wanted), (text) => this.#toasts.show(text, "note"));
  }

  /** @param {string} name of the stage from now on, which is another session */
  #rename(name) {
    this.#stageName.rename(name);
    this.#isRenamed = true;
    this.#connection.close();
    this.#connection.open();
    this.#toasts.show(t("share.renamed", { name }), "note");
  }

  /** @param {RTCIceCandidate | null} candidate */
  #sendCandidate(candidate) {
    this.#connection.send({
      type: ClientType.WEBRTC_CANDIDATE,
      candidate: candidate?.candidate ?? "",
      sdp_mid: candidate?.sdpMid ?? null,
      sdp_mline_index: candidate?.sdpMLineIndex ?? null,
    });
  }

  // --- what the server says -------------------------------------------------------------------------------------

  /**
   * @param {boolean} isResumed
   * @param {ServerMessage} created
   */
  #sessionBegan(isResumed, created) {
    this.#options.confirm(created.options);
    this.#iceServers = created.ice_servers ?? [];
    this.#frameRate = created.options.frame_rate;
    if (created.model) {
      this.#modelName = String(created.model.name);
      this.#status.setModel(created.model.name);
      this.#options.setCapabilities(created.model);
      this.#strip.expect(created.model.num_steps[created.options.quality]);
    }
    this.#engineChanged(created.engine);
    const musics = created.music ?? [];
    this.#options.setMusics(musics);
    this.#monitor.setSound(musics.length > 0);
    void this.#learnTargets(created.push_targets ?? [], isResumed);
    const wasOnAir = this.#textOnAir();
    if (!isResumed) {
      this.#prompts.loseAllInFlight();
      this.#programChanged("idle", null);
      void this.#learnRecording();
    }
    // The video does not need the WebSocket: after a cut it may have run on.
    if (!isResumed || this.#player.state !== PlayerState.PLAYING) void this.#player.open();
    const unheard = this.#prompts.unacknowledged;
    for (const prompt of unheard) this.#repeat(prompt);
    if (!isResumed && wasOnAir !== null && unheard.length === 0) this.#restore(wasOnAir);
  }

  /** @returns {string | null} */
  #textOnAir() {
    const { onAir, promptId } = this.#program;
    if (promptId === null || (onAir !== "clip" && onAir !== "preview")) return null;
    return this.#prompts.get(promptId)?.text ?? null;
  }

  /** @param {string} text that was on air when its session went: the new stage is empty, and the viewers wait */
  #restore(text) {
    if (!this.#send(text)) return;
    this.#toasts.show(t(this.#isRenamed ? "warning.restored_renamed" : "warning.restored", { text }), "note");
    this.#isRenamed = false;
  }

  /** @param {Prompt} prompt whose receipt was lost with the connection; the same event_id makes it a retry */
  #repeat(prompt) {
    this.#connection.send({
      type: ClientType.PROMPT_SET,
      event_id: prompt.eventId,
      prompt_id: prompt.promptId,
      text: prompt.text,
    });
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    switch (message.type) {
      case ServerType.PROMPT_ACCEPTED:
      case ServerType.PROMPT_STARTED:
      case ServerType.PROMPT_PREVIEW:
      case ServerType.PROMPT_READY:
      case ServerType.PROMPT_APPLIED:
      case ServerType.PROMPT_SUPERSEDED:
      case ServerType.PROMPT_CANCELLED:
      case ServerType.PROMPT_REJECTED:
      case ServerType.PROMPT_FAILED:
        this.#awaitGlass(message);
        this.#prompts.receive(message);
        this.#options.showSeed(this.#prompts.newestFirst[0]?.seed ?? null);
        break;
      case ServerType.PROGRAM_CHANGED:
        this.#programChanged(message.on_air, message.prompt_id ?? null);
        break;
      case ServerType.SESSION_UPDATED:
        // The answer to an older change must not undo a newer one that is on its way.
        if (message.event_id && message.event_id !== this.#lastUpdateId) break;
        this.#options.confirm(message.options);
        this.#renderTransport();
        break;
      case ServerType.SESSION_WARNING:
        this.#warned(message);
        break;
      case ServerType.STATS_UPDATED:
        this.#status.setStats(/** @type {any} */ (message), this.#shownFrameRate());
        this.#plot.setStats(/** @type {any} */ (message), performance.now());
        this.#engineChanged(message.engine);
        break;
      case ServerType.RECORDING_CHANGED:
        void this.#recordingChanged(message);
        break;
      case ServerType.PUSH_CHANGED:
        void this.#pushes?.then((pushes) => pushes.changed(message));
        break;
      case ServerType.ERROR:
        this.#fail(new RequestError(message.error));
        break;
      default:
        // By protocol: a newer server may say what this page does not know. Receipts of requests need no reader here.
        break;
    }
  }

  /** @param {ServerMessage} message */
  #awaitGlass(message) {
    if (!message.frame) return;
    const kind = message.type === ServerType.PROMPT_APPLIED ? "picture" : "preview";
    const { frame_index: frameIndex, rtp_timestamp: rtpTimestamp } = message.frame;
    // Over MSE frames have their numbers, and no RTP.
    const stamp = this.#player.transport === "mse" ? frameIndex : rtpTimestamp;
    this.#glass.expect(stamp, (shownAt) => this.#prompts.shownOnGlass(message.prompt_id, kind, shownAt));
    if (kind === "picture") this.#awaitWholeClip(message.prompt_id, stamp);
  }

  /**
   * @param {string} promptId
   * @param {number | null} stamp of the first frame in which something of the clip is seen
   */
  #awaitWholeClip(promptId, stamp) {
    if (stamp === null) return;
    const fadeS = (this.#options.values.transition_s ?? 0) + 0.1;
    const ticksPerS = this.#player.transport === "mse" ? this.#frameRate : RTP_TICKS_PER_S;
    this.#glass.expect((stamp + Math.round(fadeS * ticksPerS)) >>> 0, () => {
      const isOnAir = this.#program.onAir === "clip" && this.#program.promptId === promptId;
      const picture = isOnAir ? this.#player.picture(416) : null;
      if (picture !== null) this.#prompts.seenOnGlass(promptId, picture);
    });
  }

  /** @param {ServerMessage} message */
  #warned(message) {
    switch (message.code) {
      case "engine_lost":
        this.#engineChanged("recovering");
        break;
      case "engine_recovered":
      case "engine_ready":
        this.#engineChanged("ready");
        break;
      case "engine_failed":
        this.#engineChanged("failed");
        break;
      case "viewer_lost":
        // In a replay it is old news.
        if (this.#connection.isLive) void this.#player.open();
        return;
      default:
        // The list of codes is open.
        break;
    }
    const key = `warning.${message.code}`;
    const values = { percent: Math.round(100 * (message.core_share ?? 0)) };
    this.#toasts.show(hasText(key) ? t(key, values) : message.message, "note");
  }

  // --- what changed ---------------------------------------------------------------------------------------------

  /** @param {string} state */
  #connectionChanged(state) {
    this.#status.setConnection(state);
    this.#monitor.setConnection(state);
    this.#retryButton.hidden = state !== ConnectionState.REFUSED && state !== ConnectionState.WAITING;
    this.#renderTransport();
    if (state === ConnectionState.REFUSED && this.#mayStartAgain) {
      this.#mayStartAgain = false;
      this.#connection.retry();
    }
  }

  /** @param {string} state */
  #engineChanged(state) {
    this.#status.setEngine(state);
    this.#monitor.setEngine(state);
    if (state === "ready" && this.#modelName === null) void this.#learnModel();
  }

  /** A session that began before the model was loaded was not told its name, nor what it can. */
  async #learnModel() {
    this.#modelName = "";
    try {
      const answer = await fetch("/readyz");
      const { model, can_start_from_frame, loras } = await answer.json();
      this.#modelName = model;
      this.#status.setModel(model ?? "");
      this.#options.setCapabilities({ can_start_from_frame, loras });
    } catch (error) {
      this.#fail(/** @type {Error} */ (error));
    }
  }

  /** A new session: can its server record? To end what does not run changes nothing, and is answered if so. */
  async #learnRecording() {
    try {
      await this.#recordingChanged(await this.#askToRecord(false));
    } catch (error) {
      // Refused: it cannot. Else the connection went, and the next session asks again.
      if (error instanceof RequestError) byId("recording", HTMLElement).hidden = true;
    }
  }

  /** @param {ServerMessage} message */
  async #recordingChanged(message) {
    this.#recording ??= this.#loadRecording();
    (await this.#recording).changed(message);
    if (message.error) this.#fail(new RequestError(message.error));
  }

  async #loadRecording() {
    const { Recording } = await import("./recording.js");
    const elements = {
      root: byId("recording", HTMLElement),
      button: byId("record", HTMLButtonElement),
      text: byId("record-text", HTMLElement),
      link: byId("record-link", HTMLAnchorElement),
    };
    return new Recording(elements, (recording) => this.#askToRecord(recording), withToken, (error) => this.#fail(error));
  }

  /**
   * @param {string[]} targets that the program may be pushed to
   * @param {boolean} isResumed
   */
  async #learnTargets(targets, isResumed) {
    if (targets.length > 0) this.#pushes ??= this.#loadPushes();
    (await this.#pushes)?.setTargets(targets, isResumed);
  }

  async #loadPushes() {
    const { Pushes } = await import("./pushes.js");
    return new Pushes(
      byId("pushes", HTMLButtonElement),
      this.#sheet,
      (target, push) => this.#connection.request({ type: ClientType.PROGRAM_PUSH, target, push }),
      { onError: (error) => this.#fail(error), onFailed: (text) => this.#toasts.show(text, "error") },
    );
  }

  /** @param {boolean} recording */
  #askToRecord(recording) {
    return this.#connection.request({ type: ClientType.PROGRAM_RECORD, recording });
  }

  /** @param {string} state */
  #playerChanged(state) {
    if (state === PlayerState.NEGOTIATING) this.#glass.forget();
    if (state !== PlayerState.PLAYING) this.#monitor.setVideo(false);
  }

  /** @param {import("../sdk/player.js").ShownFrame} frame */
  #frameShown(frame) {
    this.#monitor.setVideo(true);
    this.#presentedFrames = frame.presentedFrames;
    this.#glass.frameShown(frame.frameIndex ?? frame.rtpTimestamp, frame.shownAt);
  }

  /** Since it was asked last. */
  #shownFrameRate() {
    const now = performance.now();
    const frames = this.#presentedFrames - this.#frameCount.frames;
    const rate = this.#frameCount.at === 0 ? 0 : Math.max(0, (frames * 1000) / (now - this.#frameCount.at));
    this.#frameCount = { frames: this.#presentedFrames, at: now };
    return rate;
  }

  /**
   * @param {"idle" | "preview" | "clip" | "blank"} onAir
   * @param {string | null} promptId
   */
  #programChanged(onAir, promptId) {
    this.#program = { onAir, promptId };
    this.#renderProgram();
    this.#renderTransport();
    this.#renderHistory();
  }

  /** @param {Prompt} prompt */
  #promptChanged(prompt) {
    // The newest prompt wins here, too; an older one comes back into view only while it is the one in the making.
    const shown = this.#prompts.inTheMaking ?? (this.#inFocus === null ? prompt : this.#prompts.get(this.#inFocus));
    this.#inFocus = shown?.promptId ?? null;
    this.#strip.show(shown);
    this.#times.show(this.#lastMeasured());
    this.#plot.show(this.#prompts.newestFirst);
    this.#renderHistory();
    this.#renderTransport();
    this.#announce(prompt);
  }

  /** @returns {Prompt | null} */
  #lastMeasured() {
    const measured = this.#prompts.newestFirst.find((prompt) => prompt.atServerMs.preview ?? prompt.atServerMs.picture);
    return measured ?? null;
  }

  /** @param {Prompt} prompt */
  #announce(prompt) {
    if (prompt.state === PromptState.APPLIED) this.#say(t("announce.applied", { text: prompt.text }));
    else if (prompt.state === PromptState.READY) this.#say(t("announce.ready", { text: prompt.text }));
    else if (hasEnded(prompt)) {
      this.#say(t("announce.ended", { state: t(`prompt.state.${prompt.state}`), text: prompt.text }));
    }
  }

  /** @param {string} text */
  #say(text) {
    if (this.#announcer.textContent !== text) this.#announcer.textContent = text;
  }

  // --- rendering ------------------------------------------------------------------------------------------------

  #renderAll() {
    this.#favourites.render();
    this.#field.renderStar();
    this.#rundown.render();
    void this.#recording?.then((recording) => recording.render());
    void this.#pushes?.then((pushes) => pushes.render());
    this.#options.render();
    this.#strip.render();
    this.#times.render();
    this.#status.render();
    this.#plot.render();
    this.#renderProgram();
    this.#renderTransport();
    this.#renderHistory();
  }

  #renderProgram() {
    const { onAir, promptId } = this.#program;
    this.#monitor.show(onAir, promptId === null ? "" : (this.#prompts.get(promptId)?.text ?? ""));
  }

  #renderTransport() {
    const isLive = this.#connection.isLive;
    const isBlank = this.#program.onAir === "blank";
    const isWaiting = this.#prompts.waitingForTake !== null;
    this.#takeButton.disabled = !isLive || !isWaiting;
    const isByHand = this.#options.values.take === "manual";
    const purpose = t(isWaiting ? "take.label" : isByHand ? "take.none" : "take.auto");
    this.#takeButton.title = purpose;
    if (this.#takePurpose.textContent !== purpose) this.#takePurpose.textContent = purpose;
    this.#blankButton.disabled = !isLive;
    this.#blankButton.dataset.blank = String(isBlank);
    /** @type {HTMLElement} */ (this.#blankButton.firstElementChild).textContent = t(isBlank ? "take.resume" : "take.blank");
  }

  #renderHistory() {
    this.#history.show(this.#prompts.newestFirst, this.#program.onAir === "clip" ? this.#program.promptId : null);
  }

  // --- errors ---------------------------------------------------------------------------------------------------

  /** @param {Error} error */
  #videoFailed(error) {
    console.warn("video:", error.message);
    // Without a connection the chip says so already, and a new offer could not be sent.
    if (this.#connection.isLive) this.#toasts.show(t("error.video"), "error");
  }

  /** @param {Error} error the one place where all errors end */
  #fail(error) {
    if (!(error instanceof RequestError)) {
      console.warn(error);
      this.#toasts.show(t("toast.technical", { message: error.message }), "error");
      return;
    }
    const { code, message, param, event_id: eventId } = error.detail;
    // Chosen with another model, and kept by this browser: a console that cannot start over it would be of no use.
    if (this.#connection.state === ConnectionState.STARTING) this.#mayStartAgain = this.#giveUp(code, param);
    if (code === "unknown_field" && param === "name") return;
    if (eventId) this.#prompts.refuse(eventId, error.detail);
    const key = code === "name_taken" ? "share.taken" : `error.${code}`;
    this.#toasts.show(hasText(key) ? t(key, { name: this.#stageName.value }) : message, "error");
  }

  /**
   * @param {string} code
   * @param {string | null | undefined} param
   * @returns {boolean} whether another start may succeed
   */
  #giveUp(code, param) {
    if (code === "name_taken") this.#stageName.avoid();
    else if (code === "unknown_field" && param === "name") this.#stageName.giveUp();
    else return this.#options.giveUp(param);
    return true;
  }
}

/** The server that the page came from, with the access token of the address's fragment, which is then taken out of sight. */
function realtimeUrl() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  const url = new URL(withToken("/v1/realtime"));
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** @returns {string | null} */
function accessToken() {
  return sessionStorage.getItem(TOKEN_KEY);
}

/** @param {string} path of the server's, for what cannot send headers */
function withToken(path) {
  const url = new URL(path, location.href);
  const token = accessToken();
  if (token !== null) url.searchParams.set("token", token);
  return url.href;
}

/** @param {import("../sdk/connection.js").ResumableSession | null} session of this page; null: it is in use, or there is none */
function keepSession(session) {
  const kept = JSON.stringify(session);
  sessionStorage.setItem(SESSION_KEY, kept);
  // For a tab that is opened after this one was closed. While two are open, each finds its own in `sessionStorage`.
  storage()?.setItem(SESSION_KEY, kept);
}

/** @returns {import("../sdk/connection.js").ResumableSession | null} the session of this browser before its console went */
function keptSession() {
  const [own, last] = [sessionStorage.getItem(SESSION_KEY), storage()?.getItem(SESSION_KEY)];
  keepSession(null);
  return JSON.parse(own ?? "null") ?? JSON.parse(last ?? "null");
}

new App().open();
