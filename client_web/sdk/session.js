/**
 * One stage, for whoever drives it: prompts in, handles out, through cuts and restarts. Sits on `connection.js`; the
 * picture is a `viewer.js` whose signalling goes through the same connection.
 *
 * @module session
 */

import { Connection, ConnectionState } from "./connection.js";
import { Emitter, emit } from "./emitter.js";
import { RequestError, SceneshiftError } from "./errors.js";
import { Glass } from "./glass.js";
import { HandleState, PromptHandle, finish, move, receive, shown } from "./handle.js";
import { ClientType, ServerType } from "./messages.js";
import { PlayerState, Transport } from "./player.js";
import { Viewer } from "./viewer.js";

/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./messages.js").SessionOptions} SessionOptions */
/** @typedef {import("./messages.js").ErrorDetail} ErrorDetail */
/** @typedef {import("./connection.js").ResumableSession} ResumableSession */

export const SessionState = Object.freeze({
  CONNECTING: "connecting", // for the first time
  QUEUED: "queued", // the server has no room yet
  LIVE: "live",
  RECONNECTING: "reconnecting", // the connection was lost; prompts wait
  REFUSED: "refused", // the server does not want us, and asking again would not help
  CLOSED: "closed",
});

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  connecting: ["queued", "live", "refused", "closed"],
  queued: ["connecting", "reconnecting", "live", "refused", "closed"],
  live: ["reconnecting", "refused", "closed"],
  reconnecting: ["queued", "live", "refused", "closed"],
  refused: ["connecting", "reconnecting", "closed"],
  closed: [],
});

// The server takes ten a second; somebody who types means the last one only.
const PROMPTS_PER_SECOND = 4;
// A frame that was sent and is not seen by then is not seen at all: the page is hidden, or its picture is another one's.
const GLASS_TIMEOUT_MS = 2000;

/**
 * @typedef {object} Settings
 * @property {import("./address.js").Address} address
 * @property {string} [name]
 * @property {SessionOptions} [options]
 * @property {ResumableSession | null} [resume]
 * @property {number} [promptsPerSecond]
 * @property {"auto" | "webrtc" | "mse"} [transport]
 * @property {number} [graceMs]
 * @property {() => number} [random]
 */

export class Session extends Emitter {
  #address;
  #options;
  #settings;
  #connection;
  #state = /** @type {string} */ (SessionState.CONNECTING);
  #hasBeenLive = false;
  /** @type {ServerMessage | null} */
  #created = null;
  #program = { on_air: "idle", prompt_id: /** @type {string | null} */ (null) };
  /** @type {Viewer | null} */
  #viewer = null;
  #glass = new Glass();
  /** @type {Map<string, PromptHandle>} those without an end: the one that waits, and what the server has not ended yet */
  #handles = new Map();
  /** @type {PromptHandle | null} the newest, not sent yet; an older one is superseded */
  #waiting = null;
  #mayPromptAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #promptTimer;
  /** @type {Error | null} */
  #lastError = null;
  /** @type {(session: Session) => void} */
  #becomeReady = () => {};
  /** @type {(error: Error) => void} */
  #failReady = () => {};
  /** @type {Promise<Session>} */
  #ready = new Promise((resolve, reject) => {
    this.#becomeReady = resolve;
    this.#failReady = reject;
  });

  /** @param {Settings} settings */
  constructor(settings) {
    super();
    this.#settings = settings;
    this.#address = settings.address;
    this.#options = { ...settings.options };
    this.#connection = new Connection(
      this.#address.socket("/v1/realtime"),
      () => (settings.name === undefined ? this.#options : { ...this.#options, name: settings.name }),
      {
        onState: (state) => this.#connectionChanged(state),
        onSession: (isResumed, created) => this.#began(isResumed, created),
        onMessage: (message) => this.#receive(message),
        onError: (error) => this.#fail(error),
        onQueued: (position, waitMs) => this[emit]("queued", { position, estimated_wait_ms: waitMs }),
      },
      { random: settings.random, session: settings.resume ?? null },
    );
    // Whoever does not ask whether it is ready is told by events.
    this.#ready.catch(() => {});
  }

  get state() {
    return this.#state;
  }

  /** @returns {Promise<Session>} itself when it is live; rejects if it is refused or closed before */
  get ready() {
    return this.#ready;
  }

  /** @returns {string | null} under which others watch */
  get id() {
    return this.#created?.session_id ?? null;
  }

  /** @returns {SessionOptions} as the server has them */
  get options() {
    return { ...this.#options };
  }

  /** @returns {ServerMessage | null} the last `session.created`: model, engine, music, ... */
  get created() {
    return this.#created;
  }

  /** What is on air: `on_air` and `prompt_id`. */
  get program() {
    return { ...this.#program };
  }

  /** @returns {ResumableSession | null} for `connect(url, { resume })` after a reload of the page; holds a secret */
  get resumable() {
    return this.#connection.session;
  }

  /** @returns {Viewer | null} */
  get viewer() {
    return this.#viewer;
  }

  open() {
    this.#connection.open();
  }

  /** Tries again now: after a refusal, or instead of waiting. */
  retry() {
    this.#connection.retry();
  }

  /** @returns {Promise<ServerMessage | null>} `session.closed`; null if the server could not be told */
  async close() {
    const closed = await this.#connection.end();
    this.#ended("session_closed", "the session was closed");
    return closed;
  }

  /**
   * Shows the program on `video`, over WebRTC or whatever gets through. Another video replaces it, null ends it.
   *
   * @template {HTMLVideoElement | null} Video
   * @param {Video} video
   * @returns {Video extends null ? null : Viewer}
   */
  attach(video) {
    this.#viewer?.close();
    this.#viewer = video === null ? null : this.#makeViewer(video);
    if (this.#connection.isLive) this.#viewer?.open();
    return /** @type {any} */ (this.#viewer);
  }

  // --- what the program should do -------------------------------------------------------------------------------

  /**
   * Puts a scene on the stage. Of prompts that come too fast, or while there is no connection, the newest is sent.
   *
   * @param {string} text
   * @param {Record<string, any>} [options] fields of `prompt.set`
   * @returns {PromptHandle}
   */
  prompt(text, options = {}) {
    const handle = new PromptHandle(text, options, (cancelled) => this.#cancel(cancelled));
    if (this.#state === SessionState.CLOSED) {
      handle[finish](HandleState.REJECTED, detailOf(new SceneshiftError("session_closed", "the session was closed")));
      return handle;
    }
    this.#handles.set(handle.promptId, handle);
    void handle.ended.then(() => this.#handles.delete(handle.promptId));
    this.#wait(handle);
    return handle;
  }

  /** @param {{transition?: "cut" | "crossfade", transition_s?: number}} [how] @returns {Promise<ServerMessage>} */
  take(how = {}) {
    return this.request({ type: ClientType.PROGRAM_TAKE, ...how });
  }

  /** Black, at once. @returns {Promise<ServerMessage>} */
  blank() {
    return this.request({ type: ClientType.PROGRAM_BLANK });
  }

  /** Ends the blank. @returns {Promise<ServerMessage>} */
  resume() {
    return this.request({ type: ClientType.PROGRAM_RESUME });
  }

  /** @param {SessionOptions} change @returns {Promise<ServerMessage>} */
  update(change) {
    return this.request({ type: ClientType.SESSION_UPDATE, ...change });
  }

  /** @param {boolean} [recording] @returns {Promise<ServerMessage>} `recording.changed` */
  record(recording = true) {
    return this.request({ type: "program.record", recording });
  }

  /**
   * @param {string} target one of `created.push_targets`
   * @param {boolean} [push]
   * @returns {Promise<ServerMessage>} `push.changed`
   */
  push(target, push = true) {
    return this.request({ type: "program.push", target, push });
  }

  /** @returns {Promise<Blob>} the frame on air, as JPEG */
  async snapshot() {
    const url = this.#address.http(`/v1/sessions/${encodeURIComponent(this.id ?? "")}/snapshot.jpg`);
    const response = await fetch(url, { headers: this.#address.headers });
    if (!response.ok) throw new RequestError((await response.json()).error);
    return response.blob();
  }

  /**
   * Any message of the protocol; resolves with what answers it.
   *
   * @param {{type: string} & Record<string, any>} message
   * @returns {Promise<ServerMessage>}
   */
  async request(message) {
    const reply = await this.#connection.request(message);
    this.#receive(reply);
    return reply;
  }

  // --- prompts --------------------------------------------------------------------------------------------------

  /** @param {PromptHandle} handle the newest */
  #wait(handle) {
    const older = this.#waiting;
    this.#waiting = handle;
    older?.[finish](HandleState.SUPERSEDED, null, handle.promptId);
    this.#sendWaiting();
  }

  #sendWaiting() {
    clearTimeout(this.#promptTimer);
    const handle = this.#waiting;
    if (handle === null || !this.#connection.isLive) return;
    const delay = this.#mayPromptAt - performance.now();
    if (delay > 0) {
      this.#promptTimer = setTimeout(() => this.#sendWaiting(), delay);
      return;
    }
    this.#waiting = null;
    this.#mayPromptAt = performance.now() + 1000 / (this.#settings.promptsPerSecond ?? PROMPTS_PER_SECOND);
    handle[move](HandleState.SENT);
    this.#sendPrompt(handle);
  }

  /** @param {PromptHandle} handle sent again under its `event_id`, it is taken once */
  #sendPrompt({ promptId, eventId, text, options }) {
    this.#connection.send({ ...options, type: ClientType.PROMPT_SET, event_id: eventId, prompt_id: promptId, text });
  }

  /** @param {PromptHandle} handle */
  #cancel(handle) {
    if (handle === this.#waiting) {
      this.#waiting = null;
      handle[finish](HandleState.CANCELLED);
      return;
    }
    // Too late is no error: its end says what became of it. A cancel that a cut has swallowed is said again.
    this.request({ type: ClientType.PROMPT_CANCEL, prompt_id: handle.promptId }).catch((error) => {
      if (error instanceof RequestError || handle.hasEnded) return;
      const off = this.on("session", () => {
        off();
        if (!handle.hasEnded) this.#cancel(handle);
      });
    });
  }

  /**
   * After a cut: what is not known to have arrived is said again, in its order. A new session knows nothing of what was
   * in the making: the newest is still wanted, the others would be superseded by it.
   *
   * @param {boolean} isResumed
   */
  #repeatPrompts(isResumed) {
    const open = [...this.#handles.values()].filter((handle) => handle !== this.#waiting);
    if (isResumed) {
      for (const handle of open) if (handle.state === HandleState.SENT) this.#sendPrompt(handle);
      return;
    }
    const newest = this.#waiting ?? open.at(-1);
    for (const handle of open) {
      if (handle !== newest) handle[finish](HandleState.SUPERSEDED, null, /** @type {PromptHandle} */ (newest).promptId);
    }
    if (newest === undefined || newest === this.#waiting) return;
    newest[move](HandleState.WAITING);
    this.#waiting = newest;
  }

  /**
   * @param {PromptHandle} handle
   * @param {ErrorDetail} detail the server's answer instead of a receipt
   */
  #refused(handle, detail) {
    if (detail.code !== "rate_limited") {
      handle[finish](HandleState.REJECTED, detail);
      return;
    }
    this.#mayPromptAt = performance.now() + (detail.retry_after_ms ?? 1000);
    handle[move](HandleState.WAITING);
    // The server did not take it, and its id is free; only the newest is worth another attempt.
    if (this.#waiting !== null) handle[finish](HandleState.SUPERSEDED, null, this.#waiting.promptId);
    else this.#wait(handle);
  }

  // --- what the server says -------------------------------------------------------------------------------------

  /**
   * @param {boolean} isResumed
   * @param {ServerMessage} created
   */
  #began(isResumed, created) {
    this.#created = created;
    this.#options = created.options;
    if (!isResumed) this.#programChanged({ on_air: "idle", prompt_id: null });
    this.#repeatPrompts(isResumed);
    this.#sendWaiting();
    // The video does not need the WebSocket: after a cut it may have run on.
    const isPlaying = isResumed && this.#viewer?.state === PlayerState.PLAYING;
    if (!isPlaying && this.#viewer?.state !== PlayerState.PAUSED) this.#viewer?.open();
    this.#becomeReady(this);
    this[emit]("session", { isResumed, created });
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    const handle = this.#handles.get(message.prompt_id);
    if (handle !== undefined && message.type.startsWith("prompt.")) {
      this.#awaitGlass(handle, message);
      handle[receive](message);
    }
    switch (message.type) {
      case ServerType.PROGRAM_CHANGED:
        this.#programChanged({ on_air: message.on_air, prompt_id: message.prompt_id ?? null });
        break;
      case ServerType.SESSION_UPDATED:
        this.#options = message.options;
        break;
      case ServerType.SESSION_WARNING:
        // In a replay, or after another way was found, it is old news.
        if (message.code === "viewer_lost" && this.#connection.isLive && this.#viewer?.transport === Transport.WEBRTC) {
          if (this.#viewer.state !== PlayerState.PAUSED) this.#viewer.open();
        }
        break;
      case ServerType.ERROR:
        this.#answeredByError(message.error);
        break;
      default:
        // By protocol: a newer server may say what we do not know. Whoever listens gets it all the same.
        break;
    }
    this[emit](message.type, message);
    this[emit]("message", message);
  }

  /** @param {ErrorDetail} detail */
  #answeredByError(detail) {
    const handle = [...this.#handles.values()].find(({ eventId }) => eventId === detail.event_id);
    if (handle === undefined) this.#fail(new RequestError(detail));
    else if (handle.state === HandleState.SENT) this.#refused(handle, detail);
  }

  /** @param {{on_air: string, prompt_id: string | null}} program */
  #programChanged(program) {
    this.#program = program;
  }

  /** @param {string} state */
  #connectionChanged(state) {
    switch (state) {
      case ConnectionState.LIVE:
        this.#hasBeenLive = true;
        this.#enter(SessionState.LIVE);
        break;
      case ConnectionState.QUEUED:
        this.#enter(SessionState.QUEUED);
        break;
      case ConnectionState.REFUSED:
        this.#enter(SessionState.REFUSED);
        this.#failReady(this.#lastError ?? new SceneshiftError("no_connection", "the server refused the connection"));
        break;
      case ConnectionState.CLOSED:
        this.#enter(SessionState.CLOSED);
        break;
      case ConnectionState.CONNECTING:
      case ConnectionState.STARTING:
      case ConnectionState.RESUMING:
      case ConnectionState.WAITING:
        this.#enter(this.#hasBeenLive ? SessionState.RECONNECTING : SessionState.CONNECTING);
        break;
      default:
        throw new Error(`unknown connection state ${state}`);
    }
  }

  /** @param {string} next */
  #enter(next) {
    if (next === this.#state) return;
    if (!NEXT[this.#state].includes(next)) throw new Error(`session: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this[emit]("state", next);
  }

  /**
   * @param {string} code
   * @param {string} message
   */
  #ended(code, message) {
    clearTimeout(this.#promptTimer);
    this.#viewer?.close();
    this.#viewer = null;
    this.#waiting = null;
    for (const handle of this.#handles.values()) if (!handle.hasEnded) handle[finish](HandleState.CANCELLED);
    this.#failReady(new SceneshiftError(code, message));
  }

  /** @param {Error} error of no request and no prompt */
  #fail(error) {
    this.#lastError = error;
    this[emit]("error", error);
  }

  // --- the glass ------------------------------------------------------------------------------------------------

  /** @param {HTMLVideoElement} video */
  #makeViewer(video) {
    const viewer = new Viewer(
      video,
      {
        offer: async (sdp) => (await this.#connection.request({ type: ClientType.WEBRTC_OFFER, sdp })).sdp,
        candidate: (candidate) => this.#sendCandidate(candidate),
        iceServers: () => this.#created?.ice_servers ?? [],
      },
      {
        transport: this.#settings.transport,
        random: this.#settings.random,
        graceMs: this.#settings.graceMs,
        watchUrl: () => (this.id === null ? null : this.#address.socket(`/v1/sessions/${this.id}/watch`)),
      },
    );
    viewer.on("state", (state) => {
      // Each path counts its frames in its own way.
      if (state !== PlayerState.PLAYING) this.#glass.forget();
    });
    viewer.on("frame", ({ rtpTimestamp, frameIndex, shownAt }) =>
      this.#glass.frameShown(frameIndex ?? rtpTimestamp, shownAt),
    );
    return viewer;
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

  /**
   * @param {PromptHandle} handle
   * @param {ServerMessage} message
   */
  #awaitGlass(handle, message) {
    const { frame, timings = null } = message;
    if (!frame || message.type === ServerType.PROMPT_CONTINUED) return;
    const kind = message.type === ServerType.PROMPT_APPLIED ? "picture" : "preview";
    /** @param {number | null} shownAt */
    const seen = (shownAt) => {
      clearTimeout(timer);
      handle[shown](kind, { frame, glassMs: shownAt === null ? null : shownAt - handle.askedAt, timings });
    };
    const isPlaying = this.#viewer?.state === PlayerState.PLAYING;
    const isMse = this.#viewer?.transport === Transport.MSE;
    const stamp = isPlaying ? (isMse ? frame.frame_index : frame.rtp_timestamp) : null;
    const timer = setTimeout(() => seen(null), stamp === null ? 0 : GLASS_TIMEOUT_MS);
    this.#glass.expect(stamp, seen);
  }
}

/**
 * @param {SceneshiftError} error
 * @returns {ErrorDetail}
 */
function detailOf({ code, message }) {
  return { type: "session", code, message, param: null, event_id: null, retryable: false, retry_after_ms: null };
}
