// The theme: what the system says, unless somebody has chosen here. It is no module, so that it is set before the page
// is drawn.
"use strict";

(() => {
  const key = "forebay.theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem(key);
  } catch { /* a browser that keeps nothing */ }

  const theme = {
    /** light, dark or system */
    get chosen() { return chosen === "light" || chosen === "dark" ? chosen : "system"; },
    /** what is shown: light or dark */
    get shown() { return this.chosen === "system" ? (system.matches ? "dark" : "light") : this.chosen; },
    choose(next) {
      chosen = next;
      try {
        if (next === "system") localStorage.removeItem(key);
        else localStorage.setItem(key, next);
      } catch { /* it holds for this page */ }
      apply();
    },
  };

  function apply() {
    document.documentElement.dataset.theme = theme.shown;
    document.dispatchEvent(new Event("themechange"));
  }

  system.addEventListener("change", apply);
  window.forebayTheme = theme;
  apply();
})();
