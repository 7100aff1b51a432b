// One watch: its state, vital signs, track, events, and who wears it.
import { html, useState } from "./lib.js";
import { query } from "./api.js";
import { open } from "./alert-store.js";
import { clock, instant, joined, kindOf, metric, place } from "./format.js";
import { t } from "./i18n.js";
import { href } from "./router.js";
import { useLoaded } from "./use-loaded.js";
import { Battery, DeviceState, worn } from "./view-devices.js";
import { Measured, isOld, useNewest } from "./view-vitals-table.js";
import { Chart } from "./view-chart.js";
import { Track } from "./view-track.js";
import { Ago, Failed, Freshness, Icon, Nothing, Severity } from "./view-parts.js";

const EVERY_MS = 30_000;
const EVENTS = 50;
const SPANS = [[24, "hours.24"], [168, "hours.168"]];
const CHARTS = ["heart_rate", "blood_oxygen", "body_temperature", "blood_pressure_systolic", "stress", "step"];

function Now({ newest }) {
  const { values, at, worn: isWorn } = newest.value;
  const names = CHARTS.filter((name) => values[name]);
  const notWorn = isWorn === false && html`<p class="notice">${t("vitals.not_worn")}</p>`;
  if (names.length === 0) return notWorn || html`<p class="dim">${t("vitals.waiting_live")}</p>`;
  return html`<ul class=${isOld(at) ? "now old" : "now"}>${names.map((name) => html`<li key=${name}><b>${metric(name, values[name].value)}</b>
    <span>${t("metric." + name)}${at - values[name].at > 60_000 && html` · <${Ago} at=${values[name].at} />`}</span></li>`)}
    <li class="age"><${Measured} at=${at} /></li></ul>${notWorn}`;
}

function Binding({ device }) {
  const binding = device.binding;
  const rows = [
    ["field.wearer", device.person_name], ["field.person_id", device.person_id ?? binding?.person_id],
    ["field.org", device.org_name], ["field.customer", device.customer_id ?? binding?.customer_id],
    ["field.bound_since", binding?.bound_at ?? binding?.valid_from ? clock(instant(binding.bound_at ?? binding.valid_from)) : null],
    ["field.model", device.model ?? device.status?.model], ["field.software", device.status?.software_version],
  ].filter(([, value]) => value);
  if (!device.person_name && !binding) return html`<${Nothing} icon="help" title=${t("binding.none")}>${t("binding.none_text")}<//>`;
  return html`<dl class="fields">${rows.map(([name, value]) => html`<div key=${name} class="field"><dt>${t(name)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Events({ serial }) {
  const loaded = useLoaded("/events" + query({ device_sn: serial, limit: EVENTS }), EVERY_MS);
  if (loaded.error && !loaded.data) return html`<${Failed} error=${loaded.error} retry=${loaded.again} />`;
  const items = loaded.data?.items ?? [];
  if (loaded.data && items.length === 0) return html`<p class="dim">${t("events.none")}</p>`;
  return html`<ol class="timeline">${items.map((event) => html`<li key=${event.event_id} class=${event.alert_id ? "raised" : ""}>
    <time>${clock(instant(event.occurred_at ?? event.received_at))}</time>
    <div><strong>${kindOf(event.event_type)}</strong> <span class="dim raw">${event.value !== serial && event.value ? String(event.value) : ""}</span>
      ${event.alert_id && html` · <a href=${href("alerts", event.alert_id)}>${t("events.alert")}</a>`}</div></li>`)}</ol>`;
}

export function DevicePage({ serial }) {
  const [hours, setHours] = useState(24);
  const at = "/devices/" + encodeURIComponent(serial);
  const loaded = useLoaded(at, EVERY_MS);
  const vitals = useLoaded(at + "/vitals?hours=" + hours, EVERY_MS * 2);
  const track = useLoaded(at + "/track?hours=" + hours, EVERY_MS * 2);
  const newest = useNewest(serial, loaded.data?.vitals);
  const device = loaded.data;
  const mine = open.value.filter((alert) => alert.device_sn === serial);
  if (loaded.error && !device) {
    return html`<div class="page-head"><a class="tool" href=${href("devices")} title=${t("page.devices")}><${Icon} name="back" /><span class="heard">${t("page.devices")}</span></a>
      <h1 tabindex="-1">${serial}</h1></div>
      ${loaded.error.status === 404 ? html`<${Nothing} icon="devices" title=${t("device.missing")}>${serial}<//>`
        : html`<${Failed} error=${loaded.error} retry=${loaded.again} />`}`;
  }
  const series = CHARTS.filter((name) => vitals.data?.metrics?.[name]?.length);
  return html`
    <div class="page-head"><a class="tool" href=${href("devices")} title=${t("page.devices")}><${Icon} name="back" /><span class="heard">${t("page.devices")}</span></a>
      <h1 tabindex="-1">${device?.person_name || (device ? t("unknown_wearer") : serial)}</h1>
      <p class="sum" data-serial=${device ? serial : undefined}>${joined(device?.org_name, serial)}</p><${Freshness} loaded=${loaded} /></div>
    ${device && html`<ul class="tiles watch">
      <li><span>${t("devices.state")}</span><b><${DeviceState} device=${device} /></b></li>
      <li><span>${t("devices.worn")}</span><b>${worn(device.worn)}</b></li>
      <li><span>${t("devices.battery")}</span><b><${Battery} value=${device.battery_percent} charging=${device.charging} /></b></li>
      <li><span>${t("devices.seen")}</span><b>${device.last_seen_at ? html`<${Ago} at=${device.last_seen_at} />` : "–"}</b></li></ul>`}
    ${mine.length > 0 && html`<ul class="open-here">${mine.map((alert) => html`<li key=${alert.alert_id}><a href=${href("alerts", alert.alert_id)}>
      <${Severity} name=${alert.severity} /> ${kindOf(alert.event_type, alert.rule_name)} · ${t("state." + alert.state)} · <${Ago} at=${alert.last_at} /></a></li>`)}</ul>`}
    <div class="columns">
      <section class="card wide"><header><h2>${t("vitals")}</h2>
        <div class="chips" role="group" aria-label=${t("hours")}>${SPANS.map(([value, name]) => html`<button key=${value} type="button" class="chip"
          aria-pressed=${hours === value} onClick=${() => setHours(value)}>${t(name)}</button>`)}</div></header>
        <${Now} newest=${newest} />
        ${vitals.error && !vitals.data ? html`<${Failed} error=${vitals.error} retry=${vitals.again} />`
          : vitals.loading ? html`<div class="skeleton"><i></i></div>`
            : series.length === 0 ? html`<${Nothing} icon="overview" title=${t("vitals.none_span")} />`
              : html`<div class="charts">${series.map((name) => html`<${Chart} key=${name} name=${name} points=${vitals.data.metrics[name]} step=${vitals.data.step_s} />`)}</div>`}
      </section>
      <section class="card"><header><h2>${t("track")}</h2></header>
        ${track.error && !track.data ? html`<${Failed} error=${track.error} retry=${track.again} />`
          : track.data && html`<${Track} points=${track.data.points} last=${device?.last_location} />`}
        ${track.data?.truncated && html`<p class="dim">${t("track.truncated")}</p>`}
        ${device?.last_location && html`<p class="dim">${t("track.last", { place: place(device.last_location) })} · <${Ago} at=${device.last_location.at} /></p>`}</section>
      <section class="card"><header><h2>${t("binding")}</h2></header>${device && html`<${Binding} device=${device} />`}</section>
      <section class="card wide"><header><h2>${t("events")}</h2></header><${Events} serial=${serial} /></section>
    </div>`;
}
