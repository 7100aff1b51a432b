// Every text of the page, in the language that was chosen.
import { effect } from "./lib.js";
import { language } from "./prefs.js";
import en from "./text-en.js";
import zh from "./text-zh.js";

const texts = { en, zh };

// The text of a key with {names} filled in. Follows the language where it is called while rendering.
export function t(key, values) {
  const text = texts[language.value]?.[key] ?? en[key] ?? key;
  if (!values) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// "one" or "many" form of a key: t2("alerts", 3) reads "alerts.many".
export const count = (key, n, values) => t(key + (n === 1 ? ".one" : ".many"), { n: number(n), ...values });

export const locale = () => (language.value === "zh" ? "zh-CN" : "en-GB");

export function number(value, digits = 0) {
  return Number(value).toLocaleString(locale(), { maximumFractionDigits: digits });
}

export function toggleLanguage() {
  language.value = language.value === "zh" ? "en" : "zh";
}

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});
