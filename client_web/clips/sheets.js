/**
 * The sheets of the page: which stage shall show the clip, and which other words it shall have.
 *
 * @module clips/sheets
 */

import { openSheet } from "../console/sheets.js";
import { MAX_PROMPT_CHARACTERS } from "../sdk/messages.js";
import { make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @typedef {import("./api.js").Clip} Clip */

/**
 * @param {HTMLDialogElement} dialog
 * @param {() => Promise<import("./api.js").Stage[]>} stages of this key
 * @param {(stage: string) => void} onChosen
 * @param {(error: unknown) => string} explain
 */
export async function openStages(dialog, stages, onChosen, explain) {
  const content = make("div", "stage-choices", [make("p", "sheet-note", [t("clips.stages.loading")])]);
  content.role = "status";
  openSheet(dialog, t("clips.stages"), [content]);
  try {
    const buttons = (await stages()).map(({ id }) =>
      textButton("plain", id, () => {
        dialog.close();
        onChosen(id);
      }),
    );
    content.replaceChildren(...(buttons.length > 0 ? buttons : [noStage()]));
    buttons[0]?.focus();
  } catch (error) {
    content.replaceChildren(make("p", "sheet-note", [explain(error)]));
  }
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {Clip} clip
 * @param {(prompt: string) => void} onWords
 */
export function openWords(dialog, clip, onWords) {
  const field = make("textarea", "field", [clip.prompt]);
  field.rows = 3;
  field.required = true;
  field.maxLength = MAX_PROMPT_CHARACTERS;
  const label = make("label", "", [make("span", "option-label", [t("clips.words.note")]), field]);
  const send = make("button", "primary", [t("clips.make")]);
  const form = make("form", "sheet-form", [label, send]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    onWords(field.value.trim());
  });
  openSheet(dialog, t("clips.words"), [form]);
  field.focus();
  field.select();
}

function noStage() {
  const link = make("a", "", [t("studio.console")]);
  link.href = "/";
  return make("p", "sheet-note", [t("clips.stages.none"), " ", link]);
}
