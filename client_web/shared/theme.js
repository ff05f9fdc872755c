/**
 * Sets the dark or light theme. It is a plain script in the head of a page, so that it runs before the first paint and
 * nothing flashes. The user's choice holds for all our pages; without one the system's setting does, also when it
 * changes. If storage is blocked, the page works, but forgets the choice.
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
      // A choice that equals the system's setting is not stored, so that the page follows the system again.
      if (theme === (system.matches ? "light" : "dark")) window.localStorage.removeItem(KEY);
      else window.localStorage.setItem(KEY, theme);
      apply();
    } catch {
      document.documentElement.dataset.theme = theme;
    }
  }

  // The button with the id `theme` is not parsed yet, so the document listens for its clicks.
  document.addEventListener("click", ({ target }) => {
    const isButton = target instanceof Element && target.closest("#theme") !== null;
    if (isButton) choose(document.documentElement.dataset.theme === "light" ? "dark" : "light");
  });
  // Another of our pages has switched the theme.
  window.addEventListener("storage", (event) => event.key === KEY && apply());
  system.addEventListener("change", apply);
  apply();
})();
