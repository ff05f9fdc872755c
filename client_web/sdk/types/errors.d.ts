/**
 * What goes wrong, by name.
 */
/** `code` is one of `docs/protocol.md` or of `docs/sdk.md`; `param` the field that is to blame, or null. */
export declare class SceneshiftError extends Error {
    code: string;
    param: string | null;
    /** @param {string} code @param {string} message @param {string | null} [param] */
    constructor(code: string, message: string, param?: string | null);
}
/** The server's answer to a request was an error. */
export declare class RequestError extends SceneshiftError {
    detail: import("./types.js").ErrorDetail;
    /** @param {import("./types.js").ErrorDetail} detail */
    constructor(detail: import("./types.js").ErrorDetail);
}
