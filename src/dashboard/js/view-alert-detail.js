// One alert in full: who, where, since when, how late; what was done, and what can be done.
import { html, useEffect, useRef, useState } from "./lib.js";
import { act } from "./actions.js";
import { get } from "./api.js";
import { onChanges } from "./alert-store.js";
import { announce } from "./announce.js";
import { onReturn } from "./connection.js";
import { becomeComment, draftOf, write } from "./drafts.js";
import { clock, joined, kindOf, place, span, times, who } from "./format.js";
import { t } from "./i18n.js";
import { href } from "./router.js";
import { caller } from "./session.js";
import { Timeline } from "./view-timeline.js";
import { VitalsTable } from "./view-vitals-table.js";
import { Acknowledge, first, happenedAt, isLate, lateness, NotStored } from "./view-alert-row.js";
import { Ago, Failed, Icon, Severity, Since } from "./view-parts.js";

const OUTCOMES = ["helped", "false_alarm", "test", "other"];
const NOTE_CHARS_MAX = 2000;
const NOTHING = { note: "", outcome: "" };
const SHOWN_AFTER_MS = 2500;
// Where the alert takes the place of the list, as in alerts.css.
const alone = matchMedia("(max-width: 1100px)");

// By a key: the field of the alert that is open.
export function focusNote(verb) {
  const field = document.querySelector(verb === "resolve" ? ".resolve select, .resolve textarea" : ".comment textarea");
  field?.focus();
  return Boolean(field);
}

export async function quickAcknowledge(id) {
  const result = await act(id, "acknowledge");
  announce(result.text ?? t("act.done"));
  document.querySelector("[data-told]")?.replaceChildren(result.text ?? "");
}

function useAlert(id, held) {
  const [loaded, setLoaded] = useState({ alert: null, error: null });
  useEffect(() => {
    let ended = false;
    let busy = false;
    let again = false;
    // A storm of changes of one alert costs one request at a time.
    const load = async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        const alert = await get("/alerts/" + encodeURIComponent(id));
        if (!ended) setLoaded({ alert, error: null });
      } catch (error) {
        if (!ended) setLoaded((before) => ({ ...before, error }));
      }
      busy = false;
      if (again && !ended) { again = false; load(); }
    };
    load();
    // By then the server knows that it has been on this screen.
    const later = setTimeout(load, SHOWN_AFTER_MS);
    const leave = onChanges((frames) => {
      if (frames.some(({ alert }) => alert.alert_id === id)) load();
    });
    const leaveReturn = onReturn(load);
    return () => { ended = true; clearTimeout(later); leave(); leaveReturn(); };
  }, [id]);
  return { ...loaded, alert: held ? { ...loaded.alert, ...held } : loaded.alert };
}

function Field({ name, children }) {
  return html`<div class="field"><dt>${name}</dt><dd>${children}</dd></div>`;
}

function Facts({ alert }) {
  return html`<dl class="fields">
    <${Field} name=${t("field.wearer")}>${who(alert)}${!alert.verified && html` <span class="badge warn">${t("unverified")}</span>`}<//>
    ${alert.org_name && html`<${Field} name=${t("field.org")}>${alert.org_name}<//>`}
    <${Field} name=${t("field.watch")}><a href=${href("devices", alert.device_sn)}>${alert.device_sn}</a><//>
    <${Field} name=${t("field.place")}>${alert.location
      ? html`<a class="place" href=${"geo:" + alert.location.latitude + "," + alert.location.longitude}>${place(alert.location)}</a>`
      : html`<span class="dim">${t("place.none")}</span>`}<//>
    <${Field} name=${t("field.occurred")}>${joined(clock(happenedAt(alert)), first(alert))}
      <span class=${isLate(alert) ? "badge warn" : "dim"}> ${lateness(alert) < 2000 ? t("late.not") : t("late", { span: span(lateness(alert)) })}</span><//>
    <${Field} name=${t("field.rule")}>${alert.rule_name}${alert.count > 1 && html` · ${times(alert.count)}, ${t("field.last")} <${Ago} at=${alert.last_at} />`}<//>
    ${alert.value && alert.value !== alert.device_sn && html`<${Field} name=${t("field.value")}><span class="raw">${alert.value}</span><//>`}
    <${Field} name=${t("field.who")}>${alert.resolved_by ? t("by.resolved", { name: alert.resolved_by })
      : alert.acknowledged_by ? html`${t("by.acknowledged", { name: alert.acknowledged_by })} · <${Ago} at=${alert.acknowledged_at} /> <${NotStored} alert=${alert} />`
        : html`<strong class="nobody">${t("nobody")} · <${Since} at=${alert.last_at} /></strong>`}<//>
  </dl>`;
}

// A form that sends one command. What is typed stays until it is stored, whatever becomes of the form.
function Command({ id, verb, outcomes }) {
  const form = useRef(null);
  const [state, setState] = useState({ busy: false, text: "", good: false });
  const draft = draftOf(id, verb);
  // Whoever has typed it here need not be told that it is there.
  const isOwn = useRef(false);
  const typed = () => ({ note: form.current.elements.note.value, outcome: form.current.elements.outcome?.value ?? "" });
  const submit = async (event) => {
    event.preventDefault();
    const sent = typed();
    const body = {};
    if (sent.note.trim()) body.note = sent.note.trim();
    if (sent.outcome) body.outcome = sent.outcome;
    setState({ busy: true, text: "", good: false });
    const result = await act(id, verb, body);
    // Somebody may have typed on meanwhile.
    if (result.done && draftOf(id, verb)?.note === sent.note) write(id, verb, NOTHING);
    const text = result.done ? t("act.done") : result.text;
    announce(text);
    isOwn.current = false;
    setState({ busy: false, text, good: result.done });
  };
  const send = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.current.requestSubmit();
  };
  const input = () => {
    isOwn.current = true;
    write(id, verb, typed());
  };
  const discard = () => {
    write(id, verb, NOTHING);
    form.current.elements.note.focus();
  };
  return html`<form ref=${form} class=${verb} onSubmit=${submit} onKeyDown=${send} onInput=${input}>
    ${outcomes && html`<label>${t("outcome")}<select name="outcome" required value=${draft?.outcome ?? ""}>
      <option value="">${t("outcome.choose")}</option>
      ${OUTCOMES.map((name) => html`<option key=${name} value=${name}>${t("outcome." + name)}</option>`)}</select></label>`}
    <label><span class=${outcomes ? "" : "heard"}>${t(verb + ".note")}</span><textarea name="note" rows="2" maxlength=${NOTE_CHARS_MAX} required=${!outcomes}
      value=${draft?.note ?? ""}></textarea></label>
    ${draft && !isOwn.current && html`<p class="kept"><span>${t("draft.kept", { at: clock(draft.begun) })}</span>
      <button type="button" class="quiet" onClick=${discard}>${t("draft.discard")}</button></p>`}
    <button type="submit" class=${outcomes ? "primary" : ""} disabled=${state.busy}>${t(verb)}</button>
    ${state.text && html`<p class=${state.good ? "told good" : "told"} role="status">${state.text}</p>`}
  </form>`;
}

export function AlertDetail({ id, held }) {
  const { alert, error } = useAlert(id, held);
  const there = Boolean(alert?.alert_id);
  useEffect(() => {
    if (!there || !alone.matches) return;
    // Not at the height at which the list stood.
    scrollTo(0, 0);
    document.querySelector(".detail h2")?.focus({ preventScroll: true });
  }, [there]);
  const isOthers = alert?.state === "resolved" && alert.resolved_by !== caller.value?.name;
  useEffect(() => {
    if (isOthers) becomeComment(id);
  }, [isOthers]);
  const close = html`<a class="tool" href=${href("alerts")} title=${t("close")}><${Icon} name="close" /><span class="heard">${t("close")}</span></a>`;
  if (!there) {
    return html`<aside class="detail" aria-label=${t("detail")}><header>${close}</header>
      ${error ? html`<${Failed} error=${error} />` : html`<div class="skeleton"><i></i><i></i></div>`}</aside>`;
  }
  return html`<aside class=${"detail " + alert.severity + " " + alert.state} data-detail=${id} aria-label=${t("detail")}>
    <header><div><p class="what"><${Severity} name=${alert.severity} /> <span class=${"badge state " + alert.state}>${t("state." + alert.state)}</span></p>
      <h2 tabindex="-1">${joined(kindOf(alert.event_type, alert.rule_name), who(alert))}</h2></div>${close}</header>
    ${alert.state === "raised" && html`<div class="detail-act"><${Acknowledge} id=${id} big /></div>`}
    <p data-told class="told" role="status"></p>
    <${Facts} alert=${alert} />
    <h3>${t("vitals")}</h3>
    <${VitalsTable} alert=${alert} />
    ${alert.state !== "resolved" ? html`<h3>${t("resolve")}</h3><${Command} id=${id} verb="resolve" outcomes />`
      : html`<p class="outcome">${t("outcome")}: <strong>${t("outcome." + (alert.outcome ?? "none"))}</strong></p>`}
    <h3>${t("comment")}</h3>
    <${Command} id=${id} verb="comment" />
    <h3>${t("timeline")}</h3>
    ${error && html`<p class="freshness old">${t("error.title")}</p>`}
    <${Timeline} changes=${alert.changes} shown=${alert.shown} truncated=${alert.changes_truncated} />
  </aside>`;
}
