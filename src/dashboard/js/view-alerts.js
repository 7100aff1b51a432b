// The open alerts: those that wait for someone, then those in hand; one of them in full beside.
import { html, useEffect, useMemo, useRef, useState } from "./lib.js";
import { RANKS, find, known, open, truncated } from "./alert-store.js";
import { heardAt, isStale } from "./connection.js";
import { clock } from "./format.js";
import { clear, isNarrowed, org, orgs, severities, visible, words } from "./filter.js";
import { count, number, t } from "./i18n.js";
import { holdKeys } from "./keys.js";
import { go, href } from "./router.js";
import { AlertRow } from "./view-alert-row.js";
import { AlertDetail, focusNote, quickAcknowledge } from "./view-alert-detail.js";
import { Icon, Nothing } from "./view-parts.js";

// Rows in the document at first, and how many more each time the end comes near.
const ROWS = 60;

function Filters() {
  const toggle = (name) => {
    const now = severities.value;
    severities.value = now.includes(name) ? now.filter((other) => other !== name) : [...now, name];
  };
  const tally = {};
  for (const alert of open.value) tally[alert.severity] = (tally[alert.severity] ?? 0) + 1;
  return html`<div class="filters" role="group" aria-label=${t("filter")}>
    <input data-search type="search" value=${words.value} placeholder=${t("filter.words")} aria-label=${t("filter.words")}
      onInput=${(event) => { words.value = event.target.value; }} />
    <div class="chips">${RANKS.filter((name) => tally[name] || severities.value.includes(name)).map((name) => html`
      <button key=${name} type="button" class=${"chip " + name} aria-pressed=${severities.value.includes(name)}
        onClick=${() => toggle(name)}>${t("severity." + name)} <b>${number(tally[name] ?? 0)}</b></button>`)}</div>
    ${orgs.value.length > 1 && html`<select aria-label=${t("filter.org")} value=${org.value}
      onChange=${(event) => { org.value = event.target.value; }}>
      <option value="">${t("filter.all_orgs")}</option>
      ${orgs.value.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select>`}
    ${isNarrowed.value && html`<button type="button" class="quiet" onClick=${clear}>${t("filter.clear")}</button>`}
  </div>`;
}

function List({ alerts, selected }) {
  const [room, setRoom] = useState(ROWS);
  const end = useRef(null);
  const wanted = Math.max(room, alerts.findIndex((alert) => alert.alert_id === selected) + 1);
  useEffect(() => {
    if (!end.current) return undefined;
    const watcher = new IntersectionObserver((entries) => {
      // From what is in the document, which may be more than there was room for: whoever sees the end as long as it
      // stays in sight is told once, so each step must move it.
      if (entries.some((entry) => entry.isIntersecting)) setRoom(wanted + ROWS * 2);
    }, { rootMargin: "1500px" });
    watcher.observe(end.current);
    return () => watcher.disconnect();
  }, [alerts.length > wanted, wanted]);
  const waiting = alerts.findIndex((alert) => alert.state !== "raised");
  const first = waiting === -1 ? alerts.length : waiting;
  const rows = (from, to) => alerts.slice(from, to).map((alert) => html`
    <${AlertRow} key=${alert.alert_id} alert=${alert} selected=${alert.alert_id === selected} />`);
  return html`
    ${first > 0 && html`<section aria-labelledby="waiting">
      <h2 id="waiting">${t("alerts.waiting")} <b class="tally">${number(first)}</b></h2>
      <ul class="alerts">${rows(0, Math.min(first, wanted))}</ul></section>`}
    ${first < alerts.length && wanted > first && html`<section aria-labelledby="in-hand">
      <h2 id="in-hand">${t("alerts.in_hand")} <b class="tally calm">${number(alerts.length - first)}</b></h2>
      <ul class="alerts">${rows(first, wanted)}</ul></section>`}
    ${wanted < alerts.length && html`<p ref=${end} class="rest">${t("alerts.more", { n: number(alerts.length - wanted) })}</p>`}`;
}

function useKeys(alerts, selected) {
  const held = useRef(null);
  held.current = { alerts, selected };
  useEffect(() => holdKeys((key, event) => {
    const { alerts: list, selected: id } = held.current;
    const at = list.findIndex((alert) => alert.alert_id === id);
    const to = (index) => {
      const next = list[Math.max(0, Math.min(list.length - 1, index))];
      if (!next) return false;
      go("alerts", next.alert_id);
      requestAnimationFrame(() => document.querySelector(`[data-alert="${CSS.escape(next.alert_id)}"]`)
        ?.scrollIntoView({ block: "nearest" }));
      return true;
    };
    const onButton = event.target.closest?.("button, a, dialog");
    if (key === "j" || (key === "ArrowDown" && !onButton)) return to(at + 1);
    if (key === "k" || (key === "ArrowUp" && !onButton)) return to(at === -1 ? 0 : at - 1);
    if (!id) return false;
    if (key === "Escape") return go("alerts"), true;
    if (key === "a") return quickAcknowledge(id), true;
    if (key === "c") return focusNote("comment");
    if (key === "r") return focusNote("resolve");
    if (key === "Enter" && !onButton) return document.querySelector(".detail h2")?.focus(), true;
    return false;
  }), []);
}

export function AlertsPage({ selected }) {
  const alerts = visible.value;
  useKeys(alerts, selected);
  const isOld = isStale.value;
  // Nobody is said to be fine by a page that does not know.
  const empty = useMemo(() => isOld ? html`<${Nothing} icon="help" title=${t("alerts.none_old")}>${t("alerts.none_old_text")}<//>`
    : html`<${Nothing} title=${t("alerts.none")}>${t("alerts.none_text")}<//>`, [isOld, t("alerts.none")]);
  return html`<div class=${selected ? "split with-detail" : "split"}>
    <div class="list">
      <div class="page-head">
        <h1 tabindex="-1">${t("page.alerts")}</h1>
        <p class="sum">${known.value ? count("alerts.open", open.value.length) : t("connecting")}</p>
        ${isStale.value && heardAt.value > 0 && html`<p class="freshness old">${t("fresh.old", { at: clock(heardAt.value) })}</p>`}
      </div>
      ${truncated.value && html`<p class="notice">${t("alerts.truncated")}</p>`}
      ${known.value && open.value.length > 0 && html`<${Filters} />`}
      ${known.value && (alerts.length ? html`<${List} alerts=${alerts} selected=${selected} />`
        : isNarrowed.value ? html`<${Nothing} title=${t("alerts.none_filtered")}
            ><button type="button" onClick=${clear}>${t("filter.clear")}</button><//>` : empty)}
      ${!known.value && html`<div class="skeleton" aria-hidden="true"><i></i><i></i><i></i></div>`}
    </div>
    ${selected ? html`<${AlertDetail} key=${selected} id=${selected} held=${find(selected)} />`
      : known.value && alerts.length > 0 && html`<div class="detail none"><${Icon} name="alerts" />
        <p>${t("alerts.choose")}</p><p><kbd>j</kbd> <kbd>k</kbd> · <kbd>?</kbd></p></div>`}
  </div>`;
}

export const alertHref = (id) => href("alerts", id);
