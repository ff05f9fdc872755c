/**
 * The console: puts its parts together and wires them to the session. All errors end in `#fail`.
 *
 * @module app
 */

import { RequestError } from "../sdk/errors.js";
import { newId } from "../sdk/messages.js";
import { Session } from "../sdk/session.js";
import { byId } from "../shared/dom.js";
import { chooseLanguage, hasText, t, toggleLanguage } from "../shared/i18n.js";
import { pageAddress } from "../shared/token.js";
import { announce } from "./announcer.js";
import { Engine } from "./engine.js";
import { Favourites } from "./favourites.js";
import { keepOverReloads, keptSession } from "./kept_session.js";
import { listenToKeys } from "./keyboard.js";
import { Monitor } from "./monitor.js";
import { Options } from "./options.js";
import { Field } from "./prompts/field.js";
import { watchForPictures } from "./prompts/final_picture.js";
import { History } from "./prompts/history.js";
import { Plot } from "./prompts/plot.js";
import { PromptLog } from "./prompts/prompts.js";
import { Strip } from "./prompts/strip.js";
import { Times } from "./prompts/times.js";
import { Pushes } from "./pushes.js";
import { Recording } from "./recording.js";
import { Refusals } from "./refusals.js";
import { RundownPanel } from "./rundown/panel.js";
import { openHelp, openItem } from "./sheets.js";
import { StageName } from "./stage_name.js";
import { Status } from "./status.js";
import { Toasts } from "./toasts.js";
import { Transport } from "./transport.js";

/** @import { OnAir, ResumableSession, ServerMessage, SessionOptions, SessionState } from "../sdk/types.js" */
/** @typedef {import("./prompts/prompts.js").Prompt} Prompt */

class App {
  #retryButton = byId("retry", HTMLButtonElement);
  #sheet = byId("sheet", HTMLDialogElement);
  #address = pageAddress();
  #stageName = new StageName();
  #toasts = new Toasts();
  #status = new Status(this.#address);
  #strip = new Strip();
  #times = new Times();
  #plot = new Plot();
  #prompts = new PromptLog((prompt) => this.#promptChanged(prompt));
  #options = new Options(byId("options", HTMLElement), byId("mix", HTMLElement), (change) => this.#update(change));
  #refusals = new Refusals(this.#address, this.#stageName, this.#options, this.#toasts);
  #monitor = new Monitor((error) => this.#fail(error));
  #transport = new Transport({ onTake: () => this.#take(), onBlank: () => this.#toggleBlank() });
  #engine = new Engine({
    onState: (state) => {
      this.#status.setEngine(state);
      this.#monitor.setEngine(state);
    },
    onModel: (name, capabilities) => {
      this.#status.setModel(name);
      this.#options.setCapabilities(capabilities);
    },
    onError: (error) => this.#fail(error),
  });
  #history = new History(byId("history", HTMLElement), {
    onAgain: (text) => this.#send(text),
    onStar: (text) => this.#favourites.toggle(text),
    onPlan: (text) => this.#plan(text),
    onLock: (seed) => this.#options.lockSeed(seed),
    isFavourite: (text) => this.#favourites.has(text),
  });
  #favourites = new Favourites(
    (text) => this.#send(text),
    () => {
      this.#field.renderStar();
      this.#renderHistory();
    },
  );
  #field = new Field({
    onSend: (text) => this.#send(text),
    onPlan: (text) => this.#plan(text),
    onStar: (text) => this.#favourites.toggle(text),
    isFavourite: (text) => this.#favourites.has(text),
    onEmpty: () => this.#note(t("error.prompt_empty")),
  });
  #rundown = new RundownPanel({
    onFire: (text) => this.#send(text),
    onEdit: (item, onSave, onRemove) => openItem(this.#sheet, item, onSave, onRemove),
    onNote: (text, action) => this.#toasts.show(text, "note", action),
    onRefused: (text) => this.#toasts.show(text, "error"),
  });
  #recording = new Recording(this.#address, (error) => this.#fail(error));
  #pushes = new Pushes(this.#sheet, {
    onError: (error) => this.#fail(error),
    onFailed: (text) => this.#toasts.show(text, "error"),
  });
  /** @type {{onAir: OnAir, promptId: string | null}} */
  #program = { onAir: "idle", promptId: null };
  /** @type {string | null} the prompt in the "next" monitor */
  #inFocus = null;
  /** Whether the next session is new because the user gave the stage another name. */
  #isRenamed = false;
  /** @type {string | undefined} the prompt without an end of the session that was closed for it */
  #unfinished;
  #lastUpdateId = "";
  #session = this.#newSession(keptSession());

  async open() {
    this.#listen();
    await chooseLanguage();
    this.#renderAll();
    document.body.dataset.rendered = "true";
    this.#session.open();
  }

  #listen() {
    this.#retryButton.addEventListener("click", () => this.#session.retry());
    byId("language", HTMLButtonElement).addEventListener("click", async () => {
      await toggleLanguage();
      this.#renderAll();
    });
    byId("help", HTMLButtonElement).addEventListener("click", () => openHelp(this.#sheet));
    byId("share", HTMLButtonElement).addEventListener(
      "click",
      () => void this.#share().catch((error) => this.#fail(error)),
    );
    keepOverReloads(() => this.#session.resumable);
    listenToKeys({
      onBlank: () => this.#ask(this.#session.blank()),
      onTake: () => this.#take(),
      onFavourite: (index) => this.#favourites.choose(index),
      onNext: () => void this.#rundown.fireNext(),
      onWrite: () => this.#field.focus(),
      onHelp: () => openHelp(this.#sheet),
    });
  }

  /** @param {ResumableSession | null} resume */
  #newSession(resume) {
    const session = new Session({
      address: this.#address,
      options: () => ({ ...this.#options.values, ...this.#stageName.option }),
      resume,
      on: {
        state: (state) => this.#stateChanged(state),
        session: ({ isResumed, created }) => this.#sessionBegan(isResumed, created),
        error: (error) => this.#fail(error),
        clip: (handle) => this.#clipCame(handle),
        message: (message) => this.#prompts.receive(message),
        "program.changed": ({ on_air: onAir, prompt_id: promptId }) => this.#programChanged(onAir, promptId ?? null),
        "session.updated": (message) => this.#updated(message),
        "session.warning": (message) => this.#warned(message),
        "stats.updated": (stats) => this.#plot.setStats(stats, performance.now()),
      },
    });
    const viewer = session.attach(byId("program", HTMLVideoElement));
    viewer.on("error", (error) => {
      console.warn("video:", error.message);
      // Without a connection the chip already says so, and a new offer could not be sent.
      if (session.state === "live") this.#toasts.show(t("error.video"), "error");
    });
    const parts = [this.#status, this.#monitor, this.#engine, this.#recording, this.#pushes, this.#refusals];
    for (const part of parts) part.follow(session);
    watchForPictures(session, (promptId, picture) => this.#prompts.seenOnGlass(promptId, picture));
    return session;
  }

  // --- requests of the user -------------------------------------------------------------------------------------

  /** @param {string} text @returns {boolean} whether it was sent */
  #send(text) {
    if (this.#session.state !== "live") {
      this.#toasts.show(t("prompt.not_connected"), "error");
      return false;
    }
    const handle = this.#session.prompt(text);
    this.#inFocus = handle.promptId;
    this.#field.remember(text);
    this.#prompts.follow(handle, String(this.#options.values.quality));
    void handle.ended.then((end) => end === "rejected" && handle.error && this.#refusals.tell(handle.error));
    return true;
  }

  /** @param {string} text */
  #plan(text) {
    this.#rundown.add(text);
    this.#note(t("prompt.planned"));
  }

  /** @returns {boolean} whether a clip waited for a take */
  #take() {
    if (this.#prompts.waitingForTake === null) return false;
    this.#ask(this.#session.take(this.#options.takeNow));
    return true;
  }

  #toggleBlank() {
    this.#ask(this.#program.onAir === "blank" ? this.#session.resume() : this.#session.blank());
  }

  /** @param {SessionOptions} change */
  #update(change) {
    this.#lastUpdateId = newId("e-");
    this.#ask(this.#session.update({ ...change, event_id: this.#lastUpdateId }));
  }

  /** @param {Promise<unknown>} answer a missing connection is only logged, because the chip already shows it */
  #ask(answer) {
    answer.catch((error) => (error instanceof RequestError ? this.#fail(error) : console.warn(error.message)));
  }

  async #share() {
    const { id } = this.#session;
    if (id === null) {
      this.#note(t("share.none"));
      return;
    }
    const { openShare, secretsFor } = await import("./share.js");
    const prompt = this.#prompts.newestFirst[0]?.text ?? this.#favourites.texts[0] ?? "beach at sunset";
    const name = this.#stageName.shared;
    const stage = { origin: location.origin, sessionId: id, prompt, name, ...(await secretsFor(this.#address, id)) };
    openShare(this.#sheet, stage, {
      onRename: (wanted) => void this.#rename(wanted),
      onNote: (text) => this.#note(text),
    });
  }

  /** @param {string} name of the stage from now on; this begins another session */
  async #rename(name) {
    this.#stageName.rename(name);
    this.#isRenamed = true;
    this.#unfinished = this.#prompts.inTheMaking?.text;
    // Hold the picture while there still is one.
    this.#monitor.setVideo(false);
    await this.#session.close();
    this.#session = this.#newSession(null);
    this.#session.open();
    this.#note(t("share.renamed", { name }));
  }

  // --- messages of the server -----------------------------------------------------------------------------------

  /** @param {import("../sdk/handle.js").PromptHandle} handle of a clip that somebody has put on this stage */
  #clipCame(handle) {
    this.#inFocus = handle.promptId;
    this.#prompts.follow(handle, String(this.#options.values.quality));
  }

  /** @param {SessionState} state */
  #stateChanged(state) {
    this.#retryButton.hidden = state !== "refused" && state !== "reconnecting";
    this.#renderTransport();
  }

  /** @param {boolean} isResumed @param {ServerMessage} created */
  #sessionBegan(isResumed, created) {
    this.#options.confirm(created.options);
    this.#options.setMusics(created.music ?? []);
    this.#monitor.setSound((created.music ?? []).length > 0);
    if (created.model) this.#strip.expect(created.model.num_steps[created.options.quality]);
    if (isResumed) return;
    const { onAir, promptId } = this.#program;
    const text = this.#unfinished ?? (onAir === "clip" ? this.#prompts.get(promptId)?.text : undefined);
    this.#programChanged("idle", null);
    // The session repeats an unfinished prompt itself, but it does not know what was on air.
    if (text !== undefined && this.#prompts.inTheMaking === null && this.#send(text)) {
      this.#note(t(this.#isRenamed ? "warning.restored_renamed" : "warning.restored", { text }));
    }
    this.#isRenamed = false;
    this.#unfinished = undefined;
  }

  /** @param {ServerMessage} message */
  #updated(message) {
    // The answer to an older change must not undo a newer one that is still unanswered.
    if (message.event_id && message.event_id !== this.#lastUpdateId) return;
    this.#options.confirm(message.options);
    this.#renderTransport();
  }

  /** @param {ServerMessage} message */
  #warned(message) {
    const { code } = message;
    if (code === "viewer_lost") return; // the session asks for the picture again
    const key = `warning.${code}`;
    const values = { percent: Math.round(100 * (message.core_share ?? 0)) };
    this.#note(hasText(key) ? t(key, values) : message.message);
  }

  /** @param {OnAir} onAir @param {string | null} promptId */
  #programChanged(onAir, promptId) {
    this.#program = { onAir, promptId };
    this.#renderProgram();
    this.#renderTransport();
    this.#renderHistory();
  }

  /** @param {Prompt} prompt */
  #promptChanged(prompt) {
    // Show the newest prompt without an end; if all have ended, the one in focus stays.
    const shown = this.#prompts.inTheMaking ?? (this.#inFocus === null ? prompt : this.#prompts.get(this.#inFocus));
    this.#inFocus = shown?.promptId ?? null;
    const { newestFirst } = this.#prompts;
    this.#strip.show(shown);
    this.#times.show(newestFirst.find(({ atServerMs }) => atServerMs.preview ?? atServerMs.picture) ?? null);
    this.#plot.show(newestFirst);
    this.#options.showSeed(newestFirst[0]?.seed ?? null);
    this.#renderHistory();
    this.#renderTransport();
    announce(prompt);
  }

  // --- rendering ------------------------------------------------------------------------------------------------

  #renderAll() {
    const parts = [this.#favourites, this.#rundown, this.#options, this.#strip, this.#times, this.#status, this.#plot];
    for (const part of [...parts, this.#recording, this.#pushes]) part.render();
    this.#field.renderStar();
    this.#renderProgram();
    this.#renderTransport();
    this.#renderHistory();
  }

  #renderProgram() {
    const { onAir, promptId } = this.#program;
    this.#monitor.show(onAir, this.#prompts.get(promptId)?.text ?? "");
  }

  #renderTransport() {
    this.#transport.show({
      isLive: this.#session.state === "live",
      isBlank: this.#program.onAir === "blank",
      isWaiting: this.#prompts.waitingForTake !== null,
      isByHand: this.#options.values.take === "manual",
    });
  }

  #renderHistory() {
    this.#history.show(this.#prompts.newestFirst, this.#program.onAir === "clip" ? this.#program.promptId : null);
  }

  // --- errors ---------------------------------------------------------------------------------------------------

  /** @param {string} text */
  #note(text) {
    this.#toasts.show(text, "note");
  }

  /** @param {Error} error the one place where all errors end */
  #fail(error) {
    if (error instanceof RequestError) return this.#refusals.tell(error.detail);
    console.warn(error);
    this.#toasts.show(t("toast.technical", { message: error.message }), "error");
  }
}

void new App().open();
