import type { Viewer } from "./sceneshift.js";
import type { WatchOptions } from "./types.js";

export { RequestError, SceneshiftError, Viewer } from "./sceneshift.js";

/** Shows a program on a video (muted, or the browser will not start it) for as long as it is wanted, whatever the network does. */
export declare function watch(video: HTMLVideoElement, how: WatchOptions): Viewer;
