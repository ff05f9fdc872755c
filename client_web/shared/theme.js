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
    document
      .querySelector("meta[name=theme-color]")
      ?.setAttribute("content", theme === "light" ? "#f1f3f7" : "#0b0d11");
  }

  /** @param {string} theme */
  function choose(theme) {
    try {
      // What the system asks for anyway need not be kept: it then goes on following the system.
      if (theme === (system.matches ? "light" : "dark")) window.localStorage.removeItem(KEY);
      else window.localStorage.setItem(KEY, theme);
      apply();
    } catch {
      document.documentElement.dataset.theme = theme;
    }
  }

  // The page's button with the id `theme`, which is not there yet.
  document.addEventListener("click", ({ target }) => {
    const isButton = target instanceof Element && target.closest("#theme") !== null;
    if (isButton) choose(document.documentElement.dataset.theme === "light" ? "dark" : "light");
  });
  // Another page of ours was switched.
  window.addEventListener("storage", (event) => event.key === KEY && apply());
  system.addEventListener("change", apply);
  apply();
})();
