/**
 * One prompt, as whoever sent it sees it: promises for what will be seen, and exactly one end. Pure; `session.js` drives
 * it by methods whose names are symbols, so that nobody else does.
 */
import type { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js";
/** @import { ErrorDetail, PromptEnd, PromptEvents, PromptOptions, PromptState, ServerMessage, Shown } from "./types.js" */
import { Emitter } from "./emitter.js";
export declare const receive: unique symbol;
export declare const finish: unique symbol;
export declare const move: unique symbol;
export declare const shown: unique symbol;
/**
 * One prompt. None of its promises ever rejects; `accepted`, `preview` and `picture` are null if it came not to that.
 *
 * @extends {Emitter<PromptEvents>}
 */
export declare class PromptHandle extends Emitter<PromptEvents> {
    #private;
    text: string;
    options: PromptOptions;
    promptId: string;
    eventId: string;
    askedAt: number;
    /** Why it was rejected or failed. @type {ErrorDetail | null} */
    error: ErrorDetail | null;
    /** @type {string | null} */
    supersededBy: string | null;
    /** @type {Promise<ServerMessage | null>} */
    accepted: Promise<ServerMessage | null>;
    /** When the first preview is seen. @type {Promise<Shown | null>} */
    preview: Promise<Shown | null>;
    /** When the first frame of the finished clip is seen. @type {Promise<Shown | null>} */
    picture: Promise<Shown | null>;
    /** @type {Promise<PromptEnd>} */
    ended: Promise<PromptEnd>;
    /** @param {string} text @param {PromptOptions} options @param {(handle: PromptHandle) => void} cancel */
    constructor(text: string, options: PromptOptions, cancel: (handle: PromptHandle) => void);
    get state(): PromptState;
    get hasEnded(): boolean;
    /** Resolves with its end, which is another one if the cancel comes too late. */
    cancel(): Promise<PromptEnd>;
}
