// What happened while nobody looked: the page hidden, the connection lost, or the browser closed.
import { effect, html, signal } from "./lib.js";
import { get, query } from "./api.js";
import { onChanges, recent } from "./alert-store.js";
import { epoch, link, onReturn } from "./connection.js";
import { serverNow } from "./clock.js";
import { clock, instant, joined, kindOf, span, who } from "./format.js";
import { count, t } from "./i18n.js";
import { keep, recall } from "./prefs.js";
import { href } from "./router.js";
import { state } from "./session.js";
import { Icon, Severity } from "./view-parts.js";

// Shorter absences are not worth a word, milliseconds.
const AWAY_MIN_MS = 60_000;
const SHOWN_MAX = 12;
const FETCHED_MAX = 200;

// What people want to know of an alert that they had seen before, too.
const TOLD = ["raised", "repeated", "acknowledged", "resolved"];

// Absences, earliest first, and each alert that something happened to in them, as it was last.
const report = signal(null);
let hiddenAt = 0;

const during = (absences, at) => absences.some(({ from, until }) => at >= from && at <= until);
const isOf = (absences, change) => TOLD.includes(change.transition) && during(absences, instant(change.at));

function merged(...lists) {
  const newest = new Map();
  for (const alert of lists.flat()) {
    const known = newest.get(alert.alert_id);
    if (!known || known.pushed_at <= alert.pushed_at) newest.set(alert.alert_id, alert);
  }
  return [...newest.values()].sort((a, b) => (a.pushed_at < b.pushed_at ? 1 : -1));
}

// Alerts to which something happened between then and now. What is told already stays until it is closed.
async function look(from, until) {
  let page = { items: [], next: null };
  try {
    page = await get("/alerts" + query({ from: new Date(from).toISOString(), limit: FETCHED_MAX }));
  } catch {
    // What the stream has brought is told all the same.
  }
  if (state.value !== "in") return;
  const absence = { from, until };
  const raised = page.items.filter((alert) => instant(alert.raised_at) <= until);
  const changed = recent.filter(({ change }) => isOf([absence], change)).map(({ alert }) => alert);
  const before = report.value?.items.length > 0 ? report.value : { absences: [], items: [], more: false };
  report.value = {
    absences: [...before.absences, absence].sort((a, b) => a.from - b.from),
    items: merged(before.items, raised, changed),
    more: before.more || page.next !== null,
  };
}

// What was missed may come after the answer to the question above.
onChanges((frames) => {
  const told = report.value;
  const late = told ? frames.filter(({ change }) => isOf(told.absences, change)) : [];
  if (late.length > 0) report.value = { ...told, items: merged(told.items, late.map(({ alert }) => alert)) };
});

// After a lost connection every absence counts: the screen was old meanwhile.
onReturn((lostSince) => look(lostSince, serverNow()));

document.addEventListener("visibilitychange", () => {
  if (state.value !== "in") return;
  if (document.visibilityState === "hidden") hiddenAt = serverNow();
  else if (hiddenAt && serverNow() - hiddenAt >= AWAY_MIN_MS) look(hiddenAt, serverNow());
});

// Across a closed browser: the last instant at which somebody could see the page.
let asked = false;
effect(() => {
  if (state.value === "out") {
    asked = false;
    hiddenAt = 0;
    report.value = null;
  }
  if (asked || link.value !== "live" || !epoch.value) return;
  asked = true;
  const last = recall("seen", null);
  if (last?.epoch === epoch.value && serverNow() - last.at >= AWAY_MIN_MS) look(last.at, serverNow());
});
setInterval(() => {
  if (link.value === "live" && document.visibilityState === "visible") keep("seen", { epoch: epoch.value, at: serverNow() });
}, 5000);

const close = () => { report.value = null; };

export function Away() {
  if (!(report.value?.items.length > 0)) return null;
  const { absences, items, more } = report.value;
  const from = absences[0].from;
  const until = Math.max(...absences.map((absence) => absence.until));
  const raised = items.filter((alert) => during(absences, instant(alert.raised_at))).length;
  const by = (name) => items.filter((alert) => alert.state === name).length;
  return html`<aside class="away" aria-labelledby="away-title">
    <header><h2 id="away-title">${t("away.title")}</h2>
      <button type="button" class="tool" title=${t("close")} onClick=${close}><${Icon} name="close" /><span class="heard">${t("close")}</span></button></header>
    <p class="away-when">${clock(from)} – ${clock(until)} (${span(until - from)})</p>
    <p class="away-sum">${joined(count("away.raised", raised) + (more ? "+" : ""), items.length > raised && count("away.changed", items.length - raised), t("away.waiting", { n: by("raised") }),
      t("away.taken", { n: by("acknowledged") }), t("away.resolved", { n: by("resolved") }))}</p>
    <ol>${items.slice(0, SHOWN_MAX).map((alert) => html`<li key=${alert.alert_id}>
      <a href=${href("alerts", alert.alert_id)} onClick=${close}><${Severity} name=${alert.severity} />
        <span class="away-what">${joined(kindOf(alert.event_type, alert.rule_name), who(alert))}</span>
        <span class="away-state">${clock(alert.raised_at)} · ${alert.resolved_by ? t("by.resolved", { name: alert.resolved_by })
          : alert.acknowledged_by ? t("by.acknowledged", { name: alert.acknowledged_by }) : t("state." + alert.state)}</span></a></li>`)}
    </ol>
    ${items.length > SHOWN_MAX && html`<p>${t("away.more", { n: items.length - SHOWN_MAX })}</p>`}
  </aside>`;
}
