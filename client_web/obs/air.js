/**
 * Tells whether OBS shows the page, from the events of its browser source: `visible` anywhere (a preview, a projector),
 * `active` in the program. A page that is neither for longer than a grace period is off air. Without OBS a page is
 * always on air.
 *
 * @module obs/air
 */

export class Air {
  #graceMs;
  #onChanged;
  // OBS does not tell the state at the start. A page that was just opened counts as visible.
  #isVisible = true;
  #isActive = false;
  #isOnAir = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {number} graceMs
   * @param {(isOnAir: boolean) => void} onChanged
   */
  constructor(graceMs, onChanged) {
    this.#graceMs = graceMs;
    this.#onChanged = onChanged;
  }

  get isOnAir() {
    return this.#isOnAir;
  }

  /** Whether OBS has said that the program shows the page. */
  get isInProgram() {
    return this.#isActive;
  }

  /** @param {EventTarget} target the window */
  listen(target) {
    target.addEventListener("obsSourceVisibleChanged", (event) => {
      this.#isVisible = Boolean(/** @type {CustomEvent} */ (event).detail?.visible);
      this.#judge();
    });
    target.addEventListener("obsSourceActiveChanged", (event) => {
      this.#isActive = Boolean(/** @type {CustomEvent} */ (event).detail?.active);
      this.#judge();
    });
  }

  #judge() {
    clearTimeout(this.#timer);
    if (this.#isVisible || this.#isActive) this.#enter(true);
    else this.#timer = setTimeout(() => this.#enter(false), this.#graceMs);
  }

  /** @param {boolean} isOnAir */
  #enter(isOnAir) {
    if (isOnAir === this.#isOnAir) return;
    this.#isOnAir = isOnAir;
    this.#onChanged(isOnAir);
  }
}
