/**
 * One way for the picture: an RTCPeerConnection that receives, from its offer to its end. It does not come back:
 * `player.js` makes another one. Signalling is given to it.
 *
 * @module rtc
 */

import { SceneshiftError } from "./errors.js";

// Where UDP is blocked nothing answers, and Chromium would try for fifteen seconds.
const BLOCKED_MS = 3000;
// ICE calls a path "disconnected" after some lost checks and often finds it again by itself.
const DISCONNECTED_MS = 4000;
// DTLS repeats a lost flight after one second, then two, then four.
const HANDSHAKE_MS = 8000;
// Between two looks at the number of received bytes; frames come at least five times a second.
const LISTENING_MS = 1000;

/**
 * @typedef {object} Signalling
 * @property {(sdp: string, signal: AbortSignal) => Promise<string>} offer resolves with the answer's SDP; once `signal`
 *   is aborted, this peer is no longer wanted
 * @property {(candidate: RTCIceCandidate | null) => void} candidate
 * @property {() => RTCIceServer[]} [iceServers] asked for when the answer is there
 */

/**
 * @typedef {object} PathHandlers
 * @property {(stream: MediaStream) => void} onStream
 * @property {() => void} onConnected
 * @property {(error: Error) => void} onLost once, and nothing comes after it
 */

export class RtcPath {
  #signalling;
  #handlers;
  /** @type {RTCPeerConnection | null} */
  #peer = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #over = new AbortController();
  /** @type {(RTCIceCandidate | null)[]} as many as the machine has interfaces */
  #candidates = [];

  /**
   * @param {Signalling} signalling
   * @param {PathHandlers} handlers
   */
  constructor(signalling, handlers) {
    this.#signalling = signalling;
    this.#handlers = handlers;
  }

  open() {
    this.#negotiate().catch((error) => this.#lose(error));
  }

  close() {
    clearTimeout(this.#timer);
    const peer = this.#peer;
    this.#peer = null;
    peer?.close();
    this.#over.abort();
  }

  /** @returns {Promise<RTCStatsReport | null>} */
  async statistics() {
    return this.#peer === null ? null : this.#peer.getStats();
  }

  /** @returns {Promise<boolean>} whether packets come at all, shown or not */
  async isReceiving() {
    const before = await this.#numBytes();
    await new Promise((resolve) => setTimeout(resolve, LISTENING_MS));
    return (await this.#numBytes()) > before;
  }

  async #numBytes() {
    let sum = 0;
    for (const report of (await this.statistics())?.values() ?? []) {
      if (report.type === "inbound-rtp") sum += report.bytesReceived;
    }
    return sum;
  }

  async #negotiate() {
    if (!("RTCPeerConnection" in globalThis)) throw new SceneshiftError("no_webrtc", "this browser has no WebRTC");
    // An empty list, not none: without one some browsers ask a public STUN server.
    const peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
    this.#peer = peer;
    this.#listen(peer);
    preferH264(peer.addTransceiver("video", { direction: "recvonly" }));
    const offer = await peer.createOffer();
    if (this.#peer !== peer) return;
    const sdp = await this.#signalling.offer(/** @type {string} */ (offer.sdp), this.#over.signal);
    if (this.#peer !== peer) return;
    // Gathering begins with the local description: only now the servers to gather from are known (RFC 9725, 4.6).
    const iceServers = this.#signalling.iceServers?.() ?? [];
    if (iceServers.length > 0) peer.setConfiguration({ ...peer.getConfiguration(), iceServers });
    await peer.setLocalDescription(offer);
    if (this.#peer !== peer) return;
    await peer.setRemoteDescription({ type: "answer", sdp });
    if (this.#peer !== peer) return;
    for (const candidate of this.#candidates) this.#signalling.candidate(candidate);
    this.#candidates = [];
    if (peer.connectionState === "connected") return;
    this.#loseAfter(BLOCKED_MS, new SceneshiftError("udp_blocked", "no way for the picture was found over UDP"));
  }

  /** @param {RTCPeerConnection} peer */
  #listen(peer) {
    /** @param {string} type @param {(event: any) => void} act */
    const on = (type, act) => peer.addEventListener(type, (event) => this.#peer === peer && act(event));
    on("track", (/** @type {RTCTrackEvent} */ event) => {
      // The receiver may hold frames back for smoothness; a live stage wants them now.
      if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = 0;
      this.#handlers.onStream(event.streams[0] ?? new MediaStream([event.track]));
    });
    on("icecandidate", (/** @type {RTCPeerConnectionIceEvent} */ event) => {
      if (peer.remoteDescription === null) this.#candidates.push(event.candidate);
      else this.#signalling.candidate(event.candidate);
    });
    on("iceconnectionstatechange", () => {
      if (peer.iceConnectionState === "connected" && peer.connectionState === "connecting") {
        this.#loseAfter(HANDSHAKE_MS, new SceneshiftError("picture_lost", "the video path does not finish its handshake"));
      }
    });
    on("connectionstatechange", () => this.#changed(peer.connectionState));
  }

  /** @param {RTCPeerConnectionState} state */
  #changed(state) {
    switch (state) {
      case "new":
      case "connecting":
        break;
      case "connected":
        clearTimeout(this.#timer);
        this.#handlers.onConnected();
        break;
      case "disconnected":
        this.#loseAfter(DISCONNECTED_MS, new SceneshiftError("picture_lost", "the video path is lost"));
        break;
      case "failed":
      case "closed":
        this.#lose(new SceneshiftError("picture_lost", "the video path failed"));
        break;
      default:
        throw new Error(`unknown connection state ${state}`);
    }
  }

  /**
   * @param {number} delay
   * @param {Error} error
   */
  #loseAfter(delay, error) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(error), delay);
  }

  /** @param {Error} error */
  #lose(error) {
    if (this.#over.signal.aborted) return;
    this.close();
    this.#handlers.onLost(error);
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
  if (!codecs.some(isH264)) throw new SceneshiftError("no_webrtc", "this browser cannot receive H264");
  transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
}
