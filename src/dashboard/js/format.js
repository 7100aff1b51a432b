// Times, places and numbers as people read them.
import { count, locale, number, t } from "./i18n.js";

const DAY_MS = 86_400_000;

export const instant = (text) => (typeof text === "number" ? text : Date.parse(text));

// "4 s", "3 min", "2 h 10 min", "3 d".
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return t("span.s", { s });
  const min = Math.floor(s / 60);
  if (min < 60) return t("span.min", { min });
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? t("span.h_min", { h, min: min % 60 }) : t("span.h", { h });
  return t("span.d", { d: Math.floor(h / 24) });
}

export const ago = (at, now) => (now - at < 1500 ? t("just_now") : t("ago", { span: span(now - at) }));

// The clock, with the date unless it is today's.
export function clock(at, now = Date.now(), seconds = true) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "–";
  const hms = { hour: "2-digit", minute: "2-digit", hour12: false, ...(seconds ? { second: "2-digit" } : {}) };
  const today = new Date(now).toDateString() === time.toDateString();
  if (today) return time.toLocaleTimeString(locale(), hms);
  const near = Math.abs(now - at) < 300 * DAY_MS;
  const date = { day: "numeric", month: "short", ...(near ? {} : { year: "numeric" }) };
  return time.toLocaleString(locale(), { ...date, ...hms });
}

export const place = (location) =>
  location ? location.latitude.toFixed(5) + ", " + location.longitude.toFixed(5) : null;

export const UNITS = {
  heart_rate: ["unit.bpm", 0],
  blood_oxygen: ["unit.percent", 0],
  body_temperature: ["unit.celsius", 1],
  blood_pressure_systolic: ["unit.mmhg", 0],
  blood_pressure_diastolic: ["unit.mmhg", 0],
  stress: ["", 0],
  step: ["unit.steps", 0],
  distance: ["unit.m", 0],
  calorie: ["unit.cal", 0],
};

export function metric(name, value) {
  if (value === null || value === undefined) return "–";
  const [unit, digits] = UNITS[name] ?? ["", 1];
  return number(value, digits) + (unit ? " " + t(unit) : "");
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (value >= 1024 && power < units.length - 1) {
    value /= 1024;
    power += 1;
  }
  return number(value, value < 10 && power ? 1 : 0) + " " + units[power];
}

const KINDS = [
  [/^sos/i, "kind.sos"], [/^fall/i, "kind.fall"], [/^one_key/i, "kind.one_key"], [/^wear_status/i, "kind.wear"],
  [/^heart_?rate.*high/i, "kind.heart_high"], [/^heart_?rate.*low/i, "kind.heart_low"],
  [/^(blood_?oxygen|spo2)/i, "kind.oxygen"], [/temperature/i, "kind.temperature"],
  [/blood_?pressure/i, "kind.pressure"], [/^geofence/i, "kind.geofence"], [/^heart_?rate/i, "kind.heart"],
  [/low_?battery|battery_?low/i, "kind.battery"], [/stress/i, "kind.stress"], [/^call_state/i, "kind.call"],
];

// What happened, in a few words: the known kinds by name, others by their own.
export function kindOf(type, rule) {
  const own = (type || rule || "").split(".").pop();
  const known = KINDS.find(([pattern]) => pattern.test(own));
  if (known) return t(known[1]);
  if (!type) return rule || t("kind.unknown");
  const words = own.replace(/_EVENT$/i, "").replace(/_/g, " ").toLowerCase().trim();
  return words ? words[0].toUpperCase() + words.slice(1) : t("kind.unknown");
}

// Texts of others side by side. What turns the direction of reading would turn its neighbours too.
export const joined = (...parts) =>
  parts.filter(Boolean).map((part) => String(part).replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd")).join(" · ");

export const who = (alert) => alert.person_name || t("unknown_wearer");
export const percent = (value) => (value === null || value === undefined ? "–" : number(value) + "%");
export const times = (n) => count("times", n);
