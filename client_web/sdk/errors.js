/**
 * What goes wrong, by name.
 */

/** `code` is one of `docs/protocol.md` or of `docs/sdk.md`; `param` the field that is to blame, or null. */
export class SceneshiftError extends Error {
  /** @param {string} code @param {string} message @param {string | null} [param] */
  constructor(code, message, param = null) {
    super(message);
    this.name = "SceneshiftError";
    this.code = code;
    this.param = param;
  }
}

/** The server's answer to a request was an error. */
export class RequestError extends SceneshiftError {
  /** @param {import("./types.js").ErrorDetail} detail */
  constructor(detail) {
    super(detail.code, detail.message, detail.param);
    this.name = "RequestError";
    this.detail = detail;
  }
}
