// Puts the theme that was chosen last on the page before it is drawn, so that no page flashes in another one.

(() => {
  const KEY = "marketswarm-theme";
  const THEMES = ["light", "dark", "navy"];
  const root = document.documentElement;

  function read() {
    try {
      return localStorage.getItem(KEY) ?? "";
    } catch {
      return ""; // storage is switched off: the theme is the system's
    }
  }

  function apply(theme) {
    if (THEMES.includes(theme)) root.dataset.theme = theme;
    else delete root.dataset.theme;
    dispatchEvent(new CustomEvent("themechange"));
  }

  apply(read());
  addEventListener("storage", (event) => event.key === KEY && apply(event.newValue ?? ""));
  addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    if (!choice) return;
    choice.value = root.dataset.theme ?? "";
    choice.addEventListener("change", () => {
      apply(choice.value);
      try {
        if (choice.value) localStorage.setItem(KEY, choice.value);
        else localStorage.removeItem(KEY);
      } catch {
        // it holds for this page alone
      }
    });
  });
})();
