/**
 * One session and its stage: takes prompts, returns a `PromptHandle` for each, and survives lost connections and server
 * restarts. Built on `connection.js`. A `player.js` shows its program and signals through it.
 */

/** @import { ErrorDetail, PromptOptions, RecordingChanged, ResumableSession, ServerMessage, SessionEvents } from "./types.js" */
/** @import { OnAir, SessionOptions, SessionSettings, SessionState, StartOptions } from "./types.js" */

import { Connection } from "./connection.js";
import { Emitter, emit } from "./emitter.js";
import { RequestError, SceneshiftError } from "./errors.js";
import { Glass } from "./glass.js";
import { PromptHandle, finish, move, receive, shown } from "./handle.js";
import { ClientType, ServerType } from "./messages.js";
import { Player } from "./player.js";
import { checkMove } from "./states.js";

/** @type {Readonly<Record<SessionState, readonly SessionState[]>>} */
const NEXT = Object.freeze({
  connecting: ["queued", "reconnecting", "live", "refused", "closed"],
  // the server has no room yet
  queued: ["connecting", "reconnecting", "live", "refused", "closed"],
  live: ["reconnecting", "refused", "closed"],
  // no attempt has succeeded since the last failure; prompts wait
  reconnecting: ["queued", "live", "refused", "closed"],
  // the server refused, and another attempt would not help
  refused: ["connecting", "reconnecting", "closed"],
  closed: [],
});

// The server takes ten a second. Of prompts sent while the user types, only the last one matters.
const PROMPTS_PER_SECOND = 4;
// A frame not shown by then will not be shown: the page is hidden, or the video shows something else.
const GLASS_TIMEOUT_MS = 2000;

/**
 * A session and its stage, opened by `connect()`.
 *
 * Events: `state`, `session` (each time it becomes live), `queued`, `error` (one that answers neither a prompt nor a
 * request), `message` (each message of the server), and each message under its own type.
 *
 * @extends {Emitter<SessionEvents>}
 */
export class Session extends Emitter {
  #address;
  /** @type {SessionOptions} */
  #options;
  #settings;
  #connection;
  /** @type {SessionState} */
  #state = "connecting";
  /** @type {ServerMessage | null} */
  #created = null;
  #program = idle();
  /** @type {Player | null} */
  #viewer = null;
  #glass = new Glass();
  /** @type {Map<string, PromptHandle>} prompts without an end, oldest first */
  #handles = new Map();
  /** @type {PromptHandle | null} the newest prompt until it is sent; it supersedes an older one that waits */
  #waiting = null;
  #mayPromptAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #promptTimer;
  #lastError = new SceneshiftError("no_connection", "there never was a connection");
  /** @type {any} settles `ready` */
  #opening;
  /**
   * Resolves when the session is live for the first time. Rejects if the server refuses it or it is closed.
   *
   * @type {Promise<Session>}
   */
  ready = new Promise(
    (/** @type {(session: Session) => void} */ resolve, reject) => (this.#opening = { resolve, reject }),
  );

  /** @param {SessionSettings} settings */
  constructor(settings) {
    super(settings.on);
    const { address, random, resume } = settings;
    this.#settings = settings;
    this.#address = address;
    this.#options = startOptions(settings);
    this.#connection = new Connection(
      () => address.openSocket("/v1/realtime"),
      // A session after a server restart starts with the options that the user has changed since.
      () =>
        typeof settings.options === "function" ? startOptions(settings) : { ...named(settings), ...this.#options },
      {
        onState: (state) => this.#connectionChanged(state),
        onSession: (isResumed, created) => this.#began(isResumed, created),
        onMessage: (message) => this.#receive(message),
        onError: (error) => this.#fail(error),
        onQueued: (position, waitMs) => this[emit]("queued", { position, estimated_wait_ms: waitMs }),
      },
      { random, session: resume },
    );
    // If the page does not use `ready`, the events report the same; it must not be an unhandled rejection.
    this.ready.catch(() => {});
  }

  /** @returns {SessionState} */
  get state() {
    return this.#state;
  }

  /** The session's id, by which viewers watch it; null until it is live. @returns {string | null} */
  get id() {
    return this.#created?.session_id ?? null;
  }

  /** The options that the server last confirmed; before that, those of `connect`. */
  get options() {
    return this.#options;
  }

  /** The last `session.created` message, with the model and the engine; null until the session is live. */
  get created() {
    return this.#created;
  }

  /** What is on air, and of which prompt. */
  get program() {
    return this.#program;
  }

  /**
   * For `connect(url, { resume })` after a reload of the page. Contains a secret. Null without a session.
   *
   * @returns {ResumableSession | null}
   */
  get resumable() {
    return this.#connection.session;
  }

  /** The viewer that `attach` made; null without a video. */
  get viewer() {
    return this.#viewer;
  }

  /** Opens the connection. `connect` has already done it. */
  open() {
    this.#connection.open();
  }

  /** Tries to connect now, after a refusal or without waiting for the next attempt. */
  retry() {
    this.#connection.retry();
  }

  /**
   * Ends the session. Prompts without an end become `cancelled`. Never rejects.
   *
   * @returns {Promise<ServerMessage | null>} `session.closed`; null if the server could not be reached
   */
  async close() {
    const closed = await this.#connection.end();
    clearTimeout(this.#promptTimer);
    this.attach(null);
    this.#endAll("cancelled");
    this.#lastError = new SceneshiftError("session_closed", "the session was closed");
    this.#opening.reject(this.#lastError);
    return closed;
  }

  /**
   * Shows the program on a video, over WebRTC or MSE. Another video replaces it; null ends it.
   *
   * @template {HTMLVideoElement | null} Video
   * @param {Video} video
   * @returns {Video extends null ? null : Player}
   */
  attach(video) {
    this.#viewer?.close();
    this.#viewer = video === null ? null : this.#makeViewer(video);
    if (this.#connection.isLive) this.#viewer?.open();
    return /** @type {any} */ (this.#viewer);
  }

  // --- requests

  /**
   * Puts a scene on the stage. Returns at once and never throws: a refused prompt ends as `rejected`. If prompts come
   * too fast, or there is no connection, only the newest is sent, and the others end as `superseded`.
   *
   * @param {string} text
   * @param {PromptOptions} [options]
   */
  prompt(text, options = {}) {
    const handle = this.#made(text, options);
    if (this.#state === "closed" || this.#state === "refused") {
      handle[finish]("rejected", detailOf(this.#lastError));
      return handle;
    }
    this.#wait(handle);
    return handle;
  }

  /**
   * Puts the clip that waits on air (`take: "manual"`). Rejects like `request`.
   *
   * @param {{transition?: "cut" | "crossfade", transition_s?: number}} [how] `transition_s` in seconds
   * @returns {Promise<ServerMessage>}
   */
  take(how) {
    return this.request({ ...how, type: ClientType.PROGRAM_TAKE });
  }

  /**
   * Puts a finished clip of `/v1/videos` on the stage. The event `clip` brings its `PromptHandle`. Rejects like `request`.
   *
   * @param {string} clipId
   * @param {{transition?: "cut" | "crossfade", transition_s?: number, after?: "loop" | "continue" | "hold"}} [how]
   * @returns {Promise<ServerMessage>} `prompt.accepted`
   */
  show(clipId, how) {
    return this.request({ ...how, type: ClientType.PROGRAM_SHOW, clip_id: clipId });
  }

  /** Shows black from the next frame on. Rejects like `request`. @returns {Promise<ServerMessage>} */
  blank() {
    return this.request({ type: ClientType.PROGRAM_BLANK });
  }

  /** Ends the blank. Rejects like `request`. @returns {Promise<ServerMessage>} */
  resume() {
    return this.request({ type: ClientType.PROGRAM_RESUME });
  }

  /**
   * Changes options of the running session. Rejects like `request`.
   *
   * @param {SessionOptions & {event_id?: string}} change
   * @returns {Promise<ServerMessage>} `session.updated`
   */
  update(change) {
    return this.request({ ...change, type: ClientType.SESSION_UPDATE });
  }

  /**
   * Starts or stops a recording at the server. Rejects like `request`.
   *
   * @returns {Promise<RecordingChanged & ServerMessage>}
   */
  record(recording = true) {
    return /** @type {Promise<any>} */ (this.request({ type: ClientType.PROGRAM_RECORD, recording }));
  }

  /**
   * Starts or stops a push of the program. Rejects like `request`.
   *
   * @param {string} target one of `created.push_targets`
   * @returns {Promise<ServerMessage>} `push.changed`
   */
  push(target, push = true) {
    return this.request({ type: ClientType.PROGRAM_PUSH, target, push });
  }

  /** The frame on air as a JPEG. Rejects with a `RequestError` if the server refuses. @returns {Promise<Blob>} */
  async snapshot() {
    const { headers } = this.#address;
    const response = await fetch(this.#address.http(`/v1/sessions/${this.id}/snapshot.jpg`), { headers });
    if (!response.ok) throw new RequestError((await response.json()).error);
    return response.blob();
  }

  /**
   * Sends any message of the protocol and resolves with the server's answer. Rejects with a `RequestError`, or with the
   * code `no_connection`, `connection_lost` or, after ten seconds, `no_reply`.
   *
   * @param {import("./types.js").ClientMessage} message
   * @returns {Promise<ServerMessage>}
   */
  async request(message) {
    const reply = await this.#connection.request(message);
    this.#receive(reply);
    return reply;
  }

  // --- prompts

  /** @param {string} text @param {PromptOptions} options @param {string} [promptId] the server's */
  #made(text, options, promptId) {
    const handle = new PromptHandle(text, options, (cancelled) => this.#cancel(cancelled));
    handle.promptId = promptId ?? handle.promptId;
    this.#handles.set(handle.promptId, handle);
    handle.on("state", () => handle.hasEnded && this.#handles.delete(handle.promptId));
    return handle;
  }

  /** @param {PromptHandle} handle */
  #wait(handle) {
    const older = this.#waiting;
    this.#waiting = handle;
    older?.[finish]("superseded", null, handle.promptId);
    this.#sendWaiting();
  }

  #sendWaiting() {
    clearTimeout(this.#promptTimer);
    const handle = this.#waiting;
    if (handle === null || !this.#connection.isLive) return;
    const now = performance.now();
    if (now < this.#mayPromptAt) {
      this.#promptTimer = setTimeout(() => this.#sendWaiting(), this.#mayPromptAt - now);
      return;
    }
    this.#waiting = null;
    this.#mayPromptAt = now + 1000 / (this.#settings.promptsPerSecond ?? PROMPTS_PER_SECOND);
    handle[move]("sent");
    this.#sendPrompt(handle);
  }

  /** @param {PromptHandle} handle */
  #sendPrompt({ promptId, eventId, text, options }) {
    this.#connection.send({ ...options, type: ClientType.PROMPT_SET, event_id: eventId, prompt_id: promptId, text });
  }

  /** @param {PromptHandle} handle */
  async #cancel(handle) {
    if (handle === this.#waiting) {
      this.#waiting = null;
      handle[finish]("cancelled");
      return;
    }
    try {
      await this.request({ type: ClientType.PROMPT_CANCEL, prompt_id: handle.promptId });
    } catch (error) {
      // A refused cancel came too late: the prompt's end tells the rest. A cancel lost in a cut is sent again.
      if (error instanceof RequestError) return;
      const off = this.on("session", () => {
        off();
        handle.cancel();
      });
    }
  }

  /**
   * After a cut. A resumed session gets the prompts again that may not have arrived, in their order. A new session
   * knows none of them: it gets only the newest, which supersedes the others.
   *
   * @param {boolean} isResumed
   */
  #repeatPrompts(isResumed) {
    const open = [...this.#handles.values()];
    const newest = open.at(-1);
    for (const handle of open) {
      if (handle === this.#waiting) continue;
      if (isResumed && handle.state === "sent") this.#sendPrompt(handle);
      if (!isResumed && handle !== newest) handle[finish]("superseded", null, newest?.promptId);
      if (!isResumed && handle === newest) this.#wait(again(handle));
    }
    this.#sendWaiting();
  }

  /** @param {PromptHandle} handle @param {ErrorDetail} detail */
  #refused(handle, detail) {
    if (detail.code !== "rate_limited") {
      handle[finish]("rejected", detail);
    } else if (this.#waiting !== null) {
      handle[finish]("superseded", null, this.#waiting.promptId);
    } else {
      this.#mayPromptAt = performance.now() + (detail.retry_after_ms ?? 1000);
      this.#wait(again(handle));
    }
  }

  // --- messages of the server

  /** @param {boolean} isResumed @param {ServerMessage} created */
  #began(isResumed, created) {
    this.#created = created;
    this.#options = created.options;
    if (!isResumed) this.#program = idle();
    this.#repeatPrompts(isResumed);
    // The video does not need the WebSocket: it may have played on through the cut.
    const state = this.#viewer?.state;
    if (state !== "paused" && !(isResumed && state === "playing")) this.#viewer?.open();
    this.#opening.resolve(this);
    this[emit]("session", { isResumed, created });
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    const { type, code, error } = message;
    const isPlaying = this.#viewer?.state === "playing";
    if (type === ServerType.PROGRAM_CHANGED) this.#program = { on_air: message.on_air, prompt_id: message.prompt_id };
    if (type === ServerType.SESSION_UPDATED) this.#options = message.options;
    // In a replay, or after a switch to MSE, this warning is outdated.
    const isWebrtc = this.#connection.isLive && this.#viewer?.transport === "webrtc";
    if (type === ServerType.SESSION_WARNING && code === "viewer_lost" && isWebrtc && isPlaying) this.#viewer?.open();
    if (type.startsWith("prompt.")) this.#promptChanged(message);
    if (type === ServerType.ERROR) {
      const handle = [...this.#handles.values()].find(({ eventId }) => eventId === error.event_id);
      if (handle === undefined) this.#fail(new RequestError(error));
      else if (handle.state === "sent") this.#refused(handle, error);
    } else {
      this[emit](type, message);
    }
    this[emit]("message", message);
  }

  /** @param {string} state of the connection */
  #connectionChanged(state) {
    const isSame = ["live", "queued", "refused", "closed"].includes(state);
    const isFirst = state !== "waiting" && this.#state === "connecting";
    const next = /** @type {SessionState} */ (isSame ? state : isFirst ? "connecting" : "reconnecting");
    if (next === this.#state) return;
    checkMove("session", NEXT, this.#state, next);
    this.#state = next;
    if (next === "refused") {
      this.#opening.reject(this.#lastError);
      this.#endAll("rejected", this.#lastError);
    }
    this[emit]("state", next);
  }

  /** @param {string} end @param {Error} [error] */
  #endAll(end, error) {
    this.#waiting = null;
    for (const handle of this.#handles.values()) handle[finish](end, detailOf(error));
  }

  /** @param {any} error */
  #fail(error) {
    this.#lastError = error;
    this[emit]("error", error);
  }

  // --- the glass

  /** @param {HTMLVideoElement} video */
  #makeViewer(video) {
    /** @type {import("./types.js").Signalling} */
    const signalling = {
      offer: async (sdp) => (await this.#connection.request({ type: ClientType.WEBRTC_OFFER, sdp })).sdp,
      candidate: (ice) => {
        const { candidate = "", sdpMid: sdp_mid = null, sdpMLineIndex: sdp_mline_index = null } = ice ?? {};
        this.#connection.send({ type: ClientType.WEBRTC_CANDIDATE, candidate, sdp_mid, sdp_mline_index });
      },
      iceServers: () => this.#created?.ice_servers ?? [],
    };
    const openWatch = () => this.#address.openSocket(`/v1/sessions/${this.id}/watch`);
    const viewer = new Player(video, signalling, {}, { ...this.#settings, openWatch });
    // Each path numbers its frames differently.
    viewer.on("state", (state) => state === "negotiating" && this.#glass.forget());
    viewer.on("frame", (frame) => this.#glass.frameShown(frame.frameIndex ?? frame.rtpTimestamp, frame.shownAt));
    return viewer;
  }

  /** @param {ServerMessage} message */
  #promptChanged(message) {
    const handle = this.#handles.get(message.prompt_id) ?? this.#adopted(message);
    if (handle === undefined) return;
    const isPicture = message.type === ServerType.PROMPT_APPLIED;
    if (isPicture || (message.type === ServerType.PROMPT_PREVIEW && message.frame)) {
      this.#awaitGlass(message, (seen) => handle[shown](isPicture ? "picture" : "preview", seen));
    }
    handle[receive](message);
  }

  /** Of a clip that was put on the stage, perhaps by another client. @param {ServerMessage} message */
  #adopted({ clip_id: clipId, prompt_id: promptId, text }) {
    if (!clipId) return undefined;
    const handle = this.#made(text, {}, promptId);
    handle[move]("sent");
    this[emit]("clip", handle);
    return handle;
  }

  /** @param {ServerMessage} message with a frame @param {(seen: import("./types.js").Shown) => void} onSeen */
  #awaitGlass({ frame, timings = null, prompt_id: promptId }, onSeen) {
    const askedAt = this.#handles.get(promptId)?.askedAt ?? 0;
    const stamp = this.#viewer && (this.#viewer.transport === "mse" ? frame.frame_index : frame.rtp_timestamp);
    const seen = (/** @type {number | null} */ shownAt) => {
      clearTimeout(timer);
      onSeen({ frame, glassMs: shownAt === null ? null : shownAt - askedAt, timings });
    };
    const timer = setTimeout(() => seen(null), stamp === null ? 0 : GLASS_TIMEOUT_MS);
    this.#glass.expect(stamp, seen);
  }
}

/** @param {PromptHandle} handle */
function again(handle) {
  handle[move]("waiting");
  return handle;
}

/** @returns {{on_air: OnAir, prompt_id: string | null}} */
const idle = () => ({ on_air: "idle", prompt_id: null });

/** @param {SessionSettings} settings @returns {StartOptions} */
function startOptions(settings) {
  const { options = {} } = settings;
  return { ...named(settings), ...(typeof options === "function" ? options() : options) };
}

/** @param {SessionSettings} settings */
const named = ({ name }) => (name === undefined ? {} : { name });

/** @param {any} error @returns {ErrorDetail | null} */
const detailOf = (error) =>
  error?.detail ?? (error ? { type: "session", code: error.code, message: error.message } : null);
