// The pop-up of an emergency: over everything, with sound, until somebody has taken the alert or it
// was put aside on purpose. Put aside, it stays in a banner and comes again when it happens again.
import { computed, effect, html, signal, useEffect, useRef, useState } from "./lib.js";
import { act } from "./actions.js";
import { emergencies, find } from "./alert-store.js";
import { isStale } from "./connection.js";
import { clock, joined, kindOf, metric, place, span, times, who } from "./format.js";
import { count, t } from "./i18n.js";
import { focusBack, holdKeys } from "./keys.js";
import { go } from "./router.js";
import { state as signedIn } from "./session.js";
import { look } from "./shown.js";
import { blocked } from "./sound.js";
import { first, happenedAt, isLate, lateness, NotStored } from "./view-alert-row.js";
import { Icon, Since } from "./view-parts.js";

// A key that was meant for what was there before must not acknowledge, milliseconds.
const ARMED_AFTER_MS = 600;
// Taken by somebody else, it stays for so long, to be read: less if another emergency waits, milliseconds.
const TAKEN_MS = 10_000;
const TAKEN_IN_LINE_MS = 2500;
const VITALS = ["heart_rate", "blood_oxygen", "body_temperature"];

const aside = signal(new Set());
// The one on the screen. It stays until it is dealt with, by somebody, so that no key hits another one.
const current = signal(null);

const keyOf = (alert) => alert.alert_id + ":" + alert.count;
const waiting = computed(() => emergencies.value.filter((alert) => !aside.value.has(keyOf(alert))));

// How many emergencies wait behind the banner.
export const minimized = computed(() => (current.value ? 0 : emergencies.value.length - waiting.value.length));

export function restore() {
  aside.value = new Set();
}

effect(() => {
  if (current.value === null && waiting.value.length > 0) current.value = waiting.value[0].alert_id;
});

// What one person has put aside, or had in front, is not so for whoever signs in next.
effect(() => {
  if (signedIn.value !== "out") return;
  aside.value = new Set();
  current.value = null;
});

function putAside(...alerts) {
  aside.value = new Set([...aside.value, ...alerts.map(keyOf)]);
}

export function PopUp() {
  const id = current.value;
  return id === null ? null : html`<${Box} key=${id} id=${id} />`;
}

function Box({ id }) {
  const held = find(id);
  const last = useRef(held);
  if (held) last.current = held;
  const alert = held ?? last.current;
  const box = useRef(null);
  const [state, setState] = useState({ busy: false, text: "" });
  const taken = !held || held.state !== "raised";
  const takenAt = useRef(null);
  const others = waiting.value.filter((other) => other.alert_id !== id).length;
  const inLine = others > 0;

  // An answer that comes late must not send the one away that is on the screen by then.
  const next = () => {
    if (current.value === id) current.value = null;
  };
  const acknowledge = async () => {
    if (state.busy) return;
    setState({ busy: true, text: "" });
    const result = await act(id, "acknowledge");
    if (result.done && !result.text) return next();
    // Not stored yet: it stays until that has been read.
    setState({ busy: false, text: result.text });
    return undefined;
  };
  const later = () => {
    putAside(alert);
    next();
  };
  const details = () => {
    if (taken) next();
    else later();
    go("alerts", id);
  };
  const list = () => {
    putAside(...emergencies.value);
    next();
    go("alerts");
    // They are on top of it, wherever it stood.
    setTimeout(() => scrollTo(0, 0));
  };
  // The browser may close it without asking, by the button "back" of a phone for one.
  const closed = () => {
    if (taken) return next();
    if (!box.current.open) box.current.showModal();
    return box.current.focus();
  };
  const keys = useRef({});
  keys.current = { acknowledge, details, inLine, later, list, next, taken };

  useEffect(() => {
    const before = document.activeElement;
    const dialog = box.current;
    // Gone before it was drawn: the next one must not wait behind it.
    if (!dialog) return next();
    dialog.showModal();
    dialog.focus();
    let armed = false;
    const arming = setTimeout(() => {
      armed = true;
      dialog.dataset.armed = "";
    }, ARMED_AFTER_MS);
    const leave = holdKeys((key, event) => {
      if (!armed) return true;
      const now = keys.current;
      const onButton = event.target.closest?.("button");
      if (event.repeat) return key === "Enter" || key === "a" || key === "Escape";
      if (key === "Tab" || (key === "Enter" && onButton) || key === " ") return false;
      if (key === "a" || key === "Enter") now.taken ? now.next() : now.acknowledge();
      else if (key === "d") now.details();
      else if (key === "l" && now.inLine) now.list();
      else if (key === "Escape") now.taken ? now.next() : now.later();
      else return false;
      return true;
    }, { exclusive: true, always: true });
    return () => {
      clearTimeout(arming);
      leave();
      focusBack(before);
      look();
    };
  }, []);

  // What it says has changed, and with the first time it is open.
  useEffect(look, [alert?.count]);

  // Nobody need be at the screen for the next one to come.
  useEffect(() => {
    takenAt.current = taken ? takenAt.current ?? performance.now() : null;
    if (!taken) return undefined;
    const left = takenAt.current + (inLine ? TAKEN_IN_LINE_MS : TAKEN_MS) - performance.now();
    const leaving = setTimeout(next, Math.max(0, left));
    return () => clearTimeout(leaving);
  }, [taken, inLine]);

  if (!alert) return null;
  const vitals = VITALS.filter((name) => alert.vitals?.[name] != null);
  return html`<dialog ref=${box} class=${taken ? "popup taken" : "popup"} role="alertdialog" tabindex="-1" data-popup=${id} data-count=${alert.count}
    aria-labelledby="popup-kind" aria-describedby="popup-who" onCancel=${(event) => event.preventDefault()} onClose=${closed}>
    <div class="popup-head">
      <h2 id="popup-kind">${kindOf(alert.event_type, alert.rule_name)}${alert.count > 1 && html` <span class="popup-count">${times(alert.count)}</span>`}</h2>
      <p class="popup-since">${taken ? html`<${Icon} name="check" />` : html`<${Since} at=${alert.last_at} />`}</p>
    </div>
    <div class="popup-body">
      <p id="popup-who" class="popup-who">${who(alert)}</p>
      <p class="popup-where">${[alert.org_name, place(alert.location) ?? t("place.none"), alert.device_sn].filter(Boolean).map((part) => html`<span key=${part}>${joined(part)}</span>`)}</p>
      <p class="popup-when">${joined(clock(happenedAt(alert)), first(alert))}
        ${isLate(alert) && html` <span class="badge warn">${t("late", { span: span(lateness(alert)) })}</span>`}
        ${!alert.verified && html` <span class="badge warn">${t("unverified")}</span>`}</p>
      ${vitals.length > 0 && html`<ul class="popup-vitals">${vitals.map((name) => html`<li key=${name}>
        <b>${metric(name, alert.vitals[name])}</b><span>${t("metric." + name)}</span></li>`)}</ul>`}
      ${isStale.value && html`<p class="notice">${t("popup.stale")}</p>`}
      ${blocked.value && html`<p class="notice muted"><${Icon} name="muted" /> ${t("sound.blocked")}</p>`}
      ${taken && html`<p class="popup-taken" role="status">${alert.resolved_by ? t("by.resolved", { name: alert.resolved_by })
        : alert.acknowledged_by ? html`${t("by.acknowledged", { name: alert.acknowledged_by })} <${NotStored} alert=${alert} />` : t("state.resolved")}</p>`}
      ${state.text && html`<p class="told" role="alert">${state.text}</p>`}
    </div>
    <div class="popup-foot">
      <div class="popup-act">
        ${taken ? html`<button type="button" class="primary big" onClick=${next}>${t("popup.next")}</button>`
          : html`<button type="button" class="primary big" disabled=${state.busy} onClick=${acknowledge}>${t("acknowledge")} <kbd>A</kbd></button>`}
        <button type="button" class="big" onClick=${details}>${t("popup.details")} <kbd>D</kbd></button>
        ${!taken && html`<button type="button" class="quiet" onClick=${later}>${t("popup.aside")} <kbd>Esc</kbd></button>`}
      </div>
      ${inLine && html`<button type="button" class="popup-more" onClick=${list}>
        <span>${count("popup.more", others)}</span> <span class="popup-list">${t("popup.list")} <kbd>L</kbd></span></button>`}
    </div>
  </dialog>`;
}
