/**
 * Dark or light, before the first paint: a plain script in the head of a page, so that nothing flashes. What the user
 * chose at one of our pages holds for all of them; without a choice the system's wish does, also when it changes.
 * A page with storage blocked still works; it only forgets.
 */
"use strict";

(() => {
  const KEY = "sceneshift.theme";
  const system = window.matchMedia("(prefers-color-scheme: light)");

  /** @returns {string | null} */
  function chosen() {
    try {
      const kept = window.localStorage.getItem(KEY);
      return kept === "light" || kept === "dark" ? kept : null;
    } catch {
      return null;
    }
  }

  function apply() {
    const theme = chosen() ?? (system.matches ? "light" : "dark");
    document.documentElement.dataset.theme = theme;
    document.querySelector("meta[name=theme-color]")?.setAttribute("content", theme === "light" ? "#f1f3f7" : "#0b0d11");
  }

  /** For a page's button: dispatch `sceneshift:theme` with "light" or "dark" as its detail. */
  window.addEventListener("sceneshift:theme", (event) => {
    const theme = /** @type {CustomEvent<string>} */ (event).detail;
    try {
      // What the system asks for anyway need not be kept: it then goes on following the system.
      if (theme === (system.matches ? "light" : "dark")) window.localStorage.removeItem(KEY);
      else window.localStorage.setItem(KEY, theme);
      apply();
    } catch {
      document.documentElement.dataset.theme = theme;
    }
  });
  // Another page of ours was switched.
  window.addEventListener("storage", (event) => event.key === KEY && apply());
  system.addEventListener("change", apply);
  apply();
})();
