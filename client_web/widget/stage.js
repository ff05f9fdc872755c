/**
 * The widget's own stage: its connection, its newest prompt, and the signalling for its picture. The prompt outlives
 * the stage: the next stage (after a pause or a server restart) begins with it.
 *
 * @module widget/stage
 */

import { Connection, ConnectionState } from "../sdk/connection.js";
import { RequestError } from "../sdk/errors.js";
import { ClientType, ServerType, newId } from "../sdk/messages.js";

/** @typedef {import("../sdk/messages.js").ServerMessage} ServerMessage */
/** @typedef {import("../sdk/messages.js").SessionOptions} SessionOptions */

/**
 * @typedef {object} StageHandlers
 * @property {(state: string) => void} onState of the connection
 * @property {() => void} onNewStage the picture must be requested again
 * @property {(position: number, waitMs: number | null) => void} onQueued
 * @property {(making: {step: number, numSteps: number} | null) => void} onMaking
 * @property {(scene: {prompt: string, promptId: string}) => void} onScene a prompt's finished clip is on air
 * @property {(onAir: string) => void} onAir
 * @property {(error: {code: string, message: string}, isOver: boolean) => void} onTrouble `isOver`: no retry follows
 */

export class Stage {
  #handlers;
  #connection;
  #text = "";
  #promptId = "";
  #address;
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  /** @type {(() => void)[]} offers that wait for the stage; an aborted one ends when the stage is there */
  #waiting = [];

  /**
   * @param {import("../sdk/address.js").Address} address
   * @param {SessionOptions} options
   * @param {StageHandlers} handlers
   */
  constructor(address, options, handlers) {
    this.#address = address;
    this.#handlers = handlers;
    this.#connection = new Connection(
      () => address.openSocket("/v1/realtime"),
      () => options,
      {
        onState: (state) => this.#connectionChanged(state),
        onSession: (isResumed, created) => this.#sessionBegan(isResumed, created),
        onMessage: (message) => this.#receive(message),
        onError: (error) => this.#failed(error),
        onQueued: handlers.onQueued,
      },
    );
  }

  /** @returns {WebSocket | null} for the picture; null without a stage */
  openWatch() {
    const { session } = this.#connection;
    return session === null ? null : this.#address.openSocket(`/v1/sessions/${session.sessionId}/watch`);
  }

  open() {
    const { state } = this.#connection;
    if (state === ConnectionState.CLOSED) this.#connection.open();
    else this.#connection.retry();
  }

  /** Ends the stage. The next one begins with the same prompt. */
  close() {
    this.#connection.close();
  }

  /** @param {string} text sent now, or once the stage is live; the newest wins */
  prompt(text) {
    this.#text = text;
    if (this.#connection.isLive) this.#sendPrompt();
  }

  // --- signalling of the picture ---------------------------------------------------------------------------------

  /**
   * @param {string} sdp
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  async offer(sdp, signal) {
    if (!this.#connection.isLive) await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    if (signal.aborted) throw new Error("the picture is no longer wanted");
    return (await this.#connection.request({ type: ClientType.WEBRTC_OFFER, sdp })).sdp;
  }

  /** @param {RTCIceCandidate | null} candidate */
  candidate(candidate) {
    this.#connection.send({
      type: ClientType.WEBRTC_CANDIDATE,
      candidate: candidate?.candidate ?? "",
      sdp_mid: candidate?.sdpMid ?? null,
      sdp_mline_index: candidate?.sdpMLineIndex ?? null,
    });
  }

  iceServers() {
    return this.#iceServers;
  }

  // --- the connection --------------------------------------------------------------------------------------------

  /** @param {string} state */
  #connectionChanged(state) {
    if (state !== ConnectionState.LIVE) this.#handlers.onMaking(null);
    this.#handlers.onState(state);
  }

  /**
   * @param {boolean} isResumed
   * @param {ServerMessage} created
   */
  #sessionBegan(isResumed, created) {
    this.#iceServers = created.ice_servers ?? [];
    if (!isResumed) {
      this.#handlers.onAir("idle");
      if (this.#text !== "") this.#sendPrompt();
      // A waiting offer gets this stage. Without one, the picture is of an old stage and must be requested again.
      if (this.#waiting.length === 0) this.#handlers.onNewStage();
    }
    for (const go of this.#waiting.splice(0)) go();
  }

  #sendPrompt() {
    this.#promptId = newId("p-");
    // A visitor's prompt: on a busy server those of operators come first.
    this.#connection.send({ type: ClientType.PROMPT_SET, prompt_id: this.#promptId, text: this.#text, audience: true });
    this.#handlers.onMaking({ step: 0, numSteps: 0 });
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    if (message.type === ServerType.PROGRAM_CHANGED) this.#handlers.onAir(message.on_air);
    if (message.type === ServerType.ERROR) this.#handlers.onTrouble(message.error, true);
    if (message.prompt_id !== this.#promptId) return; // a newer prompt has replaced it
    switch (message.type) {
      case ServerType.PROMPT_STARTED:
        this.#handlers.onMaking({ step: 0, numSteps: message.num_steps });
        break;
      case ServerType.PROMPT_PREVIEW:
        this.#handlers.onMaking({ step: message.step_index + 1, numSteps: message.num_steps });
        break;
      case ServerType.PROMPT_APPLIED:
        this.#handlers.onMaking(null);
        this.#handlers.onScene({ prompt: this.#text, promptId: this.#promptId });
        break;
      case ServerType.PROMPT_FAILED:
      case ServerType.PROMPT_REJECTED:
        this.#handlers.onMaking(null);
        this.#handlers.onTrouble(message.error, true);
        break;
      default: // visitors do not need the other events
    }
  }

  /** @param {Error} error the connection tries again, unless the server refused and the error is not retryable */
  #failed(error) {
    if (error instanceof RequestError) this.#handlers.onTrouble(error.detail, !error.detail.retryable);
    else this.#handlers.onTrouble({ code: "client", message: error.message }, false);
  }
}
