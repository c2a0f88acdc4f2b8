// Light, dark, or as the system has it; remembered on this machine.

export const THEMES = ["system", "light", "dark"];
const NAME = "catena.theme";

/** The choice in force. */
export function currentTheme() {
  return document.documentElement.dataset.theme || "system";
}

export function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}
