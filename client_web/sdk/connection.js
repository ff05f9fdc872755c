/**
 * The WebSocket to the server. Opens a session, resumes it after a lost connection, and matches replies to requests.
 * Its owners (`session.js`, the widget's `stage.js`) add prompts and pictures.
 */

/** @import { ClientMessage, ConnectionHandlers, ErrorCode, ErrorDetail, ServerMessage, SessionOptions } from "./types.js" */
/** @typedef {import("./types.js").ResumableSession} ResumableSession */

import { RequestError, SceneshiftError } from "./errors.js";
import { ClientType, ServerType, decode, newId } from "./messages.js";
import { Backoff, LONGEST_DELAY_MS, checkMove } from "./states.js";

export { RequestError };

export const ConnectionState = Object.freeze({
  // not opened, or closed on purpose
  CLOSED: "closed",
  // the socket opens
  CONNECTING: "connecting",
  // session.start was sent
  STARTING: "starting",
  // the server has no room yet; it sends session.created when it has
  QUEUED: "queued",
  // session.resume was sent
  RESUMING: "resuming",
  // there is a session
  LIVE: "live",
  // the socket is lost; a timer starts the next attempt
  WAITING: "waiting",
  // the server refused, and another attempt would not help
  REFUSED: "refused",
});

/** @type {Readonly<Record<string, readonly string[]>>} */
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
// RFC 6455, 7.4.1: 1008 is a policy violation: a missing or wrong token, or far too many messages. The reason says which.
const POLICY_VIOLATION = 1008;

export class Connection {
  #dial;
  #options;
  #handlers;
  #backoff;
  /** @type {string} */
  #state = ConnectionState.CLOSED;
  /** @type {WebSocket | null} */
  #socket = null;
  #session;
  #lastSeq = -1;
  /** The event_id of the pending start or resume. */
  #openingId = "";
  #retryAfterMs = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silenceTimer;
  /** @type {Map<string, {resolve: Function, reject: Function, timer: ReturnType<typeof setTimeout>}>} by event_id */
  #requests = new Map();

  /**
   * @param {() => WebSocket} dial
   * @param {() => SessionOptions} options called for each new session
   * @param {ConnectionHandlers} handlers
   * @param {{random?: () => number, session?: ResumableSession | null}} [more] `session`: an earlier one to resume
   */
  constructor(dial, options, handlers, { random = Math.random, session = null } = {}) {
    this.#dial = dial;
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

  /** What another page needs to resume the session; null without a session. */
  get session() {
    return this.#session;
  }

  open() {
    this.#enter(ConnectionState.CONNECTING);
    const socket = this.#dial();
    this.#socket = socket;
    // A late event of an old socket must not touch the new one.
    socket.addEventListener("open", () => socket === this.#socket && this.#begin());
    socket.addEventListener("message", (event) => socket === this.#socket && this.#receive(event.data));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#lost(event.code, event.reason));
    this.#listenForSilence();
  }

  /** Closes the socket and ends the session. */
  close() {
    this.send({ type: ClientType.SESSION_CLOSE });
    this.#drop();
    this.#session = null;
    if (this.#state !== ConnectionState.CLOSED) this.#enter(ConnectionState.CLOSED);
  }

  /** Like `close`. Resolves with `session.closed`; null if the server could not be reached. @returns {Promise<any>} */
  async end() {
    const closed = await this.request({ type: ClientType.SESSION_CLOSE }).catch(() => null);
    this.#drop();
    this.close();
    return closed;
  }

  /** Tries again now, without waiting for the timer. */
  retry() {
    if (this.#state !== ConnectionState.WAITING && this.#state !== ConnectionState.REFUSED) return;
    clearTimeout(this.#retryTimer);
    this.open();
  }

  /** Sends only while live; nothing is queued. @param {ClientMessage} message @returns {boolean} whether it was sent */
  send(message) {
    if (!this.isLive || this.#socket === null) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /**
   * Resolves with the reply that repeats the event_id. Rejects with a `RequestError`, or with `no_connection`,
   * `connection_lost` or, after ten seconds, `no_reply`.
   *
   * @param {ClientMessage} message
   * @returns {Promise<ServerMessage>}
   */
  async request(message) {
    const eventId = message.event_id ?? newId("e-");
    if (!this.send({ ...message, event_id: eventId })) throw new SceneshiftError("no_connection", "not connected");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#requests.delete(eventId);
        reject(new SceneshiftError("no_reply", `no reply to ${message.type} within ${REPLY_TIMEOUT_MS / 1000} s`));
      }, REPLY_TIMEOUT_MS);
      this.#requests.set(eventId, { resolve, reject, timer });
    });
  }

  /** @param {string} next */
  #enter(next) {
    checkMove("connection", NEXT, this.#state, next);
    this.#state = next;
    this.#handlers.onState(next);
  }

  #begin() {
    if (this.#session === null) {
      this.#start();
    } else {
      this.#enter(ConnectionState.RESUMING);
      this.#resume(this.#lastSeq);
    }
  }

  /** @param {number} lastSeq */
  #resume(lastSeq) {
    const { sessionId, resumeToken } = /** @type {ResumableSession} */ (this.#session);
    this.#ask({
      type: ClientType.SESSION_RESUME,
      session_id: sessionId,
      resume_token: resumeToken,
      last_seq: lastSeq,
    });
  }

  #start() {
    this.#session = null;
    this.#lastSeq = -1;
    this.#enter(ConnectionState.STARTING);
    this.#ask({ type: ClientType.SESSION_START, ...this.#options() });
  }

  /** @param {ClientMessage} opening */
  #ask(opening) {
    this.#openingId = newId("e-");
    this.#socket?.send(JSON.stringify({ ...opening, event_id: this.#openingId }));
  }

  /** @param {string} raw */
  #receive(raw) {
    this.#listenForSilence();
    let message;
    try {
      message = decode(raw);
    } catch (error) {
      this.#handlers.onError(/** @type {Error} */ (error));
      return;
    }
    if (this.#isReplayed(message)) return;
    if (this.isLive) this.#receiveLive(message);
    else this.#receiveBeforeLive(message);
  }

  /** @param {ServerMessage} message */
  #isReplayed(message) {
    if (message.type === ServerType.SESSION_CREATED || !isNumbered(message)) return false;
    if (message.seq <= this.#lastSeq) return true;
    this.#lastSeq = message.seq;
    return false;
  }

  /** @param {ServerMessage} message */
  #receiveBeforeLive(message) {
    const isResuming = this.#state === ConnectionState.RESUMING;
    switch (message.type) {
      case ServerType.SESSION_CREATED:
        // A replay may contain the session's first session.created. The answer to our request comes after the replay.
        if (message.event_id === this.#openingId) this.#becomeLive(message, isResuming);
        break;
      case ServerType.SESSION_QUEUED:
        if (this.#state === ConnectionState.STARTING) this.#enter(ConnectionState.QUEUED);
        this.#handlers.onQueued?.(message.position, message.estimated_wait_ms ?? null);
        break;
      case ServerType.ERROR:
        // A numbered error belongs to the replay.
        if (isNumbered(message)) this.#handlers.onMessage(message);
        else if (!isResuming) this.#refused(message.error);
        // The server no longer has all events since the cut. Those that it still has are better than a new stage.
        else if (message.error.code === "resume_gap") this.#resume(-1);
        else this.#start();
        break;
      case ServerType.SESSION_CLOSED:
        this.#closedByServer(message.reason);
        break;
      default:
        // The replay comes before the answer to the resume.
        this.#handlers.onMessage(message);
    }
  }

  /** @param {ServerMessage} created @param {boolean} isResuming */
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
    const waiting = this.#requests.get(eventId);
    if (waiting !== undefined) {
      clearTimeout(waiting.timer);
      this.#requests.delete(eventId);
      if (message.type === ServerType.ERROR) waiting.reject(new RequestError(message.error));
      else waiting.resolve(message);
      return;
    }
    this.#handlers.onMessage(message);
    if (message.type === ServerType.SESSION_CLOSED) this.#closedByServer(message.reason);
  }

  /**
   * The session has ended; the next attempt starts another one. If its time was up, only the user asks for another.
   *
   * @param {string} reason
   */
  #closedByServer(reason) {
    this.#session = null;
    if (reason !== "time_up") {
      this.#lost(1000, "");
      return;
    }
    this.#drop();
    this.#enter(ConnectionState.REFUSED);
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

  /** @param {number} code of the close @param {string} reason */
  #lost(code, reason) {
    this.#drop();
    if (code === POLICY_VIOLATION) {
      const code = /** @type {ErrorCode} */ (reason || "unauthorized");
      this.#handlers.onError(new RequestError({ type: "session", code, message: reason }));
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

/** @param {ServerMessage} message @returns {message is ServerMessage & {seq: number}} */
const isNumbered = (message) => typeof message.seq === "number" && message.seq >= 0;
