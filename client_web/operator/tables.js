/**
 * The operator's tables: stages with their picture, keys, the audit log.
 *
 * @module operator/tables
 */

import { make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @typedef {import("./api.js").Stage} Stage */

/** Cards that stay while their stage lives, so that a picture never flickers. */
export class StageCards {
  #list;
  #picture;
  /** @type {Map<string, {card: HTMLLIElement, canvas: HTMLCanvasElement, facts: HTMLElement}>} */
  #cards = new Map();

  /** @param {HTMLElement} list @param {(id: string) => Promise<ImageBitmap>} picture */
  constructor(list, picture) {
    this.#list = list;
    this.#picture = picture;
  }

  /** @param {Stage[]} stages */
  show(stages) {
    for (const [id, { card }] of this.#cards) {
      if (stages.some((stage) => stage.id === id)) continue;
      card.remove();
      this.#cards.delete(id);
    }
    this.#list.querySelector(".empty")?.remove();
    if (stages.length === 0) this.#list.append(make("li", "empty", [t("operator.no_stages")]));
    for (const stage of stages) void this.#update(stage);
  }

  /** @param {Stage} stage */
  async #update(stage) {
    const { canvas, facts } = this.#cards.get(stage.id) ?? this.#add(stage.id);
    const state = t(`operator.state.${stage.state}`);
    const parts = [stage.key, state, t("operator.viewers", { count: stage.viewers })];
    if (stage.recording) parts.push(t("operator.recording"));
    facts.textContent = parts.filter((part) => part !== "").join(" · ");
    const picture = await this.#picture(stage.id).catch(() => null); // the stage has just ended
    if (picture === null) return;
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d")?.drawImage(picture, 0, 0);
    picture.close();
  }

  /** @param {string} id */
  #add(id) {
    const canvas = make("canvas", "");
    canvas.role = "img";
    canvas.ariaLabel = t("operator.on_air", { name: id });
    const facts = make("p", "stage-facts");
    const card = make("li", "", [canvas, make("p", "stage-name", [id]), facts]);
    this.#list.append(card);
    const parts = { card, canvas, facts };
    this.#cards.set(id, parts);
    return parts;
  }
}

/**
 * @param {import("./api.js").Key[]} keys
 * @param {Map<string, import("./api.js").Used>} usage
 * @param {(key: import("./api.js").Key) => void} onRevoke
 */
export function keysTable(keys, usage, onRevoke) {
  const rows = keys.map((key) => [
    key.name,
    key.scope.join(" "),
    spent(usage.get(key.id)),
    time(key.made_at),
    key.expires_at === null ? t("operator.never") : time(key.expires_at),
    key.id === "main" ? "" : revokeButton(key, () => onRevoke(key)),
  ]);
  return table(["name", "scopes", "spent", "made", "ends", "revoke"], rows);
}

/** @param {import("./api.js").Entry[]} entries @param {Map<string, string>} names of keys, by id */
export function auditTable(entries, names) {
  const rows = entries.map(({ at, outcome, action, session, who, peer, times }) => {
    const [key, secret] = who.split("/");
    const name = names.get(key) ?? key;
    const told = times > 1 ? `${outcome} ×${times}` : outcome;
    return [time(at, "medium"), told, action, session, secret ? `${name} · ${secret.slice(0, 8)}` : name, peer];
  });
  const filled = table(["time", "outcome", "action", "stage", "who", "from"], rows);
  for (const row of filled.tBodies[0].rows) {
    if (row.cells[1].textContent !== "ok") row.cells[1].className = "refused";
    row.cells[2].className = "mono";
  }
  return filled;
}

/** @param {import("./api.js").Used | undefined} used */
function spent(used) {
  if (used === undefined) return "";
  const seconds = Math.round(used.engineS);
  return used.limitS === null
    ? t("stats.seconds", { spent: seconds })
    : t("stats.of_seconds", { spent: seconds, limit: used.limitS });
}

/** @param {import("./api.js").Key} key @param {() => void} onConfirmed */
function revokeButton(key, onConfirmed) {
  const button = textButton("quiet", t("operator.revoke"), () => {
    // A key that ends closes shows: the second click does it.
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      button.textContent = t("operator.sure");
    } else onConfirmed();
  });
  button.ariaLabel = `${t("operator.revoke")}: ${key.name}`;
  button.addEventListener("blur", () => {
    delete button.dataset.sure;
    button.textContent = t("operator.revoke");
  });
  return button;
}

/** @param {string[]} names @param {(string | Node)[][]} rows */
function table(names, rows) {
  const head = make(
    "tr",
    "",
    names.map((name) => make("th", "", [t(`operator.column.${name}`)])),
  );
  for (const cell of head.cells) cell.scope = "col";
  const body = rows.map((row) =>
    make(
      "tr",
      "",
      row.map((cell) => make("td", "", [cell])),
    ),
  );
  return make("table", "", [make("thead", "", [head]), make("tbody", "", body)]);
}

/** @param {number} seconds @param {"short" | "medium"} [precision] */
function time(seconds, precision = "short") {
  const language = document.documentElement.lang;
  return new Date(seconds * 1000).toLocaleString(language, { dateStyle: "short", timeStyle: precision });
}
