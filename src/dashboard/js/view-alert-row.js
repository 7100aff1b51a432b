// One alert of the list. An emergency that waits is large; one that has not changed is not drawn
// again.
import { Fragment, html, useState } from "./lib.js";
import { Component } from "../vendor/preact.js";
import { act } from "./actions.js";
import { isEmergency } from "./alert-store.js";
import { clock, instant, kindOf, metric, place, span, times, who } from "./format.js";
import { t } from "./i18n.js";
import { language } from "./prefs.js";
import { href } from "./router.js";
import { unwatchRow, watchRow } from "./shown.js";
import { Ago, Icon, Severity } from "./view-parts.js";

// Later than this is worth a word, milliseconds.
const LATE_MS = 60_000;

// When what is shown of it happened: it may have happened before. Alerts of older servers know the first time only.
export const happenedAt = (alert) => instant(alert.last_occurred_at ?? alert.occurred_at);
export const lateness = (alert) =>
  instant(alert.last_occurred_at ? alert.last_at : alert.raised_at) - happenedAt(alert);
export const isLate = (alert) => lateness(alert) > LATE_MS;

const VITALS = ["heart_rate", "blood_oxygen", "body_temperature"];

// The first time of what happened more than once. A watch may tell an earlier one later.
export function first(alert) {
  if (alert.count === 1) return "";
  const at = instant(alert.occurred_at);
  return t(at <= happenedAt(alert) ? "first_at" : "also_at", { at: clock(at) });
}

export function Acknowledge({ id, big }) {
  const [state, setState] = useState({ busy: false, text: "" });
  const click = async (event) => {
    event.preventDefault();
    event.stopPropagation();
    setState({ busy: true, text: "" });
    const result = await act(id, "acknowledge");
    setState({ busy: false, text: result.text ?? "" });
  };
  return html`<${Fragment}>
    <button type="button" class=${big ? "primary big" : "primary"} disabled=${state.busy} onClick=${click}>${t("acknowledge")}</button>
    ${state.text && html`<p class="told" role="status">${state.text}</p>`}
  <//>`;
}

// Somebody has it in hand, and the server could not store that yet.
export const NotStored = ({ alert }) => alert.not_stored ? html`<span class="badge warn" title=${t("not_stored.why")}>${t("not_stored")}</span>` : null;

function Facts({ alert }) {
  return html`<p class="facts">
    ${alert.org_name && html`<span>${alert.org_name}</span>`}
    <span class="serial">${alert.device_sn}</span>
    ${alert.location && html`<span><${Icon} name="pin" />${place(alert.location)}</span>`}
    ${!alert.verified && html`<span class="badge warn">${t("unverified")}</span>`}
    ${isLate(alert) && html`<span class="badge warn">${t("late", { span: span(lateness(alert)) })}</span>`}
    ${alert.back_to_normal_at && html`<span class="badge good">${t("back_to_normal")}</span>`}
  </p>`;
}

export class AlertRow extends Component {
  shouldComponentUpdate(next, state) {
    return next.alert !== this.props.alert || next.selected !== this.props.selected || this.told !== language.value;
  }

  row = { current: null };

  // Whether an emergency is in sight.
  watch() {
    if (isEmergency(this.props.alert)) watchRow(this.row.current);
    else unwatchRow(this.row.current);
  }

  componentDidMount() { this.watch(); }

  componentDidUpdate() { this.watch(); }

  componentWillUnmount() { unwatchRow(this.row.current); }

  render({ alert, selected }) {
    this.told = language.value;
    const big = isEmergency(alert);
    const kind = kindOf(alert.event_type, alert.rule_name);
    const vitals = VITALS.filter((name) => alert.vitals?.[name] !== undefined && alert.vitals?.[name] !== null);
    return html`<li ref=${this.row} class=${["alert", alert.severity, alert.state, big ? "emergency" : "", selected ? "selected" : ""].join(" ")}
      data-alert=${alert.alert_id} data-count=${alert.count}>
      <a class="open" href=${href("alerts", alert.alert_id)} aria-current=${selected ? "true" : undefined}>
        <p class="what"><${Severity} name=${alert.severity} /><span class="kind">${kind}</span>
          ${alert.count > 1 && html`<span class="badge" title=${times(alert.count)}>×${alert.count}</span>`}
          <span class="when"><${Ago} at=${alert.last_at} /></span></p>
        <p class="person">${who(alert)}</p>
        <${Facts} alert=${alert} />
        ${big && vitals.length > 0 && html`<p class="vitals">${vitals.map((name) => html`
          <span key=${name}><small>${t("metric." + name)}</small> ${metric(name, alert.vitals[name])}</span>`)}</p>`}
        ${alert.state === "acknowledged" && html`<p class="taken"><${Icon} name="check" />${t("by.acknowledged", { name: alert.acknowledged_by ?? "–" })} <${NotStored} alert=${alert} /></p>`}
      </a>
      ${alert.state === "raised" && html`<div class="act"><${Acknowledge} id=${alert.alert_id} big=${big} /></div>`}
    </li>`;
  }
}
