/**
 * Tells whether an element can be seen: its tab is visible, and enough of it is scrolled into view.
 *
 * @module widget/seen
 */

// An element that is out of sight for less than this still counts as seen.
const GRACE_MS = 1000;
const ENOUGH = 0.1;

export class Seen {
  #element;
  #onChanged;
  #isInView = false;
  #isSeen = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #observer = new IntersectionObserver((entries) => this.#observe(/** @type {any} */ (entries.at(-1))), {
    threshold: [0, ENOUGH],
  });
  #judge = () => {
    const isSeen = this.#isInView && document.visibilityState === "visible";
    clearTimeout(this.#timer);
    if (isSeen) this.#enter(true);
    else this.#timer = setTimeout(() => this.#enter(false), GRACE_MS);
  };

  /**
   * @param {Element} element
   * @param {(isSeen: boolean) => void} onChanged
   */
  constructor(element, onChanged) {
    this.#element = element;
    this.#onChanged = onChanged;
  }

  get isSeen() {
    return this.#isSeen;
  }

  watch() {
    this.#observer.observe(this.#element);
    document.addEventListener("visibilitychange", this.#judge);
  }

  stop() {
    this.#observer.disconnect();
    document.removeEventListener("visibilitychange", this.#judge);
    clearTimeout(this.#timer);
    this.#isInView = this.#isSeen = false;
  }

  /** @param {IntersectionObserverEntry} entry */
  #observe(entry) {
    if (entry.isIntersecting && entry.intersectionRatio > 0 && entry.intersectionRatio < ENOUGH && !this.#isInView)
      return;
    this.#isInView = entry.isIntersecting;
    this.#judge();
  }

  /** @param {boolean} isSeen */
  #enter(isSeen) {
    if (isSeen === this.#isSeen) return;
    this.#isSeen = isSeen;
    this.#onChanged(isSeen);
  }
}
