/**
 * The WebSocket to the server: opens a session, takes it up again after a cut, matches replies to requests.
 * Knows nothing of prompts or pictures. Its neighbours are `messages.js` and whoever is given as `handlers`.
 *
 * @module connection
 */

import { Backoff, LONGEST_DELAY_MS } from "./backoff.js";
import { RequestError, SceneshiftError } from "./errors.js";
import { ClientType, ServerType, decode, newId } from "./messages.js";

export { RequestError };

/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./messages.js").ClientMessage} ClientMessage */
/** @typedef {import("./messages.js").SessionOptions} SessionOptions */
/** @typedef {import("./messages.js").ErrorDetail} ErrorDetail */

export const ConnectionState = Object.freeze({
  CLOSED: "closed", // not opened, or closed on purpose
  CONNECTING: "connecting", // the socket opens
  STARTING: "starting", // session.start is on its way
  QUEUED: "queued", // the server has no room yet; session.created comes when it has
  RESUMING: "resuming", // session.resume is on its way
  LIVE: "live", // there is a session
  WAITING: "waiting", // the socket is lost; the next attempt is timed
  REFUSED: "refused", // the server does not want us, and asking again would not help
});

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  closed: ["connecting"],
  connecting: ["starting", "resuming", "waiting", "refused", "closed"],
  starting: ["live", "queued", "waiting", "refused", "closed"],
  queued: ["live", "waiting", "refused", "closed"],
  resuming: ["live", "starting", "waiting", "refused", "closed"],
  live: ["waiting", "refused", "closed"],
  waiting: ["connecting", "closed"],
  refused: ["connecting", "closed"],
});

// The server sends stats.updated every second and session.queued every five, so this much silence is a dead link.
const SILENCE_MS = 8000;
const REPLY_TIMEOUT_MS = 10000;
// RFC 6455, 7.4.1: 1008 is a policy violation; here it is a missing or wrong token.
const POLICY_VIOLATION = 1008;

/** @typedef {{sessionId: string, resumeToken: string}} ResumableSession */

/**
 * @typedef {object} ConnectionHandlers
 * @property {(state: string) => void} onState
 * @property {(message: ServerMessage) => void} onMessage
 * @property {(isResumed: boolean, created: ServerMessage) => void} onSession
 * @property {(error: Error) => void} onError
 * @property {(position: number, waitMs: number | null) => void} [onQueued] where we stand, each time it changes
 */

export class Connection {
  #url;
  #options;
  #handlers;
  #backoff;
  #state = /** @type {string} */ (ConnectionState.CLOSED);
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ResumableSession | null} */
  #session;
  #lastSeq = -1;
  /** The event_id of the start or resume that is on its way. */
  #openingId = "";
  #retryAfterMs = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silenceTimer;
  /** @type {Map<string, {resolve: (reply: ServerMessage) => void, reject: (error: Error) => void, timer: ReturnType<typeof setTimeout>}>} */
  #requests = new Map();

  /**
   * @param {string} url
   * @param {() => SessionOptions} options what a new session is started with, asked for each time
   * @param {ConnectionHandlers} handlers
   * @param {{random?: () => number, session?: ResumableSession | null}} [more] a session of before to take up again
   */
  constructor(url, options, handlers, { random = Math.random, session = null } = {}) {
    this.#url = url;
    this.#session = session;
    this.#options = options;
    this.#handlers = handlers;
    this.#backoff = new Backoff(random);
  }

  get state() {
    return this.#state;
  }

  get isLive() {
    return this.#state === ConnectionState.LIVE;
  }

  /** @returns {ResumableSession | null} what another page needs to go on with the session */
  get session() {
    return this.#session;
  }

  open() {
    this.#enter(ConnectionState.CONNECTING);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    // Each listener asks whether its socket is still ours: a late event of an old one must not touch the new one.
    socket.addEventListener("open", () => socket === this.#socket && this.#begin());
    socket.addEventListener("message", (event) => socket === this.#socket && this.#receive(event.data));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#lost(event.code, event.reason));
    this.#listenForSilence();
  }

  /** Ends the session, too. */
  close() {
    if (this.isLive) this.send({ type: ClientType.SESSION_CLOSE });
    this.#drop();
    this.#session = null;
    if (this.#state !== ConnectionState.CLOSED) this.#enter(ConnectionState.CLOSED);
  }

  /**
   * Ends the session and waits for the server's last words.
   *
   * @returns {Promise<ServerMessage | null>} `session.closed`; null if it could not be told
   */
  async end() {
    try {
      return await this.request({ type: ClientType.SESSION_CLOSE });
    } catch {
      return null; // whoever cannot be told will find out: a session without a connection is ended
    } finally {
      if (this.isLive) this.#drop();
      this.close();
    }
  }

  /** Tries again now instead of at the end of the wait. */
  retry() {
    if (this.#state !== ConnectionState.WAITING && this.#state !== ConnectionState.REFUSED) return;
    clearTimeout(this.#retryTimer);
    this.open();
  }

  /**
   * Sends now or not at all: what cannot be sent is the caller's to keep.
   *
   * @param {ClientMessage} message
   * @returns {boolean} whether it went out
   */
  send(message) {
    if (!this.isLive || this.#socket === null) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /**
   * Sends and resolves with the reply that repeats the event_id; rejects on an error, a cut, or after ten seconds.
   *
   * @param {ClientMessage} message
   * @returns {Promise<ServerMessage>}
   */
  request(message) {
    const eventId = message.event_id ?? newId("e-");
    return new Promise((resolve, reject) => {
      if (!this.send({ ...message, event_id: eventId })) {
        reject(new SceneshiftError("no_connection", "not connected"));
        return;
      }
      const timer = setTimeout(() => {
        this.#requests.delete(eventId);
        reject(new SceneshiftError("no_reply", `no reply to ${message.type} within ${REPLY_TIMEOUT_MS / 1000} s`));
      }, REPLY_TIMEOUT_MS);
      this.#requests.set(eventId, { resolve, reject, timer });
    });
  }

  /** @param {string} next */
  #enter(next) {
    if (!NEXT[this.#state].includes(next)) throw new Error(`connection: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this.#handlers.onState(next);
  }

  #begin() {
    if (this.#session === null) {
      this.#start();
      return;
    }
    this.#enter(ConnectionState.RESUMING);
    this.#resume(this.#session, this.#lastSeq);
  }

  /**
   * @param {ResumableSession} session
   * @param {number} lastSeq
   */
  #resume(session, lastSeq) {
    this.#openingId = newId("e-");
    this.#write({
      type: ClientType.SESSION_RESUME,
      event_id: this.#openingId,
      session_id: session.sessionId,
      resume_token: session.resumeToken,
      last_seq: lastSeq,
    });
  }

  #start() {
    this.#session = null;
    this.#lastSeq = -1;
    this.#enter(ConnectionState.STARTING);
    this.#openingId = newId("e-");
    this.#write({ type: ClientType.SESSION_START, event_id: this.#openingId, ...this.#options() });
  }

  /** @param {ClientMessage} message */
  #write(message) {
    /** @type {WebSocket} */ (this.#socket).send(JSON.stringify(message));
  }

  /** @param {unknown} raw */
  #receive(raw) {
    this.#listenForSilence();
    let message;
    try {
      message = decode(String(raw));
    } catch (error) {
      this.#handlers.onError(/** @type {Error} */ (error));
      return;
    }
    if (this.#isReplayed(message)) return;
    switch (this.#state) {
      case ConnectionState.STARTING:
      case ConnectionState.QUEUED:
      case ConnectionState.RESUMING:
        this.#receiveBeforeLive(message);
        break;
      case ConnectionState.LIVE:
        this.#receiveLive(message);
        break;
      case ConnectionState.CLOSED:
      case ConnectionState.CONNECTING:
      case ConnectionState.WAITING:
      case ConnectionState.REFUSED:
        break;
      default:
        throw new Error(`unknown connection state ${this.#state}`);
    }
  }

  /**
   * After a resume the server repeats what it cannot know that we have.
   *
   * @param {ServerMessage} message
   */
  #isReplayed(message) {
    if (message.type === ServerType.SESSION_CREATED || !isNumbered(message)) return false;
    const seq = /** @type {number} */ (message.seq);
    if (seq <= this.#lastSeq) return true;
    this.#lastSeq = seq;
    return false;
  }

  /** @param {ServerMessage} message */
  #receiveBeforeLive(message) {
    const isResuming = this.#state === ConnectionState.RESUMING;
    switch (message.type) {
      case ServerType.SESSION_CREATED:
        // A replay may begin with the receipt of the session's start: ours comes after all of it.
        if (message.event_id === this.#openingId) this.#becomeLive(message, isResuming);
        break;
      case ServerType.SESSION_QUEUED:
        if (this.#state === ConnectionState.STARTING) this.#enter(ConnectionState.QUEUED);
        this.#handlers.onQueued?.(message.position, message.estimated_wait_ms ?? null);
        break;
      case ServerType.ERROR:
        // An error with a number belongs to the replay; what answers us here is from outside the session.
        if (isNumbered(message)) this.#handlers.onMessage(message);
        else if (!isResuming) this.#refused(message.error);
        // We were away for longer than the server remembers: what it still has is better than a new stage.
        else if (message.error.code === "resume_gap") this.#resume(/** @type {any} */ (this.#session), -1);
        else this.#start();
        break;
      case ServerType.SESSION_CLOSED:
        this.#closedByServer();
        break;
      default:
        // The replay comes before the receipt of the resume.
        this.#handlers.onMessage(message);
    }
  }

  /**
   * @param {ServerMessage} created
   * @param {boolean} isResuming
   */
  #becomeLive(created, isResuming) {
    const isResumed = isResuming && this.#session?.sessionId === created.session_id;
    if (!isResumed) this.#lastSeq = -1;
    if (typeof created.seq === "number") this.#lastSeq = Math.max(this.#lastSeq, created.seq);
    this.#session = { sessionId: String(created.session_id), resumeToken: created.resume_token };
    this.#backoff.reset();
    this.#enter(ConnectionState.LIVE);
    this.#handlers.onSession(isResumed, created);
  }

  /** @param {ServerMessage} message */
  #receiveLive(message) {
    const eventId = message.event_id ?? message.error?.event_id;
    const waiting = eventId === undefined || eventId === null ? undefined : this.#requests.get(eventId);
    if (waiting !== undefined) {
      clearTimeout(waiting.timer);
      this.#requests.delete(eventId);
      if (message.type === ServerType.ERROR) waiting.reject(new RequestError(message.error));
      else waiting.resolve(message);
      return;
    }
    this.#handlers.onMessage(message);
    if (message.type === ServerType.SESSION_CLOSED) this.#closedByServer();
  }

  /** The session has ended; the next attempt starts another one. */
  #closedByServer() {
    this.#session = null;
    this.#lost(1000, "");
  }

  /** @param {ErrorDetail} detail */
  #refused(detail) {
    this.#handlers.onError(new RequestError(detail));
    if (detail.retryable) {
      this.#retryAfterMs = detail.retry_after_ms ?? LONGEST_DELAY_MS;
      this.#lost(1000, "");
      return;
    }
    this.#drop();
    this.#enter(ConnectionState.REFUSED);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #lost(code, reason) {
    this.#drop();
    if (code === POLICY_VIOLATION) {
      this.#handlers.onError(new RequestError({ type: "session", code: "unauthorized", message: reason }));
      this.#enter(ConnectionState.REFUSED);
      return;
    }
    this.#enter(ConnectionState.WAITING);
    const delay = this.#retryAfterMs + this.#backoff.next();
    this.#retryAfterMs = 0;
    this.#retryTimer = setTimeout(() => this.retry(), delay);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    clearTimeout(this.#silenceTimer);
    clearTimeout(this.#retryTimer);
    for (const { reject, timer } of this.#requests.values()) {
      clearTimeout(timer);
      reject(new SceneshiftError("connection_lost", "the connection was lost"));
    }
    this.#requests.clear();
  }

  #listenForSilence() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#lost(1006, "silence"), SILENCE_MS);
  }
}

/** @param {ServerMessage} message */
function isNumbered(message) {
  return typeof message.seq === "number" && message.seq >= 0;
}
