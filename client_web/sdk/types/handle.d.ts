/**
 * One prompt as its sender sees it: a state, promises for its preview and picture, and exactly one end. No I/O:
 * `session.js` drives it through methods named by symbols, so that users cannot call them.
 */
import type { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js";
/** @import { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js" */
import { Emitter } from "./emitter.js";
export declare const receive: unique symbol;
export declare const finish: unique symbol;
export declare const move: unique symbol;
export declare const shown: unique symbol;
/**
 * One prompt. Its promises never reject. `accepted`, `preview` and `picture` resolve with null if the event did not
 * happen.
 *
 * Events: `state`, and the server's messages about this prompt under their types.
 *
 * @extends {Emitter<PromptEvents>}
 */
export declare class PromptHandle extends Emitter<PromptEvents> {
    #private;
    text: string;
    options: PromptOptions;
    promptId: string;
    eventId: string;
    /** When the prompt was made, in milliseconds of `performance.now()`. */
    askedAt: number;
    /** Why it was rejected or failed. @type {ErrorDetail | null} */
    error: ErrorDetail | null;
    /** The id of the newer prompt. @type {string | null} */
    supersededBy: string | null;
    /** Resolves with `prompt.accepted`. @type {Promise<ServerMessage | null>} */
    accepted: Promise<ServerMessage | null>;
    /** Resolves when the video shows the first preview. @type {Promise<Shown | null>} */
    preview: Promise<Shown | null>;
    /** Resolves when the video shows the first frame of the finished clip. @type {Promise<Shown | null>} */
    picture: Promise<Shown | null>;
    /** Resolves with the prompt's one end. @type {Promise<PromptEnd>} */
    ended: Promise<PromptEnd>;
    /** @param {string} text @param {PromptOptions} options @param {(handle: PromptHandle) => void} cancel */
    constructor(text: string, options: PromptOptions, cancel: (handle: PromptHandle) => void);
    get state(): PromptState;
    get hasEnded(): boolean;
    /** Cancels the prompt. Resolves with its end, which is not `cancelled` if the cancel came too late. */
    cancel(): Promise<PromptEnd>;
}
