// The SDK's public surface; a test in the browser holds it to what the modules export.

import type {
  ConnectOptions,
  ErrorDetail,
  Listeners,
  RecordingChanged,
  ResumableSession,
  ServerMessage,
  SessionOptions,
  Shown,
  ShownFrame,
  Stats,
} from "./types.js";

export type * from "./types.js";

/**
 * Opens a session, and tries again for as long as the server cannot be reached. Without a url: the server that this
 * script came from. Resolves when the session is live; rejects with `code` and `param` when it is refused, or closed.
 */
export declare function connect(url?: string | null, how?: ConnectOptions): Promise<Session>;

declare class Emitter<Events extends Record<string, any[]>> {
  /** Returns what ends it. */
  on<Type extends keyof Events & string>(type: Type, listener: (...details: Events[Type]) => void): () => void;
}

type MessageType =
  | "session.warning" | "session.updated" | "session.closed"
  | "prompt.accepted" | "prompt.started" | "prompt.preview" | "prompt.ready" | "prompt.applied" | "prompt.continued"
  | "prompt.superseded" | "prompt.cancelled" | "prompt.rejected" | "prompt.failed"
  | "program.changed" | "recording.changed" | "push.changed";

export interface SessionEvents extends Record<MessageType, [message: ServerMessage]>, Record<string, any[]> {
  state: [state: SessionState];
  session: [{ isResumed: boolean; created: ServerMessage }];
  queued: [{ position: number; estimated_wait_ms: number | null }];
  error: [error: SceneshiftError];
  message: [message: ServerMessage];
  "stats.updated": [stats: Stats & ServerMessage];
}

export type SessionState = "connecting" | "queued" | "live" | "reconnecting" | "refused" | "closed";

export declare class Session extends Emitter<SessionEvents> {
  readonly state: SessionState;
  /** Itself, when it is live; rejects if it is refused or closed before. */
  readonly ready: Promise<Session>;
  /** Under which others watch. */
  readonly id: string | null;
  /** As the server has them. */
  readonly options: SessionOptions;
  /** The last `session.created`: model, engine, and what else it says. */
  readonly created: ServerMessage | null;
  readonly program: { on_air: "idle" | "preview" | "clip" | "blank"; prompt_id: string | null };
  /** For `connect(url, { resume })` after a reload of the page. Holds a secret. */
  readonly resumable: ResumableSession | null;
  readonly viewer: Viewer | null;
  /** `connect` does it. */
  open(): void;
  /** Tries again now: after a refusal, or instead of waiting. */
  retry(): void;
  /** Ends the session. Resolves with `session.closed`; null if the server could not be told. */
  close(): Promise<ServerMessage | null>;
  /** Shows the program on a video, over whatever gets through. Another video replaces it, null ends it. */
  attach(video: HTMLVideoElement): Viewer;
  attach(video: null): null;
  /** Puts a scene on the stage. Of prompts that come too fast, or while there is no connection, the newest is sent. */
  prompt(text: string, options?: PromptOptions): PromptHandle;
  take(how?: { transition?: "cut" | "crossfade"; transition_s?: number }): Promise<ServerMessage>;
  /** Black, from the next frame on. */
  blank(): Promise<ServerMessage>;
  /** Ends the blank. */
  resume(): Promise<ServerMessage>;
  update(change: SessionOptions): Promise<ServerMessage>;
  /** Starts or stops a recording: `recording.changed`. */
  record(recording?: boolean): Promise<RecordingChanged & ServerMessage>;
  /** To one of `created.push_targets`: `push.changed`. */
  push(target: string, push?: boolean): Promise<ServerMessage>;
  /** The frame on air, as JPEG. */
  snapshot(): Promise<Blob>;
  /** Any message of the protocol. Resolves with what answers it; rejects with a `RequestError`, or a lost connection. */
  request(message: { type: string } & Record<string, any>): Promise<ServerMessage>;
}

export interface PromptOptions {
  quality?: "fast" | "fine";
  transition?: "cut" | "crossfade" | "morph";
  transition_s?: number;
  after?: "loop" | "continue" | "hold";
  seed?: number | null;
  lora?: string | null;
  fresh?: boolean;
  audience?: boolean;
}

export type PromptEnd = "applied" | "superseded" | "cancelled" | "rejected" | "failed";
export type PromptState = "waiting" | "sent" | "accepted" | "started" | "ready" | PromptEnd;

export interface PromptEvents extends Record<string, any[]> {
  state: [state: PromptState];
  "prompt.preview": [message: ServerMessage];
}

/** One prompt. None of its promises ever rejects; `accepted`, `preview` and `picture` are null if it came not to that. */
export declare class PromptHandle extends Emitter<PromptEvents> {
  readonly promptId: string;
  readonly eventId: string;
  readonly text: string;
  readonly options: PromptOptions;
  readonly askedAt: number;
  readonly state: PromptState;
  readonly hasEnded: boolean;
  /** Why it was rejected or failed. */
  readonly error: ErrorDetail | null;
  readonly supersededBy: string | null;
  readonly accepted: Promise<ServerMessage | null>;
  /** When the first preview is seen. */
  readonly preview: Promise<Shown | null>;
  /** When the first frame of the finished clip is seen. */
  readonly picture: Promise<Shown | null>;
  readonly ended: Promise<PromptEnd>;
  /** Resolves with its end, which is another one if the cancel comes too late. */
  cancel(): Promise<PromptEnd>;
}

export interface ViewerEvents extends Record<string, any[]> {
  state: [state: ViewerState];
  frame: [frame: ShownFrame];
  stalled: [];
  error: [error: Error];
}

export type ViewerState = "closed" | "negotiating" | "playing" | "failed" | "paused";

export declare class Viewer extends Emitter<ViewerEvents> {
  readonly state: ViewerState;
  /** What the picture comes over, or is being opened over. */
  readonly transport: "webrtc" | "mse";
  /** Opens, or opens anew. What goes wrong is an `error` event, and tried again. */
  open(): void;
  close(): void;
  /** Nobody looks: after a grace nothing is received any more. The last picture stays. */
  pause(): void;
  resume(): void;
  /** What is shown now, as a JPEG data URI; null before the first frame. */
  picture(width?: number): string | null;
  /** null without WebRTC. */
  statistics(): Promise<RTCStatsReport | null>;
}

export declare class SceneshiftError extends Error {
  constructor(code: string, message: string, param?: string | null);
  readonly code: string;
  readonly param: string | null;
}

export declare class RequestError extends SceneshiftError {
  constructor(detail: ErrorDetail);
  readonly detail: ErrorDetail;
}
