/**
 * The SDK's error classes.
 */

/** An error with a `code` from `docs/protocol.md` or `docs/sdk.md`. `param` names the wrong field, or is null. */
export class SceneshiftError extends Error {
  /** @param {string} code @param {string} message @param {string | null} [param] */
  constructor(code, message, param = null) {
    super(message);
    this.name = "SceneshiftError";
    this.code = code;
    this.param = param;
  }
}

/** The server answered with an error. `detail` is its whole error object. */
export class RequestError extends SceneshiftError {
  /** @param {import("./types.js").ErrorDetail} detail */
  constructor(detail) {
    super(detail.code, detail.message, detail.param);
    this.name = "RequestError";
    this.detail = detail;
  }
}
