/**
 * Shows the program on a `<video>`: over WebRTC, or where UDP is blocked, as fMP4 over a WebSocket. Reopens a lost path
 * and shows the last picture meanwhile. `rtc.js` and `mse.js` make one attempt each.
 */
import type { PlayerHandlers, PlayerSettings, Signalling, ViewerEvents, ViewerState } from "./types.js";
/** @import { PlayerHandlers, PlayerSettings, Signalling, ViewerEvents, ViewerState } from "./types.js" */
import { Emitter } from "./emitter.js";
export declare const PlayerState: Readonly<{
    CLOSED: "closed";
    NEGOTIATING: "negotiating";
    PLAYING: "playing";
    FAILED: "failed";
    PAUSED: "paused";
}>;
/**
 * A viewer of a program, made by `watch()` or `session.attach()`. It reopens a lost path until it is closed.
 *
 * Events: `state`, `frame`, `stalled` (no frame for two seconds) and `error` (a failed path, which is reopened, or a
 * refused autoplay).
 *
 * @extends {Emitter<ViewerEvents>}
 */
export declare class Player extends Emitter<ViewerEvents> {
    #private;
    /**
     * @param {HTMLVideoElement} video
     * @param {Signalling} signalling
     * @param {PlayerHandlers} [handlers]
     * @param {PlayerSettings} [settings]
     */
    constructor(video: HTMLVideoElement, signalling: Signalling, handlers?: PlayerHandlers, settings?: PlayerSettings);
    get state(): ViewerState;
    /** The transport of the current path, or of the one being opened. */
    get transport(): "mse" | "webrtc";
    /** Opens the picture, or reopens it. A failed attempt is an `error` event, and the next one follows by itself. */
    open(): void;
    /** Stops watching and empties the video. `open` starts again. */
    close(): void;
    /** For a page out of sight: stops receiving after `graceMs` milliseconds. The last picture stays. */
    pause(): void;
    /** Ends a pause, or cancels one that has not begun. */
    resume(): void;
    /**
     * The current picture as a JPEG data URI; null before the first frame.
     *
     * @param {number} [width] in pixels; default: the video's
     * @returns {string | null}
     */
    picture(width?: number): string | null;
    /** The statistics of the WebRTC path; null over MSE or without a path. @returns {Promise<RTCStatsReport | null>} */
    statistics(): Promise<RTCStatsReport | null>;
}
