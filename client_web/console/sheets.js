/**
 * The sheets in front of the console: the help for its keys, and the forms for an item of the rundown and for a token.
 * All use one `<dialog>`, so that the browser keeps the focus inside, gives it back, and lets Escape close it.
 *
 * @module sheets
 */

import { make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { LONGEST_HOLD_S, MAX_NOTE_CHARACTERS } from "./rundown/rundown.js";
import { MAX_PROMPT_CHARACTERS } from "../sdk/messages.js";

/** @typedef {import("./rundown/rundown.js").Item} Item */

/** @type {readonly [keys: string[], name: string][]} */
const KEYS = Object.freeze([
  [["Space"], "take"],
  [["Esc"], "blank"],
  [["1", "–", "9"], "favourites"],
  [["N"], "next"],
  [["/", "P"], "write"],
  [["↑", "↓"], "recall"],
  [["Ctrl", "Enter"], "plan"],
  [["Alt", "↑", "↓"], "move"],
  [["?"], "help"],
]);

/**
 * @param {HTMLDialogElement} dialog
 * @param {string} title
 * @param {(Node | string)[]} content
 */
export function openSheet(dialog, title, content) {
  const heading = make("h2", "", [title]);
  heading.id = "sheet-title";
  const close = textButton("icon-button toast-close", "×", () => dialog.close());
  close.ariaLabel = t("toast.close");
  dialog.replaceChildren(make("div", "sheet-head", [heading, close]), ...content);
  // Otherwise the old content would be visible for a moment when the next sheet opens.
  dialog.onclose = () => dialog.replaceChildren();
  if (!dialog.open) dialog.showModal();
}

/** @param {HTMLDialogElement} dialog */
export function openHelp(dialog) {
  const list = make("dl", "keys-list");
  for (const [keys, name] of KEYS) {
    const words = keys.map((key) => (key === "–" ? key : make("kbd", "", [key])));
    list.append(make("dt", "", words), make("dd", "", [t(`help.${name}`)]));
  }
  openSheet(dialog, t("help.title"), [list, make("p", "sheet-note", [t("help.note")])]);
}

/**
 * The form of a console without a token, or with a wrong one. It says where the token is, and takes it.
 *
 * @param {HTMLDialogElement} dialog
 * @param {(token: string) => void} onGiven
 */
export function askForToken(dialog, onGiven) {
  const field = make("input", "field");
  Object.assign(field, { type: "password", name: "token", required: true, autocomplete: "off", spellcheck: false });
  const submit = make("button", "primary", [t("token.use")]);
  submit.type = "submit";
  const row = make("div", "sheet-row", [make("label", "grow", [t("token.field"), field]), submit]);
  const form = make("form", "sheet-form", [make("p", "sheet-note", [t("token.needed")]), row]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    onGiven(tokenIn(field.value));
  });
  openSheet(dialog, t("token.title"), [form]);
  field.focus();
}

/** People paste the token, or the whole address. @param {string} text */
const tokenIn = (text) => new URLSearchParams(text.trim().split("#")[1] ?? "").get("token") ?? text.trim();

/**
 * @param {HTMLDialogElement} dialog
 * @param {Item | null} item null: a new one
 * @param {(change: {text: string, note: string, holdS: number | null}) => void} onSave
 * @param {() => void} onRemove
 */
export function openItem(dialog, item, onSave, onRemove) {
  const text = make("textarea", "field");
  text.required = true;
  text.maxLength = MAX_PROMPT_CHARACTERS;
  text.value = item?.text ?? "";
  const note = make("input", "field");
  note.maxLength = MAX_NOTE_CHARACTERS;
  note.value = item?.note ?? "";
  const hold = make("input", "field");
  Object.assign(hold, {
    type: "number",
    min: "1",
    max: String(LONGEST_HOLD_S),
    step: "1",
    inputMode: "numeric",
    placeholder: t("rundown.hold.empty"),
  });
  hold.value = item?.holdS?.toString() ?? "";
  const form = make("form", "sheet-form", [
    make("label", "", [t("rundown.text"), text]),
    make("label", "", [t("rundown.note"), note]),
    make("label", "", [t("rundown.hold"), hold]),
    actions(dialog, item, onRemove),
  ]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (text.value.trim() === "") {
      text.ariaInvalid = "true";
      text.focus();
      return;
    }
    dialog.close();
    onSave({ text: text.value.trim(), note: note.value.trim(), holdS: hold.value === "" ? null : Number(hold.value) });
  });
  openSheet(dialog, t(item === null ? "rundown.add_title" : "rundown.edit_title"), [form]);
  text.focus();
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {Item | null} item
 * @param {() => void} onRemove
 */
function actions(dialog, item, onRemove) {
  const save = make("button", "primary", [t("rundown.save")]);
  save.type = "submit";
  const row = make("div", "sheet-actions", [textButton("plain", t("rundown.cancel"), () => dialog.close()), save]);
  if (item !== null) {
    const remove = textButton("plain left", t("rundown.delete"), () => {
      dialog.close();
      onRemove();
    });
    row.prepend(remove);
  }
  return row;
}
