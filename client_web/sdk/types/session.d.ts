/**
 * One session and its stage: takes prompts, returns a `PromptHandle` for each, and survives lost connections and server
 * restarts. Built on `connection.js`. A `player.js` shows its program and signals through it.
 */
import type { PromptOptions, RecordingChanged, ResumableSession, ServerMessage, SessionEvents } from "./types.js";
import type { OnAir, SessionOptions, SessionSettings, SessionState } from "./types.js";
import { Emitter } from "./emitter.js";
import { PromptHandle } from "./handle.js";
import { Player } from "./player.js";
/**
 * A session and its stage, opened by `connect()`.
 *
 * Events: `state`, `session` (each time it becomes live), `queued`, `error` (one that answers neither a prompt nor a
 * request), `message` (each message of the server), and each message under its own type.
 *
 * @extends {Emitter<SessionEvents>}
 */
export declare class Session extends Emitter<SessionEvents> {
    #private;
    /**
     * Resolves when the session is live for the first time. Rejects if the server refuses it or it is closed.
     *
     * @type {Promise<Session>}
     */
    ready: Promise<Session>;
    /** @param {SessionSettings} settings */
    constructor(settings: SessionSettings);
    /** @returns {SessionState} */
    get state(): SessionState;
    /** The session's id, by which viewers watch it; null until it is live. @returns {string | null} */
    get id(): string | null;
    /** The options that the server last confirmed; before that, those of `connect`. */
    get options(): SessionOptions;
    /** The last `session.created` message, with the model and the engine; null until the session is live. */
    get created(): ServerMessage | null;
    /** What is on air, and of which prompt. */
    get program(): {
        on_air: OnAir;
        prompt_id: string | null;
    };
    /**
     * For `connect(url, { resume })` after a reload of the page. Contains a secret. Null without a session.
     *
     * @returns {ResumableSession | null}
     */
    get resumable(): ResumableSession | null;
    /** The viewer that `attach` made; null without a video. */
    get viewer(): Player | null;
    /** Opens the connection. `connect` has already done it. */
    open(): void;
    /** Tries to connect now, after a refusal or without waiting for the next attempt. */
    retry(): void;
    /**
     * Ends the session. Prompts without an end become `cancelled`. Never rejects.
     *
     * @returns {Promise<ServerMessage | null>} `session.closed`; null if the server could not be reached
     */
    close(): Promise<ServerMessage | null>;
    /**
     * Shows the program on a video, over WebRTC or MSE. Another video replaces it; null ends it.
     *
     * @template {HTMLVideoElement | null} Video
     * @param {Video} video
     * @returns {Video extends null ? null : Player}
     */
    attach<Video extends HTMLVideoElement | null>(video: Video): Video extends null ? null : Player;
    /**
     * Puts a scene on the stage. Returns at once and never throws: a refused prompt ends as `rejected`. If prompts come
     * too fast, or there is no connection, only the newest is sent, and the others end as `superseded`.
     *
     * @param {string} text
     * @param {PromptOptions} [options]
     */
    prompt(text: string, options?: PromptOptions): PromptHandle;
    /**
     * Puts the clip that waits on air (`take: "manual"`). Rejects like `request`.
     *
     * @param {{transition?: "cut" | "crossfade", transition_s?: number}} [how] `transition_s` in seconds
     * @returns {Promise<ServerMessage>}
     */
    take(how?: {
        transition?: "cut" | "crossfade";
        transition_s?: number;
    }): Promise<ServerMessage>;
    /**
     * Puts a finished clip of `/v1/videos` on the stage. The event `clip` brings its `PromptHandle`. Rejects like `request`.
     *
     * @param {string} clipId
     * @param {{transition?: "cut" | "crossfade", transition_s?: number, after?: "loop" | "continue" | "hold"}} [how]
     * @returns {Promise<ServerMessage>} `prompt.accepted`
     */
    show(clipId: string, how?: {
        transition?: "cut" | "crossfade";
        transition_s?: number;
        after?: "loop" | "continue" | "hold";
    }): Promise<ServerMessage>;
    /** Shows black from the next frame on. Rejects like `request`. @returns {Promise<ServerMessage>} */
    blank(): Promise<ServerMessage>;
    /** Ends the blank. Rejects like `request`. @returns {Promise<ServerMessage>} */
    resume(): Promise<ServerMessage>;
    /**
     * Changes options of the running session. Rejects like `request`.
     *
     * @param {SessionOptions & {event_id?: string}} change
     * @returns {Promise<ServerMessage>} `session.updated`
     */
    update(change: SessionOptions & {
        event_id?: string;
    }): Promise<ServerMessage>;
    /**
     * Starts or stops a recording at the server. Rejects like `request`.
     *
     * @returns {Promise<RecordingChanged & ServerMessage>}
     */
    record(recording?: boolean): Promise<RecordingChanged & ServerMessage>;
    /**
     * Starts or stops a push of the program. Rejects like `request`.
     *
     * @param {string} target one of `created.push_targets`
     * @returns {Promise<ServerMessage>} `push.changed`
     */
    push(target: string, push?: boolean): Promise<ServerMessage>;
    /** The frame on air as a JPEG. Rejects with a `RequestError` if the server refuses. @returns {Promise<Blob>} */
    snapshot(): Promise<Blob>;
    /**
     * Sends any message of the protocol and resolves with the server's answer. Rejects with a `RequestError`, or with the
     * code `no_connection`, `connection_lost` or, after ten seconds, `no_reply`.
     *
     * @param {import("./types.js").ClientMessage} message
     * @returns {Promise<ServerMessage>}
     */
    request(message: import("./types.js").ClientMessage): Promise<ServerMessage>;
}
