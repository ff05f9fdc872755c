/**
 * What goes wrong, by name: each error has a `code`, and `param` if one field is to blame.
 *
 * @module errors
 */

/** @typedef {import("./messages.js").ErrorDetail} ErrorDetail */

/**
 * Codes of the client's own: `no_connection`, `connection_lost`, `no_reply`, `session_closed`, `session_lost`, `aborted`;
 * of the picture: `udp_blocked`, `no_webrtc`, `no_mse`, `picture_lost`, `no_server`, `not_allowed_to_play`.
 */
export class SceneshiftError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {string | null} [param]
   */
  constructor(code, message, param = null) {
    super(message);
    this.name = "SceneshiftError";
    this.code = code;
    this.param = param;
  }
}

/** The server's answer to a request was an error; its codes are listed in `docs/protocol.md`. */
export class RequestError extends SceneshiftError {
  /** @param {ErrorDetail} detail */
  constructor(detail) {
    super(detail.code, detail.message, detail.param);
    this.name = "RequestError";
    this.detail = detail;
  }
}
