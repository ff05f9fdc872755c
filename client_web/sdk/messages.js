/**
 * The wire protocol of `WS /v1/realtime`, version 1: the names, the shapes, and nothing else.
 * The twin of `server/messages.py`; a test holds the two together.
 */

export const PROTOCOL_VERSION = 1;
export const MAX_PROMPT_CHARACTERS = 2000;

/** What a client may say. */
export const ClientType = Object.freeze({
  SESSION_START: "session.start",
  SESSION_UPDATE: "session.update",
  SESSION_RESUME: "session.resume",
  SESSION_CLOSE: "session.close",
  SESSION_PING: "session.ping",
  PROMPT_SET: "prompt.set",
  PROMPT_CANCEL: "prompt.cancel",
  PROGRAM_TAKE: "program.take",
  PROGRAM_BLANK: "program.blank",
  PROGRAM_RESUME: "program.resume",
  PROGRAM_PUSH: "program.push",
  PROGRAM_RECORD: "program.record",
  WEBRTC_OFFER: "webrtc.offer",
  WEBRTC_CANDIDATE: "webrtc.candidate",
});

/** What the server says. A client ignores types that it does not know. */
export const ServerType = Object.freeze({
  SESSION_CREATED: "session.created",
  SESSION_QUEUED: "session.queued",
  SESSION_UPDATED: "session.updated",
  SESSION_WARNING: "session.warning",
  SESSION_CLOSED: "session.closed",
  SESSION_PONG: "session.pong",
  PROMPT_ACCEPTED: "prompt.accepted",
  PROMPT_STARTED: "prompt.started",
  PROMPT_PREVIEW: "prompt.preview",
  PROMPT_APPLIED: "prompt.applied",
  PROMPT_CONTINUED: "prompt.continued",
  PROMPT_READY: "prompt.ready",
  PROMPT_SUPERSEDED: "prompt.superseded",
  PROMPT_CANCELLED: "prompt.cancelled",
  PROMPT_REJECTED: "prompt.rejected",
  PROMPT_FAILED: "prompt.failed",
  PROGRAM_CHANGED: "program.changed",
  PUSH_CHANGED: "push.changed",
  RECORDING_CHANGED: "recording.changed",
  WEBRTC_ANSWER: "webrtc.answer",
  STATS_UPDATED: "stats.updated",
  ERROR: "error",
});

// Their shapes are in types.d.ts.
/** @typedef {import("./types.js").SessionOptions} SessionOptions */
/** @typedef {import("./types.js").RecordingChanged} RecordingChanged */
/** @typedef {import("./types.js").ErrorDetail} ErrorDetail */
/** @typedef {import("./types.js").PromptTimings} PromptTimings */
/** @typedef {import("./types.js").Stats} Stats */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").ClientMessage} ClientMessage */

/** Raises a `TypeError` for what is not an object with a type. @param {string} text @returns {ServerMessage} */
export function decode(text) {
  const message = JSON.parse(text);
  if (message === null || typeof message !== "object" || typeof message.type !== "string") {
    throw new TypeError("expected an object with a `type` from the server");
  }
  return message;
}

/** A fresh identifier. `crypto.randomUUID` is not there on plain http, as of a LAN. @param {string} prefix */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
