// What a person has chosen, kept in the browser: theme, language, sound, shortcuts.
import { effect, signal } from "./lib.js";

function read(key, fallback) {
  try {
    return JSON.parse(localStorage.getItem("watchpost." + key)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function keep(key, value) {
  try {
    localStorage.setItem("watchpost." + key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}

export const recall = read;

// False in a browser that keeps nothing.
export const keeps = (() => {
  keep("keeps", true);
  return read("keeps", false);
})();

function preference(key, fallback) {
  const value = signal(read(key, fallback));
  let first = true;
  effect(() => {
    const now = value.value;
    if (!first) keep(key, now);
    first = false;
  });
  return value;
}

const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => { systemDark.value = system.matches; });

// "auto", "dark" or "light".
export const theme = preference("theme", "auto");
export const language = preference("language", navigator.language?.startsWith("zh") ? "zh" : "en");
export const soundOn = preference("sound", true);
export const shortcutsOn = preference("shortcuts", true);

export const isDark = () => theme.value === "dark" || (theme.value === "auto" && systemDark.value);

export function toggleTheme() {
  theme.value = isDark() ? "light" : "dark";
}

effect(() => {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
});
