import type { Viewer } from "./sceneshift.js";
import type { WatchOptions } from "./types.js";

export { RequestError, SceneshiftError, Transport, Viewer, ViewerState } from "./sceneshift.js";

export declare function watch(video: HTMLVideoElement, how: WatchOptions): Viewer;
