// The day in numbers, beside yesterday up to the same time.
import { html } from "./lib.js";
import { RANKS } from "./alert-store.js";
import { clock, span } from "./format.js";
import { locale, number, t } from "./i18n.js";
import { href } from "./router.js";
import { useLoaded } from "./use-loaded.js";
import { Failed, Freshness, Nothing } from "./view-parts.js";

const EVERY_MS = 15_000;

// How today compares: in percent where that says something, else in numbers.
function Against({ today, then, worseIsMore }) {
  if (then === null || then === undefined) return null;
  const difference = today - then;
  if (difference === 0) return html`<span class="against">${t("against.same")}</span>`;
  const text = then >= 10 ? number(Math.round((100 * Math.abs(difference)) / then)) + "%" : number(Math.abs(difference));
  const tone = worseIsMore ? (difference > 0 ? " worse" : " better") : "";
  return html`<span class=${"against" + tone}>${t(difference > 0 ? "against.more" : "against.fewer", { n: text })}</span>`;
}

function Tile({ name, value, children, tone }) {
  return html`<li class=${tone ? "tile " + tone : "tile"}><span>${name}</span><b>${value}</b>${children}</li>`;
}

function Hours({ hours }) {
  const most = Math.max(1, ...hours.map((hour) => hour.count));
  const label = (at) => (typeof at === "number" && at < 24 ? String(at).padStart(2, "0")
    : new Date(at).toLocaleTimeString(locale(), { hour: "2-digit", hour12: false }));
  return html`<div class="hours" role="img" aria-label=${t("overview.hours")}>
    <svg viewBox="0 0 480 140" preserveAspectRatio="none" aria-hidden="true">
      <line x1="0" y1="0.5" x2="480" y2="0.5" /><line x1="0" y1="70" x2="480" y2="70" /><line x1="0" y1="139.5" x2="480" y2="139.5" />
      ${hours.map((hour, index) => {
        const height = (138 * hour.count) / most;
        const critical = (138 * hour.critical) / most;
        return html`<g key=${index} class=${index === hours.length - 1 ? "so-far" : ""}><title>${label(hour.hour) + ": " + hour.count}</title>
          <rect x=${index * 20 + 3} y=${139 - height} width="14" height=${height} rx="2" class="bar" />
          <rect x=${index * 20 + 3} y=${139 - critical} width="14" height=${critical} rx="2" class="bar critical" /></g>`;
      })}
    </svg>
    <p class="hours-most">${number(most)}</p>
    <ol aria-hidden="true">${hours.map((hour, index) => html`<li key=${index}>${index % 3 === hours.length % 3 ? label(hour.hour) : ""}</li>`)}</ol>
    <p class="legend"><i class="critical"></i>${t("severity.critical")} <i></i>${t("overview.other")} <i class="so-far"></i>${t("overview.so_far")}</p>
  </div>
  <table class="heard"><caption>${t("overview.hours")}</caption><tbody>${hours.map((hour, index) => html`<tr key=${index}><th>${label(hour.hour)}</th><td>${hour.count}</td></tr>`)}</tbody></table>`;
}

function Bars({ rows, tone }) {
  const most = Math.max(1, ...rows.map((row) => row.value));
  return html`<ul class="bars">${rows.map((row) => html`<li key=${row.key} class=${tone ? row.key : ""}>
    <span class="bar-name">${row.name}</span><span class="bar-track"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"
      ><rect width=${(100 * row.value) / most} height="8" />${row.critical ? html`<rect class="critical" width=${(100 * row.critical) / most} height="8" />` : ""}</svg></span>
    <b>${number(row.value)}</b>${row.critical ? html`<span class="bar-note">${t("overview.open_critical", { n: number(row.critical) })}</span>` : ""}</li>`)}</ul>`;
}

const seconds = (value) => (value === null || value === undefined ? "–"
  : value < 10 ? t("span.s", { s: number(value, 1) }) : span(value * 1000));

export function OverviewPage() {
  const loaded = useLoaded("/overview", EVERY_MS);
  const data = loaded.data;
  const head = html`<div class="page-head"><h1 tabindex="-1">${t("page.overview")}</h1><${Freshness} loaded=${loaded} /></div>`;
  if (loaded.error && !data) return html`${head}<${Failed} error=${loaded.error} retry=${loaded.again} />`;
  if (!data) return html`${head}<div class="skeleton" aria-hidden="true"><i></i><i></i><i></i></div>`;
  const { today, yesterday, open, devices } = data;
  const then = yesterday.until_now ?? {};
  const acknowledged = data.time_to_acknowledge;
  const openAll = Object.values(open.by_severity).reduce((sum, n) => sum + n, 0);
  const critical = today.by_severity.critical ?? 0;
  return html`${head}
    <ul class="tiles">
      <${Tile} name=${t("overview.open")} value=${number(openAll)} tone=${open.by_severity.critical ? "alarm" : ""}>
        <span class="against">${t("overview.open_critical", { n: number(open.by_severity.critical ?? 0) })}</span><//>
      <${Tile} name=${t("overview.alerts")} value=${number(today.alerts)}><${Against} today=${today.alerts} then=${then.alerts} worseIsMore /><//>
      <${Tile} name=${t("overview.critical")} value=${number(critical)}><${Against} today=${critical} then=${then.by_severity?.critical} worseIsMore /><//>
      <${Tile} name=${t("overview.events")} value=${number(today.events)}><${Against} today=${today.events} then=${then.events} /><//>
      <${Tile} name=${t("overview.acknowledge")} value=${seconds(acknowledged.p50_s)}><span class="against">${acknowledged.count ? t("overview.p90", { p90: seconds(acknowledged.p90_s), days: acknowledged.days })
        : t("overview.of_alerts", { n: 0, days: acknowledged.days })}</span><//>
    </ul>
    <p class="compared">${t("overview.compared", { at: clock(Date.now(), Date.now(), false) })}</p>
    <div class="columns">
      <section class="card wide"><header><h2>${t("overview.hours")}</h2></header><${Hours} hours=${data.alarms_per_hour} /></section>
      <section class="card"><header><h2>${t("overview.by_severity")}</h2><a href=${href("alerts")}>${t("page.alerts")}</a></header>
        ${openAll ? html`<${Bars} tone rows=${RANKS.map((name) => ({ key: name, name: t("severity." + name), value: open.by_severity[name] ?? 0 }))} />`
          : html`<${Nothing} title=${t("alerts.none")} />`}</section>
      <section class="card"><header><h2>${t("overview.by_org")}</h2></header>
        ${open.by_org.length ? html`<${Bars} rows=${open.by_org.map((org) => ({ key: org.org_id ?? "", name: org.org_name || org.org_id || t("overview.no_org"), value: org.open, critical: org.critical }))} />`
          : html`<${Nothing} title=${t("alerts.none")} />`}</section>
      <section class="card"><header><h2>${t("overview.devices")}</h2><a href=${href("devices")}>${t("page.devices")}</a></header>
        <${Bars} rows=${["online", "not_worn", "charging", "silent"].map((name) => ({ key: name, name: t("device." + name), value: devices[name] ?? 0 }))} />
        <p class="dim">${t("overview.of_devices", { n: number(devices.all) })} · ${t("overview.silent_after", { span: seconds(devices.silent_after_s) })}</p></section>
      <section class="card"><header><h2>${t("overview.acknowledge")}</h2></header>
        <dl class="fields">${[["p50_s", "overview.median"], ["p90_s", "overview.ninety"], ["max_s", "overview.longest"]].map(([key, name]) => html`
          <div key=${key} class="field"><dt>${t(name)}</dt><dd>${seconds(acknowledged[key])}</dd></div>`)}</dl>
        <p class="dim">${t("overview.of_alerts", { n: number(acknowledged.count), days: acknowledged.days })}</p></section>
    </div>`;
}
