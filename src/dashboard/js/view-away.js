// What happened while nobody looked: the page hidden, the connection lost, or the browser closed.
import { effect, html, signal } from "./lib.js";
import { get, query } from "./api.js";
import { recent } from "./alert-store.js";
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

const report = signal(null);
let hiddenAt = 0;

// Alerts that were raised between then and now, with what became of them.
async function look(from, until) {
  try {
    const page = await get("/alerts" + query({ from: new Date(from).toISOString(), limit: FETCHED_MAX }));
    const items = page.items.filter((alert) => instant(alert.raised_at) <= until);
    report.value = { from, until, items, more: page.next !== null };
  } catch {
    const changes = recent.filter(({ change }) => change.transition === "raised" && instant(change.at) >= from);
    report.value = { from, until, items: changes.map(({ alert }) => alert).reverse(), more: false };
  }
  if (report.value.items.length === 0) report.value = null;
}

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
  if (!report.value) return null;
  const { from, until, items, more } = report.value;
  const by = (name) => items.filter((alert) => alert.state === name).length;
  return html`<aside class="away" aria-labelledby="away-title">
    <header><h2 id="away-title">${t("away.title")}</h2>
      <button type="button" class="tool" title=${t("close")} onClick=${close}><${Icon} name="close" /><span class="heard">${t("close")}</span></button></header>
    <p class="away-when">${clock(from)} – ${clock(until)} (${span(until - from)})</p>
    <p class="away-sum">${joined(count("away.raised", items.length) + (more ? "+" : ""), t("away.waiting", { n: by("raised") }),
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
