/**
 * One way for the picture: a receiving RTCPeerConnection, from its offer to its end; `player.js` makes the next one.
 */

/** @import { RtcHandlers, Signalling } from "./types.js" */

import { SceneshiftError } from "./errors.js";

// Where UDP is blocked nothing answers, and Chromium would try for fifteen seconds.
const BLOCKED_MS = 3000;
// DTLS repeats a lost flight after one second, then two, then four.
const HANDSHAKE_MS = 8000;
// ICE calls a path "disconnected" after some lost checks and often finds it again by itself.
const DISCONNECTED_MS = 4000;
// Between two looks at the number of received bytes; frames come at least five times a second.
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

  /** Whether packets come at all, shown or not. */
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
    // An empty list, not none: without one some browsers ask a public STUN server.
    const peer = (this.#peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" }));
    /** @type {(RTCIceCandidate | null)[]} as many as the machine has interfaces */
    const candidates = [];
    let isAnswered = false;
    peer.ontrack = ({ receiver, streams, track }) => {
      // The receiver may hold frames back for smoothness; a live stage wants them now.
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
    // nothing is sent in it while there is no music
    peer.addTransceiver("audio", { direction: "recvonly" });
    const offer = await peer.createOffer();
    if (signal.aborted) return;
    // Browsers decode Opus in mono unless their own description says otherwise, and have no other way to say it.
    offer.sdp = offer.sdp?.replace(/^a=fmtp:\d+ .*useinbandfec=1/gm, "$&;stereo=1");
    const sdp = await this.#signalling.offer(String(offer.sdp), signal);
    if (signal.aborted) return;
    // Gathering begins with the local description: only now it is known from which servers (RFC 9725, 4.6).
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

/** A program is encoded once, as H264; VP8 for who has none. @param {RTCRtpTransceiver} transceiver before the offer */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  const isH264 = (/** @type {{mimeType: string}} */ codec) => codec.mimeType.toLowerCase() === "video/h264";
  transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
}
