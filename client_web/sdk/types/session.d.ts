/**
 * One stage, for whoever drives it: prompts in, handles out, through cuts and restarts. Sits on `connection.js`; its
 * picture is a `player.js` that signals through it. What is public is described in `sceneshift.d.ts`.
 */
import type { PromptOptions, RecordingChanged, ResumableSession, ServerMessage, SessionEvents } from "./types.js";
import type { OnAir, SessionOptions, SessionSettings, SessionState } from "./types.js";
import { Emitter } from "./emitter.js";
import { PromptHandle } from "./handle.js";
import { Player } from "./player.js";
/** @extends {Emitter<SessionEvents>} */
export declare class Session extends Emitter<SessionEvents> {
    #private;
    /** @type {Promise<Session>} */
    ready: Promise<Session>;
    /** @param {SessionSettings} settings */
    constructor(settings: SessionSettings);
    /** @returns {SessionState} */
    get state(): SessionState;
    /** The id under which others watch. @returns {string | null} */
    get id(): string | null;
    /** As the server has them. */
    get options(): SessionOptions;
    /** The last `session.created`: model, engine, and what else it says. */
    get created(): ServerMessage | null;
    get program(): {
        on_air: OnAir;
        prompt_id: string | null;
    };
    /** For `connect(url, { resume })` after a reload of the page. Holds a secret. @returns {ResumableSession | null} */
    get resumable(): ResumableSession | null;
    get viewer(): Player | null;
    /** `connect` does it. */
    open(): void;
    /** Tries again now: after a refusal, or instead of waiting. */
    retry(): void;
    /** Ends the session. @returns {Promise<ServerMessage | null>} `session.closed`; null if the server could not be told */
    close(): Promise<ServerMessage | null>;
    /**
     * Shows the program on a video, over whatever gets through. Another video replaces it, null ends it.
     *
     * @template {HTMLVideoElement | null} Video
     * @param {Video} video
     * @returns {Video extends null ? null : Player}
     */
    attach<Video extends HTMLVideoElement | null>(video: Video): Video extends null ? null : Player;
    /**
     * Puts a scene on the stage. Of prompts that come too fast, or while there is no connection, the newest is sent.
     *
     * @param {string} text
     * @param {PromptOptions} [options]
     */
    prompt(text: string, options?: PromptOptions): PromptHandle;
    /** @param {{transition?: "cut" | "crossfade", transition_s?: number}} [how] @returns {Promise<ServerMessage>} */
    take(how?: {
        transition?: "cut" | "crossfade";
        transition_s?: number;
    }): Promise<ServerMessage>;
    /** Black, from the next frame on. @returns {Promise<ServerMessage>} */
    blank(): Promise<ServerMessage>;
    /** Ends the blank. @returns {Promise<ServerMessage>} */
    resume(): Promise<ServerMessage>;
    /** @param {SessionOptions & {event_id?: string}} change @returns {Promise<ServerMessage>} `session.updated` */
    update(change: SessionOptions & {
        event_id?: string;
    }): Promise<ServerMessage>;
    /** Starts or stops a recording. @returns {Promise<RecordingChanged & ServerMessage>} */
    record(recording?: boolean): Promise<RecordingChanged & ServerMessage>;
    /** @param {string} target one of `created.push_targets` @returns {Promise<ServerMessage>} `push.changed` */
    push(target: string, push?: boolean): Promise<ServerMessage>;
    /** The frame on air, as JPEG. @returns {Promise<Blob>} */
    snapshot(): Promise<Blob>;
    /**
     * Any message of the protocol. Resolves with what answers it; rejects with a `RequestError`, or a lost connection.
     *
     * @param {import("./types.js").ClientMessage} message
     * @returns {Promise<ServerMessage>}
     */
    request(message: import("./types.js").ClientMessage): Promise<ServerMessage>;
}
