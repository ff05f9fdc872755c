/**
 * Tells screen readers how a prompt ended. They do not hear each step.
 *
 * @module announcer
 */

import { byId } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @param {import("./prompts/prompts.js").Prompt} prompt */
export function announce({ handle, state, text }) {
  if (!handle.hasEnded && state !== "ready") return;
  const isGood = state === "applied" || state === "ready";
  const words = isGood
    ? t(`announce.${state}`, { text })
    : t("announce.ended", { state: t(`prompt.state.${state}`), text });
  const region = byId("announcer", HTMLElement);
  if (region.textContent !== words) region.textContent = words;
}
