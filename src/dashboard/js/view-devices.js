// All watches: search, and the state that each is in.
import { html, useEffect, useState } from "./lib.js";
import { get, query } from "./api.js";
import { now } from "./clock.js";
import { instant, joined, percent, span } from "./format.js";
import { number, t } from "./i18n.js";
import { href } from "./router.js";
import { useLoaded } from "./use-loaded.js";
import { Ago, Failed, Freshness, Nothing } from "./view-parts.js";

const STATES = ["online", "silent", "not_worn", "charging", "unknown"];
const PAGE_ROWS = 100;
const EVERY_MS = 15_000;
const TYPING_MS = 250;

export const DeviceState = ({ device }) => html`<span class=${"badge state " + (device.state ?? "unknown")}>
  ${t("device." + (device.state ?? "unknown"))}${device.silent_since ? html` <small>${span(now.value - instant(device.silent_since))}</small>` : ""}</span>`;

export function Battery({ value, charging }) {
  if (value === null || value === undefined) return html`<span class="dim">–</span>`;
  const width = Math.max(1, Math.round(value * 0.16));
  return html`<span class=${value <= 20 && !charging ? "battery low" : "battery"}>
    <svg viewBox="0 0 22 12" width="22" height="12" aria-hidden="true"><rect x="0.5" y="0.5" width="18" height="11" rx="2.5" class="shell" />
      <rect x="19.5" y="4" width="2" height="4" rx="1" class="tip" /><rect x="1.5" y="1.5" width=${width} height="9" rx="1.5" class="level" /></svg>
    ${percent(value)}${charging ? html`<span class="heard">${t("device.charging")}</span><span aria-hidden="true">⚡</span>` : ""}</span>`;
}

// What was searched for, and where the list stood, for whoever comes back from a watch.
const kept = { wanted: { search: "", state: "", pages: 0 }, rows: 0, top: 0 };

// The pages behind the first, each time that it is renewed: no row is older than the list says.
function useFurther(path, first, pages) {
  const nothing = { path, items: [], next: first?.next, error: null };
  const [further, setFurther] = useState(nothing);
  useEffect(() => {
    if (!first || pages === 0) return undefined;
    const ended = new AbortController();
    const load = async () => {
      const all = { path, items: [], next: first.next, error: null };
      for (let page = 0; page < pages && all.next; page += 1) {
        const answer = await get(path + "&" + new URLSearchParams({ cursor: all.next }), { signal: ended.signal });
        all.items.push(...answer.items);
        all.next = answer.next;
      }
      return all;
    };
    load().then(setFurther, (error) => {
      if (!ended.signal.aborted) setFurther((before) => ({ ...(before.path === path ? before : nothing), error }));
    });
    return () => ended.abort();
  }, [path, first, pages]);
  return pages > 0 && further.path === path ? further : nothing;
}

const worn = (value) => (value === null || value === undefined ? "–" : t(value ? "worn.yes" : "worn.no"));

export function DevicesPage() {
  const [search, setSearch] = useState(kept.wanted.search);
  const [wanted, setWanted] = useState(kept.wanted);
  kept.wanted = wanted;
  const want = (change) => setWanted((before) => ({ ...before, pages: 0, ...change(before) }));
  useEffect(() => {
    if (search.trim() === wanted.search) return undefined;
    const timer = setTimeout(() => want(() => ({ search: search.trim() })), TYPING_MS);
    return () => clearTimeout(timer);
  }, [search]);
  const path = "/devices" + query({ search: wanted.search, state: wanted.state, limit: PAGE_ROWS });
  const loaded = useLoaded(path, EVERY_MS);
  const further = useFurther(path, loaded.data, wanted.pages);
  const items = [...(loaded.data?.items ?? []), ...further.items];
  const isBack = kept.top > 0 && items.length > 0 && (items.length >= kept.rows || !further.next);
  useEffect(() => {
    if (!isBack) return;
    scrollTo(0, kept.top);
    kept.top = 0;
  }, [isBack]);
  const leave = (event) => {
    if (event.target.closest("a")) Object.assign(kept, { rows: items.length, top: scrollY });
  };
  return html`
    <div class="page-head"><h1 tabindex="-1">${t("page.devices")}</h1>
      ${loaded.data && html`<p class="sum">${number(items.length)}${further.next ? "+" : ""}</p>`}
      <${Freshness} loaded=${loaded} /></div>
    <div class="filters" role="group" aria-label=${t("filter")}>
      <input data-search type="search" value=${search} placeholder=${t("devices.search")} aria-label=${t("devices.search")}
        onInput=${(event) => setSearch(event.target.value)} />
      <div class="chips">${STATES.map((name) => html`<button key=${name} type="button" class=${"chip " + name} aria-pressed=${wanted.state === name}
        onClick=${() => want(({ state }) => ({ state: state === name ? "" : name }))}>${t("device." + name)}</button>`)}</div>
    </div>
    ${loaded.error && !loaded.data && html`<${Failed} error=${loaded.error} retry=${loaded.again} />`}
    ${loaded.loading && html`<div class="skeleton" aria-hidden="true"><i></i><i></i><i></i></div>`}
    ${loaded.data && items.length === 0 && html`<${Nothing} icon="devices" title=${t(wanted.search || wanted.state ? "devices.none_found" : "devices.none")}
      >${t(wanted.search || wanted.state ? "devices.none_found_text" : "devices.none_text")}<//>`}
    ${items.length > 0 && html`<div class="table-box"><table class="table devices" onClick=${leave}>
      <thead><tr><th scope="col">${t("devices.wearer")}</th><th scope="col">${t("devices.state")}</th><th scope="col">${t("devices.battery")}</th>
        <th scope="col">${t("devices.worn")}</th><th scope="col">${t("devices.seen")}</th><th scope="col">${t("devices.alerts")}</th></tr></thead>
      <tbody>${items.map((device) => html`<tr key=${device.device_sn}>
        <th scope="row"><a class="row-link" href=${href("devices", device.device_sn)}><b>${device.person_name || t("unknown_wearer")}</b>
          <span class="dim">${joined(device.org_name, device.device_sn)}</span></a></th>
        <td data-name=${t("devices.state")}><${DeviceState} device=${device} /></td>
        <td data-name=${t("devices.battery")}><${Battery} value=${device.battery_percent} charging=${device.charging} /></td>
        <td data-name=${t("devices.worn")}>${worn(device.worn)}</td>
        <td data-name=${t("devices.seen")}>${device.last_seen_at ? html`<${Ago} at=${device.last_seen_at} />` : "–"}</td>
        <td data-name=${t("devices.alerts")} class=${device.open_alerts ? "" : "none"}>${device.open_alerts ? html`<span class="tally">${number(device.open_alerts)}</span>` : html`<span class="dim">0</span>`}</td>
      </tr>`)}</tbody></table></div>`}
    ${further.error && html`<${Failed} error=${further.error} retry=${loaded.again} />`}
    ${further.next && !further.error && html`<button type="button" class="more" onClick=${() => want(({ pages }) => ({ pages: pages + 1 }))}>${t("devices.more")}</button>`}`;
}

export { worn };
