// What was measured when it happened, beside what the watch measures now.
import { html, signal, useEffect, useMemo } from "./lib.js";
import { StreamClient } from "../stream-client.js";
import { clock, instant, metric } from "./format.js";
import { t } from "./i18n.js";
import { Ago } from "./view-parts.js";

const ORDER = ["heart_rate", "blood_oxygen", "body_temperature", "blood_pressure_systolic", "blood_pressure_diastolic", "stress"];

// The newest vital signs of one watch: a stream of their own, since a filter on devices would narrow
// the alerts too. `null` until there are some.
export function useNewest(serial) {
  const newest = useMemo(() => signal(null), [serial]);
  useEffect(() => {
    // No severity: alerts are not wanted here.
    const stream = new StreamClient({ filter: { devices: [serial], vitals: true, severity: [] } });
    stream.on("vitals", (frame) => { newest.value = frame; });
    stream.start();
    return () => stream.stop();
  }, [serial]);
  return newest;
}

export function VitalsTable({ alert }) {
  const newest = useNewest(alert.device_sn);
  const then = alert.vitals ?? {};
  const now = newest.value?.metrics ?? {};
  const names = ORDER.filter((name) => then[name] != null || now[name] != null);
  if (names.length === 0) return html`<p class="dim">${t("vitals.none")}</p>`;
  return html`<table class="vitals-table">
    <thead><tr><th scope="col"><span class="heard">${t("vitals")}</span></th><th scope="col">${t("vitals.then")}<small>${clock(instant(alert.occurred_at))}</small></th>
      <th scope="col">${t("vitals.now")}<small>${newest.value ? html`<${Ago} at=${newest.value.measured_at} />` : t("vitals.waiting")}</small></th></tr></thead>
    <tbody>${names.map((name) => html`<tr key=${name}><th scope="row">${t("metric." + name)}</th>
      <td>${metric(name, then[name])}</td><td>${metric(name, now[name])}</td></tr>`)}</tbody>
  </table>
  ${newest.value?.worn === false && html`<p class="notice">${t("vitals.not_worn")}</p>`}`;
}
