/**
 * The SDK's error classes.
 */
/** An error with a `code` from `docs/protocol.md` or `docs/sdk.md`. `param` names the wrong field, or is null. */
export declare class SceneshiftError extends Error {
    code: string;
    param: string | null;
    /** @param {string} code @param {string} message @param {string | null} [param] */
    constructor(code: string, message: string, param?: string | null);
}
/** The server answered with an error. `detail` is its whole error object. */
export declare class RequestError extends SceneshiftError {
    detail: import("./types.js").ErrorDetail;
    /** @param {import("./types.js").ErrorDetail} detail */
    constructor(detail: import("./types.js").ErrorDetail);
}
