/**
 * The operator's page: what is on air on this server, who holds a key, and who did what.
 *
 * @module operator/app
 */

import { ApiError } from "../shared/ask.js";
import { byId, make, textButton } from "../shared/dom.js";
import { chooseLanguage, t, toggleLanguage } from "../shared/i18n.js";
import { listenForToken, pageAddress } from "../shared/token.js";
import { Api } from "./api.js";
import { auditTable, keysTable, StageCards } from "./tables.js";

const REFRESH_MS = 2000;
// The server looks through the recordings for it.
const REFRESHES_PER_USAGE = 10;
const VIEW_ONLY = ["view"];

class OperatorPage {
  #address = pageAddress();
  #api = new Api(this.#address);
  #stages = new StageCards(byId("stages", HTMLElement), (id) => this.#api.picture(id));
  #problem = byId("problem", HTMLElement);
  #state = byId("state", HTMLElement);
  #refused = byId("refused", HTMLInputElement);
  #older = byId("older", HTMLButtonElement);
  /** @type {import("./api.js").Key[]} */
  #keys = [];
  /** @type {Map<string, import("./api.js").Used>} */
  #usage = new Map();
  #numRefreshes = 0;
  /** @type {import("./api.js").Entry[]} */
  #entries = [];
  /** @type {import("./api.js").Stage[]} */
  #shown = [];
  /** Whether older entries were asked for; new ones would then move what is read. */
  #isReading = false;

  async open() {
    byId("language", HTMLButtonElement).addEventListener("click", () => void this.#changeLanguage());
    byId("make", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#doing(() => this.#makeKey());
    });
    listenForToken((token) => (this.#address.token = token));
    this.#refused.addEventListener("change", () => void this.#doing(() => this.#loadAudit()));
    this.#older.addEventListener("click", () => void this.#doing(() => this.#loadOlder()));
    await chooseLanguage();
    await this.#refresh();
    byId("main", HTMLElement).hidden = false; // whole at once: tables that fill one by one would push each other
    document.body.dataset.ready = "";
  }

  async #refresh() {
    await this.#doing(async () => {
      if (document.hidden) return;
      [this.#shown, this.#keys] = await Promise.all([this.#api.stages(), this.#api.keys()]);
      if (this.#numRefreshes % REFRESHES_PER_USAGE === 0) this.#usage = await this.#api.usage();
      this.#numRefreshes += 1;
      if (!this.#isReading) await this.#loadAudit();
      this.#render();
    });
    setTimeout(() => void this.#refresh(), REFRESH_MS);
  }

  async #loadAudit() {
    this.#isReading = false;
    this.#entries = await this.#api.audit({ refused: this.#refused.checked });
    this.#renderAudit();
  }

  async #loadOlder() {
    const before = this.#entries.at(-1)?.id;
    if (before === undefined) return;
    this.#isReading = true;
    const older = await this.#api.audit({ before, refused: this.#refused.checked });
    this.#entries = [...this.#entries, ...older];
    this.#renderAudit();
    this.#older.disabled = older.length === 0;
  }

  async #makeKey() {
    const name = byId("name", HTMLInputElement);
    const lives = byId("lives", HTMLSelectElement).value;
    const budget = byId("budget", HTMLInputElement);
    const key = await this.#api.makeKey({
      name: name.value.trim(),
      ...(lives !== "" && { lives_s: Number(lives) }),
      ...(budget.value !== "" && { limits: { engine_s: budget.valueAsNumber } }),
      ...(byId("views-only", HTMLInputElement).checked && { scope: VIEW_ONLY }),
    });
    name.value = "";
    budget.value = "";
    const value = key.value ?? "";
    const copy = textButton("plain", t("share.copy"), () => void navigator.clipboard?.writeText(value));
    const made = byId("made", HTMLOutputElement);
    made.replaceChildren(t("operator.made", { name: key.name }), make("code", "", [value]), copy);
    made.hidden = false;
    this.#keys = await this.#api.keys();
    this.#renderKeys();
  }

  /** @param {import("./api.js").Key} key */
  async #revoke(key) {
    await this.#api.revokeKey(key.id);
    this.#keys = await this.#api.keys();
    this.#renderKeys();
  }

  /** @param {() => Promise<void>} work what fails is told in the page */
  async #doing(work) {
    try {
      await work();
      this.#problem.hidden = true;
      this.#setState("live");
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "lost";
      const isKnown = code === "unauthorized" || code === "missing_scope" || code === "lost";
      this.#problem.textContent = isKnown
        ? t(`operator.problem.${code}`)
        : String(/** @type {Error} */ (error).message);
      this.#problem.hidden = false;
      this.#setState(code === "lost" ? "reconnecting" : isKnown ? "refused" : "live");
    }
  }

  /** @param {"live" | "reconnecting" | "refused"} state */
  #setState(state) {
    this.#state.dataset.state = state;
    this.#state.textContent = t(`connection.${state}`);
  }

  #render() {
    this.#stages.show(this.#shown);
    // A table that is drawn again would take the focus from the button that somebody is about to press.
    if (!byId("keys", HTMLElement).contains(document.activeElement)) this.#renderKeys();
    this.#renderAudit();
  }

  #renderKeys() {
    const revoke = (/** @type {import("./api.js").Key} */ key) => void this.#doing(() => this.#revoke(key));
    byId("keys", HTMLElement).replaceChildren(keysTable(this.#keys, this.#usage, revoke));
  }

  #renderAudit() {
    const names = new Map(this.#keys.map(({ id, name }) => [id, name]));
    byId("audit", HTMLElement).replaceChildren(auditTable(this.#entries, names));
    this.#older.disabled = this.#entries.length === 0;
  }

  async #changeLanguage() {
    await toggleLanguage();
    this.#setState("live");
    this.#render();
    this.#renderKeys();
  }
}

void new OperatorPage().open();
