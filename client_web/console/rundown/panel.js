/**
 * The rundown on the page: its list, buttons, countdown and files. It shows a `Rundown` (`rundown.js`) and stores it in
 * this browser.
 *
 * @module rundown/panel
 */

import { byId, icon, iconButton, make } from "../../shared/dom.js";
import { orderByDragging } from "../../shared/drag.js";
import { storage, t } from "../../shared/i18n.js";
import { LONGEST_HOLD_S, Rundown, RundownError, TimerState } from "./rundown.js";

/** @typedef {import("./rundown.js").Item} Item */

const STORAGE_KEY = "sceneshift.rundown";
const PLACE_KEY = "sceneshift.rundown.place";
// A countdown in seconds that does not stutter needs half of this rate.
const TICK_MS = 250;
const MAX_FILE_BYTES = 1_000_000;

/**
 * @typedef {object} RundownHandlers
 * @property {(text: string) => boolean} onFire whether it was sent
 * @property {(item: Item | null, onSave: (change: {text: string, note: string, holdS: number | null}) => void, onRemove: () => void) => void} onEdit
 *   opens the form for an item; null: a new one
 * @property {(text: string, action?: {label: string, onAct: () => void}) => void} onNote
 * @property {(text: string) => void} onRefused
 */

export class RundownPanel {
  #elements = {
    list: byId("rundown", HTMLElement),
    clock: byId("rundown-clock", HTMLElement),
    add: byId("rundown-add", HTMLButtonElement),
    next: byId("rundown-next", HTMLButtonElement),
    timer: byId("rundown-timer", HTMLButtonElement),
    stop: byId("rundown-stop", HTMLButtonElement),
    hold: byId("rundown-hold", HTMLInputElement),
    repeat: byId("rundown-repeat", HTMLButtonElement),
    importing: byId("rundown-import", HTMLButtonElement),
    exporting: byId("rundown-export", HTMLButtonElement),
    file: byId("rundown-file", HTMLInputElement),
  };
  #handlers;
  #rundown = new Rundown();
  /** @type {ReturnType<typeof setInterval> | undefined} only while the timer runs */
  #ticking;

  /** @param {RundownHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#load();
    this.#listen();
  }

  /** @param {string} text */
  add(text) {
    this.#change(() => this.#rundown.add({ text: text.trim() }));
    this.#elements.list.lastElementChild?.scrollIntoView({ block: "nearest" });
  }

  /** @returns {boolean} whether there was a next item and it was sent */
  fireNext() {
    const { next } = this.#rundown;
    if (next !== null) return this.#fire(next);
    if (this.#rundown.items.length > 0) this.#handlers.onNote(t("rundown.at_end"));
    return false;
  }

  render() {
    const { list, hold, repeat } = this.#elements;
    const rows = this.#rundown.items.map((item, index) => this.#row(item, index));
    if (rows.length === 0) rows.push(make("li", "list-empty", [t("rundown.empty")]));
    list.replaceChildren(...rows);
    hold.value = String(this.#rundown.holdS);
    repeat.ariaPressed = String(this.#rundown.isRepeated);
    this.#renderTimer();
  }

  #listen() {
    const { list, add, next, timer, stop, hold, repeat, importing, exporting, file } = this.#elements;
    add.addEventListener("click", () =>
      this.#handlers.onEdit(
        null,
        (item) => this.#change(() => this.#rundown.add(item)),
        () => {},
      ),
    );
    next.addEventListener("click", () => this.fireNext());
    timer.addEventListener("click", () => this.#toggleTimer());
    stop.addEventListener("click", () => this.#setTimer(() => this.#rundown.stop()));
    hold.addEventListener("change", () => {
      const holdS = Math.round(Number(hold.value));
      this.#change(() => (this.#rundown.holdS = Math.min(LONGEST_HOLD_S, Math.max(1, holdS || 1))));
    });
    repeat.addEventListener("click", () => this.#change(() => (this.#rundown.isRepeated = !this.#rundown.isRepeated)));
    importing.addEventListener("click", () => file.click());
    file.addEventListener("change", () => void this.#import());
    exporting.addEventListener("click", () => this.#export());
    list.addEventListener("keydown", (event) => this.#pressed(event));
    orderByDragging(list, (from, to) => this.#change(() => this.#rundown.move(from, to)));
  }

  // --- the list ---------------------------------------------------------------------------------------------------

  /**
   * @param {Item} item
   * @param {number} index
   */
  #row(item, index) {
    const number = make("span", "rundown-number", [String(index + 1)]);
    const body = make("span", "rundown-body", [make("span", "rundown-text", [item.text])]);
    if (item.note !== "") body.append(make("span", "rundown-note", [item.note]));
    const hold = make("span", "rundown-hold", [`${this.#rundown.holdOf(item)} s`]);
    const fire = make("button", "rundown-fire", [number, body, hold]);
    fire.type = "button";
    fire.title = t("rundown.fire", { text: item.text });
    fire.addEventListener("click", () => this.#fire(item));
    const up = iconButton("small-button", icon("up"), t("rundown.up", { text: item.text }), () =>
      this.#move(index, -1),
    );
    const down = iconButton("small-button", icon("down"), t("rundown.down", { text: item.text }), () =>
      this.#move(index, 1),
    );
    up.disabled = index === 0;
    down.disabled = index === this.#rundown.items.length - 1;
    const edit = iconButton("small-button", icon("edit"), t("rundown.edit", { text: item.text }), () =>
      this.#edit(item),
    );
    const row = make("li", "rundown-row", [fire, make("span", "row-buttons", [up, down, edit])]);
    row.draggable = true;
    row.dataset.itemId = item.id;
    row.dataset.state =
      item.id === this.#rundown.currentId ? "current" : item.id === this.#rundown.next?.id ? "next" : "";
    if (row.dataset.state === "current") fire.setAttribute("aria-current", "true");
    return row;
  }

  /**
   * Keys on a row: Alt with an arrow moves it, Delete removes it.
   *
   * @param {KeyboardEvent} event
   */
  #pressed(event) {
    const row = event.target instanceof Element ? event.target.closest(".rundown-row") : null;
    if (row === null) return;
    const index = Array.from(this.#elements.list.children).indexOf(row);
    if (event.altKey && event.key === "ArrowUp") this.#move(index, -1);
    else if (event.altKey && event.key === "ArrowDown") this.#move(index, 1);
    else if (event.key === "Delete") this.#remove(this.#rundown.items[index]);
    else return;
    event.preventDefault();
  }

  /**
   * @param {number} index
   * @param {number} by
   */
  #move(index, by) {
    this.#change(() => this.#rundown.move(index, index + by));
    const row = this.#elements.list.children[index + by];
    row?.querySelector("button")?.focus();
    row?.scrollIntoView({ block: "nearest" });
  }

  /** @param {Item} item */
  #edit(item) {
    this.#handlers.onEdit(
      item,
      (change) => this.#change(() => this.#rundown.edit(item.id, change)),
      () => this.#remove(item),
    );
  }

  /** @param {Item} item */
  #remove(item) {
    const before = this.#rundown.toJson();
    const place = this.#rundown.indexOf(this.#rundown.currentId);
    this.#change(() => this.#rundown.remove(item.id));
    this.#offerUndo(t("rundown.removed", { text: item.text }), before, place === -1 ? null : place);
    this.#elements.list.focus();
  }

  // --- firing and the timer -----------------------------------------------------------------------------------------

  /** @param {Item} item */
  #fire(item) {
    if (!this.#handlers.onFire(item.text)) {
      // An item that could not be sent is not skipped: it stays the next one.
      this.#setTimer(() => this.#rundown.pause(performance.now()));
      return false;
    }
    this.#change(() => this.#rundown.fired(item, performance.now()));
    this.#elements.list.children[this.#rundown.indexOf(item.id)]?.scrollIntoView({ block: "nearest" });
    return true;
  }

  #toggleTimer() {
    const now = performance.now();
    switch (this.#rundown.timer) {
      case TimerState.RUNNING:
        this.#setTimer(() => this.#rundown.pause(now));
        break;
      case TimerState.PAUSED:
        this.#setTimer(() => this.#rundown.resume(now));
        break;
      case TimerState.STOPPED:
        // After the end it starts over. At the beginning the first item fires at once.
        if (this.#rundown.next === null) this.#rundown.currentId = null;
        if (this.#rundown.items.length > 0) this.#setTimer(() => this.#rundown.start(now));
        else this.#handlers.onNote(t("rundown.empty"));
        break;
      default:
        throw new Error(`unknown state of the timer ${this.#rundown.timer}`);
    }
  }

  /** @param {() => void} act */
  #setTimer(act) {
    act();
    clearInterval(this.#ticking);
    if (this.#rundown.timer === TimerState.RUNNING) {
      this.#ticking = setInterval(() => this.#tick(), TICK_MS);
      this.#tick();
    }
    this.#renderTimer();
  }

  #tick() {
    if (!this.#rundown.isDue(performance.now())) {
      this.#renderTimer();
      return;
    }
    if (this.#rundown.next !== null) this.#fire(this.#rundown.next);
    else {
      this.#setTimer(() => this.#rundown.stop());
      this.#handlers.onNote(t("rundown.at_end"));
    }
  }

  #renderTimer() {
    const { clock, timer, stop, next } = this.#elements;
    const state = this.#rundown.timer;
    const leftS = Math.ceil(this.#rundown.leftMs(performance.now()) / 1000);
    const key =
      state === TimerState.STOPPED ? "" : this.#rundown.next === null ? "rundown.ends_in" : `rundown.next_in.${state}`;
    const text = key === "" ? "" : t(key, { left: clockText(leftS) });
    if (clock.textContent !== text) clock.textContent = text;
    clock.dataset.state = state;
    const label = t(`rundown.timer.${{ stopped: "start", running: "pause", paused: "resume" }[state]}`);
    if (timer.textContent !== label) timer.textContent = label;
    stop.hidden = state === TimerState.STOPPED;
    next.disabled = this.#rundown.items.length === 0;
  }

  // --- files and this browser's memory --------------------------------------------------------------------------------

  async #import() {
    const [file] = this.#elements.file.files ?? [];
    if (file === undefined) return;
    const before = this.#rundown.toJson();
    try {
      if (file.size > MAX_FILE_BYTES) throw new RundownError("out_of_range", file.name);
      const text = await file.text();
      this.#change(() => this.#rundown.fromJson(text));
      this.#setTimer(() => this.#rundown.stop());
      this.#offerUndo(t("rundown.imported", { count: this.#rundown.items.length }), before, null);
    } catch (error) {
      if (!(error instanceof RundownError)) throw error;
      this.#handlers.onRefused(t(`rundown.error.${error.code}`, { at: error.at }));
    } finally {
      // So that the user can choose the same file again after correcting it.
      this.#elements.file.value = "";
    }
  }

  #export() {
    const link = make("a", "");
    const url = URL.createObjectURL(new Blob([this.#rundown.toJson()], { type: "application/json" }));
    link.href = url;
    link.download = "rundown.json";
    link.click();
    URL.revokeObjectURL(url);
  }

  /**
   * @param {string} text
   * @param {string} before
   * @param {number | null} place
   */
  #offerUndo(text, before, place) {
    const undo = () =>
      this.#change(() => {
        const { timer } = this.#rundown;
        this.#rundown.fromJson(before);
        this.#rundown.currentId = place === null ? null : (this.#rundown.items[place]?.id ?? null);
        if (timer !== TimerState.STOPPED) this.#setTimer(() => this.#rundown.stop());
      });
    this.#handlers.onNote(text, { label: t("rundown.undo"), onAct: undo });
  }

  /** @param {() => void} act */
  #change(act) {
    try {
      act();
    } catch (error) {
      if (!(error instanceof RundownError)) throw error;
      this.#handlers.onRefused(t(`rundown.error.${error.code}`, { at: error.at }));
    }
    storage()?.setItem(STORAGE_KEY, this.#rundown.toJson());
    storage()?.setItem(PLACE_KEY, String(this.#rundown.indexOf(this.#rundown.currentId)));
    this.render();
  }

  #load() {
    const kept = storage()?.getItem(STORAGE_KEY);
    if (!kept) return;
    try {
      this.#rundown.fromJson(kept);
      this.#rundown.currentId = this.#rundown.items[Number(storage()?.getItem(PLACE_KEY) ?? -1)]?.id ?? null;
    } catch (error) {
      // Stored by another version: it stays as it is until the user changes something here.
      if (!(error instanceof RundownError)) throw error;
    }
  }
}

/** @param {number} seconds */
function clockText(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
