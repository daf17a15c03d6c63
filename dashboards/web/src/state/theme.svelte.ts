/** Light, dark, or as the system has it. */

export type Theme = "system" | "light" | "dark";

const KEY = "theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

class Look {
  theme = $state<Theme>(kept());
  /** Counts changes of what the page looks like, for what paints by itself. */
  version = $state(0);
}

export const look = new Look();

function kept(): Theme {
  const text = localStorage.getItem(KEY);
  return text === "light" || text === "dark" ? text : "system";
}

export function applyTheme(): void {
  const root = document.documentElement;
  if (look.theme === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = look.theme;
  look.version++;
}

export function nextTheme(): void {
  look.theme = NEXT[look.theme];
  localStorage.setItem(KEY, look.theme);
  applyTheme();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => look.version++);
