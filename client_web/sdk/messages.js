/**
 * The wire protocol of `WS /v1/realtime`, version 1: the names, the shapes, and nothing else.
 * The twin of `server/messages.py`; a test holds the two together.
 *
 * @module messages
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

/**
 * @typedef {object} SessionOptions
 * @property {number} [width]
 * @property {number} [height]
 * @property {number} [frame_rate]
 * @property {number} [bitrate]
 * @property {"fast" | "fine"} [quality]
 * @property {"on_air" | "controller" | "off"} [on_preview]
 * @property {"auto" | "manual"} [take]
 * @property {"cut" | "crossfade" | "morph"} [transition]
 * @property {number} [transition_s]
 * @property {"loop" | "continue" | "hold"} [after]
 * @property {number | null} [seed]
 * @property {string | null} [lora]
 * @property {boolean} [fresh]
 * @property {string | null} [music]
 * @property {number} [music_volume]
 * @property {boolean} [marker]
 */

/**
 * What `session.start` takes beside the options: the session's id, for an address that outlives a restart.
 *
 * @typedef {SessionOptions & {name?: string}} SessionStart
 */

/**
 * As in `session.created.ice_servers`; a browser's RTCIceServer.
 *
 * @typedef {object} IceServer
 * @property {string[]} urls
 * @property {string} [username]
 * @property {string} [credential]
 */

/**
 * @typedef {object} ErrorDetail
 * @property {"invalid_request" | "session" | "engine" | "server"} type
 * @property {string} code
 * @property {string} message
 * @property {string | null} [param]
 * @property {string | null} [event_id]
 * @property {boolean} [retryable]
 * @property {number | null} [retry_after_ms]
 */

/**
 * @typedef {object} FrameStamp
 * @property {number} frame_index
 * @property {number | null} rtp_timestamp
 * @property {number} sent_at_ms
 */

/**
 * @typedef {object} PromptTimings
 * @property {number} queued_ms
 * @property {number} text_ms
 * @property {number} denoised_ms
 * @property {number} previewed_ms
 * @property {number} decoded_ms
 * @property {number} composed_ms
 * @property {number} encoded_ms
 * @property {number} total_ms
 */

/**
 * @typedef {object} Stats
 * @property {number} frames_sent
 * @property {number} frames_due
 * @property {number} continuous_play_ratio
 * @property {number} max_gap_ms
 * @property {number} sent_frame_rate
 * @property {number} bitrate
 * @property {number} viewers
 * @property {string} engine
 */

/**
 * The fields of `recording.changed`: of the recording that runs, or of the one that just ended.
 *
 * @typedef {object} RecordingChanged
 * @property {string | null} event_id
 * @property {boolean} recording
 * @property {string | null} name
 * @property {number | null} duration_s
 * @property {number | null} size_bytes
 * @property {string | null} url path at the server; the access token, where there is one, goes behind it as `?token=`
 * @property {ErrorDetail | null} error
 */

/**
 * The first word of `WS /v1/sessions/{session_id}/watch`; `mime` is for `MediaSource.addSourceBuffer`.
 *
 * @typedef {object} StreamStarted
 * @property {string} mime
 * @property {number} width
 * @property {number} height
 * @property {number} frame_rate
 */

/**
 * Any event of the server, loosely: `type` says which of the fields are there.
 *
 * @typedef {Record<string, any> & {type: string, session_id?: string | null, seq?: number, ts?: number}} ServerMessage
 */

/** @typedef {Record<string, any> & {type: string, event_id?: string}} ClientMessage */

/**
 * The message in `text`; raises a `TypeError` for what is not an object with a type.
 *
 * @param {string} text
 * @returns {ServerMessage}
 */
export function decode(text) {
  const message = JSON.parse(text);
  if (message === null || typeof message !== "object" || typeof message.type !== "string") {
    throw new TypeError("expected an object with a `type` from the server");
  }
  return message;
}

/**
 * A fresh identifier. `crypto.randomUUID` does not exist on plain http pages, which a LAN address is.
 *
 * @param {string} prefix
 * @returns {string}
 */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
