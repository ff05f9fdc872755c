/**
 * The buttons between the two monitors: take the clip that waits, and blank the program.
 *
 * @module transport
 */

import { byId } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

export class Transport {
  #take = byId("take", HTMLButtonElement);
  #purpose = byId("take-purpose", HTMLElement);
  #blank = byId("blank", HTMLButtonElement);

  /** @param {{onTake: () => void, onBlank: () => void}} handlers */
  constructor({ onTake, onBlank }) {
    this.#take.addEventListener("click", onTake);
    this.#blank.addEventListener("click", onBlank);
  }

  /** @param {{isLive: boolean, isBlank: boolean, isWaiting: boolean, isByHand: boolean}} now `isWaiting`: a clip waits for a take */
  show({ isLive, isBlank, isWaiting, isByHand }) {
    this.#take.disabled = !isLive || !isWaiting;
    const purpose = t(isWaiting ? "take.label" : isByHand ? "take.none" : "take.auto");
    this.#take.title = purpose;
    if (this.#purpose.textContent !== purpose) this.#purpose.textContent = purpose;
    this.#blank.disabled = !isLive;
    this.#blank.dataset.blank = String(isBlank);
    /** @type {HTMLElement} */ (this.#blank.firstElementChild).textContent = t(isBlank ? "take.resume" : "take.blank");
  }
}
