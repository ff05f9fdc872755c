/**
 * Follows the engine behind the session: its state, its model and the model's capabilities. `app.js` passes them on.
 *
 * @module engine
 */

/** @typedef {import("../sdk/session.js").Session} Session */

/** @type {Readonly<Record<string, string>>} the engine's state by the code of a warning */
const TOLD = Object.freeze({
  engine_lost: "recovering",
  engine_recovered: "ready",
  engine_ready: "ready",
  engine_failed: "failed",
});

/**
 * @typedef {object} EngineHandlers
 * @property {(state: string) => void} onState
 * @property {(name: string, capabilities: import("./options.js").Capabilities) => void} onModel
 * @property {(error: Error) => void} onError
 */

export class Engine {
  #handlers;
  #isModelKnown = false;

  /** @param {EngineHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** @param {Session} session */
  follow(session) {
    session.on("session", ({ created }) => {
      if (created.model) this.#setModel(created.model.name, created.model);
      this.#setState(created.engine);
    });
    session.on("stats.updated", ({ engine }) => this.#setState(engine));
    session.on("session.warning", ({ code }) => code in TOLD && this.#setState(TOLD[code]));
  }

  /** @param {string} state */
  #setState(state) {
    this.#handlers.onState(state);
    if (state === "ready" && !this.#isModelKnown) void this.#learnModel();
  }

  /** Asks the server, because a session that began before the model was loaded got neither name nor capabilities. */
  async #learnModel() {
    this.#isModelKnown = true;
    try {
      const answer = await (await fetch("/readyz")).json();
      this.#setModel(answer.model ?? "", answer);
    } catch (error) {
      this.#handlers.onError(/** @type {Error} */ (error));
    }
  }

  /**
   * @param {string} name
   * @param {import("./options.js").Capabilities} capabilities
   */
  #setModel(name, { can_start_from_frame, loras }) {
    this.#isModelKnown = true;
    this.#handlers.onModel(name, { can_start_from_frame, loras });
  }
}
