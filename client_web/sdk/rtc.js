/**
 * The WebRTC path for the picture: one receiving RTCPeerConnection from its offer to its end. An `RtcPath` is one
 * attempt; `player.js` makes the next one.
 */

/** @import { RtcHandlers, Signalling } from "./types.js" */

import { SceneshiftError } from "./errors.js";

// If UDP is blocked, nothing answers, and Chromium would try for fifteen seconds.
const BLOCKED_MS = 3000;
// DTLS repeats a lost flight after one second, then two, then four.
const HANDSHAKE_MS = 8000;
// ICE calls a path "disconnected" after some lost checks and often finds it again by itself.
const DISCONNECTED_MS = 4000;
// Time between two readings of the received bytes. Frames come at least five times a second.
const LISTENING_MS = 1000;

export class RtcPath {
  #signalling;
  #handlers;
  #over = new AbortController();
  /** @type {any} an RTCPeerConnection */
  #peer;
  #wasConnected = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Signalling} signalling @param {RtcHandlers} handlers */
  constructor(signalling, handlers) {
    this.#signalling = signalling;
    this.#handlers = handlers;
  }

  open() {
    this.#negotiate().catch((error) => this.#lose(error));
  }

  close() {
    this.#over.abort();
    clearTimeout(this.#timer);
    this.#peer?.close();
  }

  async statistics() {
    return this.#peer?.getStats() ?? null;
  }

  /** Whether packets arrive, shown or not. Takes a second. */
  async isReceiving() {
    const before = await this.#numBytes();
    await new Promise((resolve) => setTimeout(resolve, LISTENING_MS));
    return (await this.#numBytes()) > before;
  }

  async #numBytes() {
    let sum = 0;
    for (const report of (await this.statistics())?.values() ?? []) {
      if (report.type === "inbound-rtp" && report.kind === "video") sum += report.bytesReceived;
    }
    return sum;
  }

  async #negotiate() {
    const { signal } = this.#over;
    if (!globalThis.RTCPeerConnection) throw new SceneshiftError("no_webrtc", "this browser has no WebRTC");
    // An empty list, because without a list some browsers ask a public STUN server.
    const peer = (this.#peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" }));
    /** @type {(RTCIceCandidate | null)[]} bounded by the number of network interfaces */
    const candidates = [];
    let isAnswered = false;
    peer.ontrack = ({ receiver, streams, track }) => {
      // The receiver may delay frames for smoothness; a live stage needs them at once.
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      this.#handlers.onStream(streams[0] ?? new MediaStream([track]));
    };
    peer.onicecandidate = ({ candidate }) => {
      if (isAnswered) this.#signalling.candidate(candidate);
      else candidates.push(candidate);
    };
    peer.oniceconnectionstatechange = () => {
      const isHandshake = peer.iceConnectionState === "connected" && peer.connectionState === "connecting";
      if (isHandshake) this.#loseAfter(HANDSHAKE_MS, "picture_lost", "the video path does not finish its handshake");
    };
    peer.onconnectionstatechange = () => this.#changed(peer.connectionState);
    preferH264(peer.addTransceiver("video", { direction: "recvonly" }));
    // the server sends nothing on it while there is no music
    peer.addTransceiver("audio", { direction: "recvonly" });
    const offer = await peer.createOffer();
    if (signal.aborted) return;
    // Browsers decode Opus in mono unless their own SDP asks for stereo, and no API sets it.
    offer.sdp = offer.sdp?.replace(/^a=fmtp:\d+ .*useinbandfec=1/gm, "$&;stereo=1");
    const sdp = await this.#signalling.offer(String(offer.sdp), signal);
    if (signal.aborted) return;
    // Gathering begins with the local description, so it waits for the answer's ICE servers (RFC 9725, 4.6).
    peer.setConfiguration({ ...peer.getConfiguration(), iceServers: this.#signalling.iceServers?.() ?? [] });
    await peer.setLocalDescription(offer);
    if (signal.aborted) return;
    this.#loseAfter(BLOCKED_MS, "udp_blocked", "no way for the picture was found over UDP");
    await peer.setRemoteDescription({ type: "answer", sdp });
    if (signal.aborted) return;
    isAnswered = true;
    for (const candidate of candidates) this.#signalling.candidate(candidate);
  }

  /** @param {RTCPeerConnectionState} state */
  #changed(state) {
    if (state === "connected") {
      clearTimeout(this.#timer);
      this.#wasConnected = true;
      this.#handlers.onConnected();
    } else if (state === "disconnected") {
      this.#loseAfter(DISCONNECTED_MS, "picture_lost", "the video path is lost");
    } else if (state === "failed") {
      this.#loseAfter(0, this.#wasConnected ? "picture_lost" : "udp_blocked", "the video path failed");
    }
  }

  /** @param {number} delay milliseconds @param {string} code @param {string} message */
  #loseAfter(delay, code, message) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(new SceneshiftError(code, message)), delay);
  }

  /** @param {Error} error */
  #lose(error) {
    if (this.#over.signal.aborted) return;
    this.close();
    this.#handlers.onLost(error);
  }
}

/**
 * The server encodes a program once, as H264, and as VP8 only for browsers without H264.
 *
 * @param {RTCRtpTransceiver} transceiver before the offer
 */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  const isH264 = (/** @type {{mimeType: string}} */ codec) => codec.mimeType.toLowerCase() === "video/h264";
  transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
}
