// The shapes that the SDK's modules share, and its users meet. Fields that cross the wire are described in docs/protocol.md.

export interface SessionOptions {
  width?: number;
  height?: number;
  frame_rate?: number;
  bitrate?: number;
  quality?: "fast" | "fine";
  on_preview?: "on_air" | "controller" | "off";
  take?: "auto" | "manual";
  transition?: "cut" | "crossfade" | "morph";
  transition_s?: number;
  after?: "loop" | "continue" | "hold";
  seed?: number | null;
  lora?: string | null;
  fresh?: boolean;
  music?: string | null;
  music_volume?: number;
  marker?: boolean;
}

/** What `session.start` takes: the id beside the options, for an address that outlives a restart. */
export type SessionStart = SessionOptions & { name?: string };

/** As in `session.created.ice_servers`; a browser's RTCIceServer. */
export interface IceServer {
  urls: string[];
  username?: string;
  credential?: string;
}

export interface ErrorDetail {
  type: "invalid_request" | "session" | "engine" | "server";
  code: string;
  message: string;
  param?: string | null;
  event_id?: string | null;
  retryable?: boolean;
  retry_after_ms?: number | null;
}

export interface FrameStamp {
  frame_index: number;
  rtp_timestamp: number | null;
  sent_at_ms: number;
}

export interface PromptTimings {
  queued_ms: number;
  text_ms: number;
  denoised_ms: number;
  previewed_ms: number;
  decoded_ms: number;
  composed_ms: number;
  encoded_ms: number;
  total_ms: number;
}

export interface Stats {
  frames_sent: number;
  frames_due: number;
  continuous_play_ratio: number;
  max_gap_ms: number;
  sent_frame_rate: number;
  bitrate: number;
  viewers: number;
  engine: string;
}

/** `recording.changed`: of the recording that runs, or of the one that just ended. */
export interface RecordingChanged {
  event_id: string | null;
  recording: boolean;
  name: string | null;
  duration_s: number | null;
  size_bytes: number | null;
  /** Path at the server; the access token, where there is one, goes behind it as `?token=`. */
  url: string | null;
  error: ErrorDetail | null;
}

/** The first word of `WS /v1/sessions/{session_id}/watch`; `mime` is for `MediaSource.addSourceBuffer`. */
export interface StreamStarted {
  mime: string;
  width: number;
  height: number;
  frame_rate: number;
}

/** Any event of the server, loosely: `type` says which of the fields are there. */
export type ServerMessage = Record<string, any> & { type: string; session_id?: string | null; seq?: number; ts?: number };

export type ClientMessage = Record<string, any> & { type: string; event_id?: string };

/** Listeners by event: the event's details are their arguments. */
export type Listeners = Record<string, (...details: any[]) => void>;

export interface ResumableSession {
  sessionId: string;
  resumeToken: string;
}

export interface ConnectionHandlers {
  onState(state: string): void;
  onMessage(message: ServerMessage): void;
  onSession(isResumed: boolean, created: ServerMessage): void;
  onError(error: Error): void;
  /** Where we stand, each time it changes. */
  onQueued?(position: number, waitMs: number | null): void;
}

export interface Signalling {
  /** Resolves with the answer's SDP. Once `signal` is aborted, this peer is no longer wanted. */
  offer(sdp: string, signal: AbortSignal): Promise<string>;
  candidate(candidate: RTCIceCandidate | null): void;
  /** Asked for when the answer is there. */
  iceServers?(): RTCIceServer[];
}

export interface RtcHandlers {
  onStream(stream: MediaStream): void;
  onConnected(): void;
  /** Once, and nothing comes after it. */
  onLost(error: Error): void;
}

export interface MseHandlers {
  /** Before the element is touched. Frame k is at k / frameRate seconds. */
  onStarted(frameRate: number): void;
  onAttached(): void;
  /** The first frame is there. */
  onConnected(): void;
  /** Once, and nothing comes after it. */
  onLost(error: Error): void;
}

export type TransportChoice = "auto" | "webrtc" | "mse";

export interface PlayerSettings {
  /** The WebSocket of the program's fMP4; without one there is only WebRTC. */
  watchUrl?: () => string | null;
  transport?: TransportChoice;
  random?: () => number;
  /** From `pause` until nothing is received any more; 5000. */
  graceMs?: number;
}

export interface PlayerHandlers {
  onState?(state: string): void;
  onFrame?(frame: ShownFrame): void;
  /** No frame has come for two seconds. */
  onStalled?(): void;
  /** Another attempt follows. */
  onError?(error: Error): void;
}

export interface ShownFrame {
  /** 90 kHz, as in the packet; over WebRTC only. */
  rtpTimestamp: number | undefined;
  /** Of the program; over MSE only. */
  frameIndex: number | undefined;
  /** When it is on the glass, on the clock of `performance.now()`. */
  shownAt: number;
  /** How many the browser has shown so far. */
  presentedFrames: number;
}

/** What was seen of a prompt. */
export interface Shown {
  frame: FrameStamp;
  /** From `prompt()` to the glass of the attached video; null if it was not seen there. */
  glassMs: number | null;
  /** Where the time went; of the finished clip only. */
  timings: PromptTimings | null;
}

export interface PlaySettings {
  transport?: TransportChoice;
  random?: () => number;
  graceMs?: number;
  on?: Listeners;
}

export interface ConnectSettings extends PlaySettings {
  /** Of the session, which then outlives a restart of the server; 3 to 40 of a-z, 0-9, -. */
  name?: string;
  options?: SessionOptions;
  /** A session of before: `session.resumable`. */
  resume?: ResumableSession | null;
  /** At most; 4. */
  promptsPerSecond?: number;
}

export interface SessionSettings extends ConnectSettings {
  address: { http(path: string): string; socket(path: string): string; readonly headers: Record<string, string> };
}

export interface ConnectOptions extends ConnectSettings {
  /** Access token; else the one in the fragment of the url, or of the page's own address. */
  token?: string | null;
  /** Shows the program. */
  video?: HTMLVideoElement | null;
  /** Closes the session. */
  signal?: AbortSignal;
}

export interface WatchOptions extends PlaySettings {
  /** Its id or name. */
  session: string;
  /** Address; without one: where the script came from. */
  server?: string | null;
  token?: string | null;
}
