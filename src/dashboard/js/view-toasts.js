// New alerts that are no emergencies, said on the other pages too, so that they have been seen.
import { effect, html, signal } from "./lib.js";
import { isEmergency, onChanges } from "./alert-store.js";
import { joined, kindOf, who } from "./format.js";
import { count, t } from "./i18n.js";
import { href, route } from "./router.js";
import { state } from "./session.js";
import { Severity } from "./view-parts.js";

const SHOWN_MS = 8000;
const AT_ONCE_MAX = 3;
const toasts = signal([]);
const more = signal(0);
let timer = null;

onChanges((frames) => {
  if (route.value.page === "alerts") return;
  const raised = frames.filter(({ change, alert }) => change.transition === "raised" && !isEmergency(alert));
  if (raised.length === 0) return;
  const all = [...toasts.value, ...raised.map(({ alert }) => alert)];
  more.value += Math.max(0, all.length - AT_ONCE_MAX);
  toasts.value = all.slice(-AT_ONCE_MAX);
  clearTimeout(timer);
  timer = setTimeout(forget, SHOWN_MS);
});

function forget() {
  toasts.value = [];
  more.value = 0;
}

effect(() => { if (state.value === "out") forget(); });

export function Toasts() {
  if (toasts.value.length === 0 || route.value.page === "alerts") return null;
  return html`<aside class="toasts" aria-label=${t("toasts")}>
    ${toasts.value.map((alert) => html`<a key=${alert.alert_id} class=${"toast " + alert.severity}
      href=${href("alerts", alert.alert_id)}><${Severity} name=${alert.severity} />
      <span>${joined(kindOf(alert.event_type, alert.rule_name), who(alert))}</span></a>`)}
    ${more.value > 0 && html`<a class="toast" href=${href("alerts")}>${count("toasts.more", more.value)}</a>`}
  </aside>`;
}
