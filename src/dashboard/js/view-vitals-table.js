// What was measured when it happened, beside what the watch measures now.
import { html, signal, useEffect, useMemo } from "./lib.js";
import { StreamClient } from "../stream-client.js";
import { now } from "./clock.js";
import { clock, instant, metric } from "./format.js";
import { t } from "./i18n.js";
import { useLoaded } from "./use-loaded.js";
import { happenedAt } from "./view-alert-row.js";
import { Ago } from "./view-parts.js";

const ORDER = ["heart_rate", "blood_oxygen", "body_temperature", "blood_pressure_systolic", "blood_pressure_diastolic", "stress"];
const EVERY_MS = 30_000;
// A watch measures every 10 minutes at the least: what is older is not what it would measure now.
const LIVE_MS = 15 * 60_000;
// Values of one report need no age each.
const TOGETHER_MS = 60_000;

const NOTHING = { values: {}, at: 0, saidAt: 0, worn: null };
export const isOld = (at) => now.value - at > LIVE_MS;

// With one more record: of each vital sign the newest value and its time, whatever the order they come in.
function take(known, record) {
  const at = instant(record.measured_at);
  const values = { ...known.values };
  // What a watch repeats that nobody wears was not measured.
  const metrics = record.worn === false ? {} : record.metrics;
  for (const [name, value] of Object.entries(metrics)) {
    if (value != null && !(values[name]?.at > at)) values[name] = { value, at };
  }
  const isNewest = at >= known.saidAt;
  return {
    values,
    at: Math.max(0, ...Object.values(values).map((value) => value.at)),
    saidAt: isNewest ? at : known.saidAt,
    worn: isNewest ? record.worn : known.worn,
  };
}

// The newest known vital signs of one watch: `stored`, what the API says of them, then what comes. A stream of
// their own, since a filter on devices would narrow the alerts too.
export function useNewest(serial, stored) {
  const newest = useMemo(() => signal(NOTHING), [serial]);
  useEffect(() => {
    if (stored) newest.value = take(newest.value, stored);
  }, [newest, stored]);
  useEffect(() => {
    // No severity: alerts are not wanted here.
    const stream = new StreamClient({ filter: { devices: [serial], vitals: true, severity: [] } });
    stream.on("vitals", (frame) => { newest.value = take(newest.value, frame); });
    stream.start();
    return () => stream.stop();
  }, [newest]);
  return newest;
}

// When it was measured; it says so loudly where that is long ago.
export const Measured = ({ at }) => html`<span class=${isOld(at) ? "measured old" : "measured"}><${Ago} at=${at} /></span>`;

function Newest({ name, value, newestAt }) {
  if (!value) return html`<td>–</td>`;
  return html`<td class=${isOld(value.at) ? "old" : ""}>${metric(name, value.value)}
    ${newestAt - value.at > TOGETHER_MS && html`<small><${Ago} at=${value.at} /></small>`}</td>`;
}

export function VitalsTable({ alert }) {
  const loaded = useLoaded("/devices/" + encodeURIComponent(alert.device_sn), EVERY_MS);
  const { values, at, worn } = useNewest(alert.device_sn, loaded.data?.vitals).value;
  const then = alert.vitals ?? {};
  const names = ORDER.filter((name) => then[name] != null || values[name]);
  return html`${names.length === 0 ? html`<p class="dim">${t("vitals.none")}</p>` : html`<table class="vitals-table">
    <thead><tr><th scope="col"><span class="heard">${t("vitals")}</span></th><th scope="col">${t("vitals.then")}<small>${clock(happenedAt(alert))}</small></th>
      <th scope="col" class=${at && isOld(at) ? "old" : ""}>${t(at && isOld(at) ? "vitals.last" : "vitals.now")}<small>${at ? html`<${Measured} at=${at} />` : t("vitals.waiting")}</small></th></tr></thead>
    <tbody>${names.map((name) => html`<tr key=${name}><th scope="row">${t("metric." + name)}</th>
      <td>${metric(name, then[name])}</td><${Newest} name=${name} value=${values[name]} newestAt=${at} /></tr>`)}</tbody>
  </table>`}
  ${worn === false && html`<p class="notice">${t("vitals.not_worn")}</p>`}`;
}
