/**
 * The program on a `<video>`, for as long as it is wanted: over WebRTC, or where UDP does not get through, as fMP4 over a
 * WebSocket. Opens again what fails, holds the last picture meanwhile. `rtc.js` and `mse.js` are one attempt each.
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
 * Events: `state`, `frame`, `stalled` after two seconds without a frame, `error` (what failed is tried again).
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
    /** What the picture comes over, or is being opened over. */
    get transport(): "mse" | "webrtc";
    /** Opens, or opens anew. What goes wrong is reported, and tried again. */
    open(): void;
    close(): void;
    /** Nobody looks: after a grace nothing is received any more. The last picture stays. */
    pause(): void;
    resume(): void;
    /** What the video shows now, as a JPEG data URI; null before the first frame. @param {number} [width] @returns {string | null} */
    picture(width?: number): string | null;
    /** null without WebRTC. @returns {Promise<RTCStatsReport | null>} */
    statistics(): Promise<RTCStatsReport | null>;
}
