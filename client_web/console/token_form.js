/**
 * The sheet of a console without a token, or with a wrong one: says where the token is, and takes it. `refusals.js`
 * loads it when the server refuses the console.
 *
 * @module token_form
 */

import { make } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { openSheet } from "./sheets.js";

/**
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
