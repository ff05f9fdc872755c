// The SDK's public surface; a test in the browser holds it to what the modules export.

import type {
  ConnectOptions,
  ErrorDetail,
  Listeners,
  PromptTimings,
  ResumableSession,
  ServerMessage,
  SessionOptions,
  Shown,
  ShownFrame,
  Stats,
} from "./types.js";

export type * from "./types.js";

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
  state: [state: SessionStateName];
  session: [{ isResumed: boolean; created: ServerMessage }];
  queued: [{ position: number; estimated_wait_ms: number | null }];
  error: [error: SceneshiftError];
  message: [message: ServerMessage];
  "stats.updated": [stats: Stats & ServerMessage];
}

export type SessionStateName = "connecting" | "queued" | "live" | "reconnecting" | "refused" | "closed";

export declare class Session extends Emitter<SessionEvents> {
  readonly state: SessionStateName;
  readonly ready: Promise<Session>;
  readonly id: string | null;
  readonly options: SessionOptions;
  readonly created: ServerMessage | null;
  readonly program: { on_air: "idle" | "preview" | "clip" | "blank"; prompt_id: string | null };
  readonly resumable: ResumableSession | null;
  readonly viewer: Viewer | null;
  open(): void;
  retry(): void;
  close(): Promise<ServerMessage | null>;
  attach(video: HTMLVideoElement): Viewer;
  attach(video: null): null;
  prompt(text: string, options?: PromptOptions): PromptHandle;
  take(how?: { transition?: "cut" | "crossfade"; transition_s?: number }): Promise<ServerMessage>;
  blank(): Promise<ServerMessage>;
  resume(): Promise<ServerMessage>;
  update(change: SessionOptions): Promise<ServerMessage>;
  record(recording?: boolean): Promise<ServerMessage>;
  push(target: string, push?: boolean): Promise<ServerMessage>;
  snapshot(): Promise<Blob>;
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
export type HandleStateName = "waiting" | "sent" | "accepted" | "started" | "ready" | PromptEnd;

export interface PromptEvents extends Record<string, any[]> {
  state: [state: HandleStateName];
  "prompt.preview": [message: ServerMessage];
}

export declare class PromptHandle extends Emitter<PromptEvents> {
  readonly promptId: string;
  readonly eventId: string;
  readonly text: string;
  readonly options: PromptOptions;
  readonly askedAt: number;
  readonly state: HandleStateName;
  readonly hasEnded: boolean;
  readonly error: ErrorDetail | null;
  readonly supersededBy: string | null;
  readonly accepted: Promise<ServerMessage | null>;
  readonly preview: Promise<Shown | null>;
  readonly picture: Promise<Shown | null>;
  readonly ended: Promise<PromptEnd>;
  cancel(): Promise<PromptEnd>;
}

export interface ViewerEvents extends Record<string, any[]> {
  state: [state: ViewerStateName];
  frame: [frame: ShownFrame];
  stalled: [];
  error: [error: Error];
}

export type ViewerStateName = "closed" | "negotiating" | "playing" | "failed" | "paused";

export declare class Viewer extends Emitter<ViewerEvents> {
  readonly state: ViewerStateName;
  readonly transport: "webrtc" | "mse";
  open(): void;
  close(): void;
  pause(): void;
  resume(): void;
  picture(width?: number): string | null;
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

export declare const SessionState: Readonly<Record<string, SessionStateName>>;
export declare const HandleState: Readonly<Record<string, HandleStateName>>;
export declare const ViewerState: Readonly<Record<string, ViewerStateName>>;
export declare const Transport: Readonly<Record<string, "webrtc" | "mse">>;
