/**
 * The program on a `<video>`: one receiving RTCPeerConnection, opened again when it fails, and each shown frame
 * reported with its RTP timestamp. Signalling is given to it, so it knows no WebSocket.
 *
 * @module player
 */

export const PlayerState = Object.freeze({
  CLOSED: "closed",
  NEGOTIATING: "negotiating", // offer and answer, then ICE and DTLS
  PLAYING: "playing", // connected
  FAILED: "failed", // will be opened again after a while
});

/** @type {Record<string, readonly string[]>} */
const NEXT = Object.freeze({
  closed: ["negotiating"],
  negotiating: ["playing", "failed", "closed", "negotiating"],
  playing: ["failed", "closed", "negotiating"],
  failed: ["negotiating", "closed"],
});

const REOPEN_MS = 1500;
// ICE calls a path "disconnected" after some lost checks and often finds it again by itself.
const DISCONNECTED_MS = 4000;
// ICE needs longer to notice that nobody is there; the eye does not.
const STALLED_MS = 2000;

/**
 * @typedef {object} Signalling
 * @property {(sdp: string) => Promise<string>} offer resolves with the answer's SDP
 * @property {(candidate: RTCIceCandidate | null) => void} candidate
 */

/**
 * @typedef {object} ShownFrame
 * @property {number | undefined} rtpTimestamp 90 kHz, as in the packet
 * @property {number} shownAt when it is on the glass, on the clock of `performance.now()`
 * @property {number} presentedFrames how many the browser has shown so far
 */

/**
 * @typedef {object} PlayerHandlers
 * @property {(state: string) => void} onState
 * @property {(frame: ShownFrame) => void} onFrame
 * @property {() => void} [onStalled] no frame has come for two seconds
 * @property {(error: Error) => void} onError
 */

export class Player {
  #video;
  #signalling;
  #handlers;
  #state = /** @type {string} */ (PlayerState.CLOSED);
  /** @type {RTCPeerConnection | null} */
  #peer = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #stallTimer;
  /** @type {(RTCIceCandidate | null)[]} as many as the machine has interfaces */
  #candidates = [];
  #isWatching = false;

  /**
   * @param {HTMLVideoElement} video
   * @param {Signalling} signalling
   * @param {PlayerHandlers} handlers
   */
  constructor(video, signalling, handlers) {
    this.#video = video;
    this.#signalling = signalling;
    this.#handlers = handlers;
  }

  get state() {
    return this.#state;
  }

  /** Opens, or opens anew. Never rejects: what goes wrong is reported, and tried again. */
  async open() {
    this.#drop();
    this.#enter(PlayerState.NEGOTIATING);
    // No STUN: without a list Chromium asks none, and the server is where the page came from.
    const peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
    this.#peer = peer;
    try {
      await this.#negotiate(peer);
    } catch (error) {
      if (this.#peer === peer) this.#fail(/** @type {Error} */ (error));
    }
  }

  close() {
    this.#drop();
    this.#video.srcObject = null;
    if (this.#state !== PlayerState.CLOSED) this.#enter(PlayerState.CLOSED);
  }

  /**
   * What the video shows now, small, as a JPEG data URI; null before the first frame.
   *
   * @param {number} width
   * @returns {string | null}
   */
  picture(width) {
    const { videoWidth, videoHeight } = this.#video;
    if (videoWidth === 0) return null;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.round((width * videoHeight) / videoWidth);
    canvas.getContext("2d")?.drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.8);
  }

  /** @returns {Promise<RTCStatsReport | null>} */
  async statistics() {
    return this.#peer === null ? null : this.#peer.getStats();
  }

  /** @param {string} next */
  #enter(next) {
    if (!NEXT[this.#state].includes(next)) throw new Error(`player: ${this.#state} → ${next} is not a move`);
    this.#state = next;
    this.#handlers.onState(next);
  }

  /** @param {RTCPeerConnection} peer */
  async #negotiate(peer) {
    this.#listen(peer);
    preferH264(peer.addTransceiver("video", { direction: "recvonly" }));
    await peer.setLocalDescription();
    if (this.#peer !== peer) return;
    const answer = await this.#signalling.offer(/** @type {RTCSessionDescription} */ (peer.localDescription).sdp);
    if (this.#peer !== peer) return;
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    if (this.#peer !== peer) return;
    for (const candidate of this.#candidates) this.#signalling.candidate(candidate);
    this.#candidates = [];
  }

  /** @param {RTCPeerConnection} peer */
  #listen(peer) {
    peer.addEventListener("track", (event) => {
      if (this.#peer !== peer) return;
      // The receiver may hold frames back for smoothness; a live stage wants them now.
      if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = 0;
      this.#show(event.streams[0] ?? new MediaStream([event.track]));
    });
    peer.addEventListener("icecandidate", (event) => {
      if (this.#peer !== peer) return;
      // Before its answer the server has no viewer that a candidate could belong to.
      if (peer.remoteDescription === null) this.#candidates.push(event.candidate);
      else this.#signalling.candidate(event.candidate);
    });
    peer.addEventListener("connectionstatechange", () => {
      if (this.#peer === peer) this.#peerChanged(peer.connectionState);
    });
  }

  /** @param {RTCPeerConnectionState} peerState */
  #peerChanged(peerState) {
    clearTimeout(this.#timer);
    switch (peerState) {
      case "new":
      case "connecting":
        break;
      case "connected":
        if (this.#state === PlayerState.NEGOTIATING) this.#enter(PlayerState.PLAYING);
        break;
      case "disconnected":
        this.#timer = setTimeout(() => this.#fail(new Error("the video path is lost")), DISCONNECTED_MS);
        break;
      case "failed":
      case "closed":
        this.#fail(new Error("the video path failed"));
        break;
      default:
        throw new Error(`unknown connection state ${peerState}`);
    }
  }

  /** @param {MediaStream} stream */
  #show(stream) {
    this.#video.srcObject = stream;
    // Muted autoplay is allowed everywhere; a refusal all the same (power saving) leaves the browser's own play button.
    this.#video.play().catch((error) => {
      if (error.name !== "AbortError") this.#handlers.onError(error);
    });
    if (!this.#isWatching && "requestVideoFrameCallback" in this.#video) {
      this.#isWatching = true;
      this.#video.requestVideoFrameCallback((now, metadata) => this.#frame(metadata));
    }
  }

  /** @param {VideoFrameCallbackMetadata} metadata */
  #frame(metadata) {
    this.#video.requestVideoFrameCallback((now, next) => this.#frame(next));
    clearTimeout(this.#stallTimer);
    this.#stallTimer = setTimeout(() => this.#handlers.onStalled?.(), STALLED_MS);
    this.#handlers.onFrame({
      rtpTimestamp: metadata.rtpTimestamp,
      shownAt: metadata.expectedDisplayTime,
      presentedFrames: metadata.presentedFrames,
    });
  }

  /** @param {Error} error */
  #fail(error) {
    this.#drop();
    this.#enter(PlayerState.FAILED);
    this.#handlers.onError(error);
    this.#timer = setTimeout(() => void this.open(), REOPEN_MS);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#stallTimer);
    const peer = this.#peer;
    this.#peer = null;
    this.#candidates = [];
    peer?.close();
  }
}

/**
 * H264 first: the server encodes a program once, as H264. Must stand before the offer is made.
 *
 * @param {RTCRtpTransceiver} transceiver
 */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  const isH264 = (/** @type {{mimeType: string}} */ codec) => codec.mimeType.toLowerCase() === "video/h264";
  if (!codecs.some(isH264)) throw new Error("this browser cannot receive H264");
  transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
}
