// Small pieces that several pages use.
import { html, useComputed } from "./lib.js";
import { now } from "./clock.js";
import { ago, clock, instant, span } from "./format.js";
import { t } from "./i18n.js";

const PATHS = {
  alerts: "M12 3a6 6 0 0 0-6 6c0 6-2.5 7-2.5 8.5h17C20.5 16 18 15 18 9a6 6 0 0 0-6-6ZM9.5 20.5a2.6 2.6 0 0 0 5 0",
  devices: "M8 7h8a2 2 0 0 1 2 2v6a2 2 0 0 1-2 2H8a2 2 0 0 1-2-2V9a2 2 0 0 1 2-2ZM8.5 7l.7-4h5.6l.7 4M8.5 17l.7 4h5.6l.7-4M12 10v2.5l1.5 1",
  overview: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  system: "M4 6h6v4H4ZM14 14h6v4h-6ZM10 8h4a3 3 0 0 1 3 3v3M7 10v3a3 3 0 0 0 3 3h4",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v3M12 19v3M2 12h3M19 12h3M4.9 4.9 7 7M17 17l2.1 2.1M4.9 19.1 7 17M17 7l2.1-2.1",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z",
  sound: "M4 9.5v5h3.5L12 19V5L7.5 9.5ZM15.5 9a4 4 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  muted: "M4 9.5v5h3.5L12 19V5L7.5 9.5ZM16 9.5l5 5M21 9.5l-5 5",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.5",
  out: "M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h10",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.5l4.5 4.5L19 7",
  pin: "M12 21s7-6.2 7-11.5a7 7 0 0 0-14 0C5 14.8 12 21 12 21ZM12 12a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  back: "M19 12H5M11 6l-6 6 6 6",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" fill="none"
  stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"
  focusable="false"><path d=${PATHS[name]} /></svg>`;

// "3 min ago", kept true without rendering what is around it.
export function Ago({ at }) {
  const time = instant(at);
  const text = useComputed(() => ago(time, now.value));
  return html`<time dateTime=${new Date(time).toISOString()} title=${clock(time)}>${text}</time>`;
}

// How long since, without "ago".
export function Since({ at }) {
  const time = instant(at);
  const text = useComputed(() => span(now.value - time));
  return html`<span class="since">${text}</span>`;
}

export const Severity = ({ name }) => html`<span class=${"badge severity " + name}>${t("severity." + name)}</span>`;

// A calm box where there is nothing, or nothing could be had.
export const Nothing = ({ title, children, retry, icon = "check" }) => html`
  <div class="nothing">
    <${Icon} name=${icon} />
    <p class="nothing-title">${title}</p>
    ${children && html`<p>${children}</p>`}
    ${retry && html`<button type="button" onClick=${retry}>${t("try_again")}</button>`}
  </div>`;

// The age of what was fetched; it says so loudly when it could not be renewed.
export function Freshness({ loaded }) {
  if (!loaded.at) return null;
  const old = loaded.error || now.value - loaded.at > 3 * loaded.every + 2000;
  return html`<p class=${old ? "freshness old" : "freshness"}>
    ${old ? t("fresh.old", { at: clock(loaded.at) }) : t("fresh.as_of", { at: clock(loaded.at) })}</p>`;
}

// What went wrong with a fetch, in words; the route may not be there at all.
export const why = (error) =>
  error.status === 0 ? t("error.unreachable")
    : error.status === 403 ? t("error.forbidden")
      : error.status === 404 ? t("error.missing")
        : error.status === 503 ? t("error.busy") : t("error.other", { status: error.status });

export function Failed({ error, retry }) {
  return html`<${Nothing} icon="help" title=${t("error.title")} retry=${retry}>${why(error)}<//>`;
}
