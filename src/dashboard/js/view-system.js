// The pipeline as it is built, drawn live: doors, shards, writer, database, sessions.
import { html, useEffect } from "./lib.js";
import { askForStats, stats } from "./connection.js";
import { bytes, instant, span } from "./format.js";
import { number, t } from "./i18n.js";
import { isAdmin, isCustomers } from "./session.js";
import { useLoaded } from "./use-loaded.js";
import { Failed, Freshness, Icon, Nothing } from "./view-parts.js";

const EVERY_MS = 2000;
// Where it hurts: beyond these a box is marked.
const QUEUE_HURTS = 1000;
const LAG_HURTS_MS = 1000;
const FULL_HURTS = 0.8;

const rate = (value) => (value === null || value === undefined ? "–" : number(value, value < 10 ? 1 : 0) + t("unit.per_s"));
const ms = (value) => (value === null || value === undefined ? "–" : number(value, value < 10 ? 1 : 0) + " ms");
const plain = (value) => (value === null || value === undefined ? "–" : number(value, 1));

function Stage({ name, state, hurts, rows, children }) {
  const bad = state && state !== "running";
  return html`<section class=${["stage", bad ? "down" : hurts ? "hurts" : ""].join(" ")} aria-label=${t("system." + name)}>
    <header><h2>${t("system." + name)}</h2>${state && html`<span class=${bad ? "badge state down" : "badge state running"}>${t("actor." + state)}</span>`}</header>
    <dl>${rows.map(([key, value, main]) => html`<div key=${key} class=${main ? "main" : ""}><dt>${t("system." + key)}</dt><dd>${value}</dd></div>`)}</dl>
    ${children}
  </section>`;
}

function Meter({ name, used, most, text }) {
  const part = most ? Math.min(1, used / most) : 0;
  return html`<div class=${part > FULL_HURTS ? "meter hurts" : "meter"}><span>${name}</span>
    <svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=${name + " " + Math.round(part * 100) + "%"}><rect width="100" height="6" class="track" /><rect width=${part * 100} height="6" /></svg>
    <b>${text}</b></div>`;
}

const Arrow = () => html`<div class="flow" aria-hidden="true"><i></i></div>`;

function Codes({ codes }) {
  const entries = Object.entries(codes ?? {}).filter(([, n]) => n > 0);
  if (entries.length === 0) return null;
  return html`<ul class="codes">${entries.map(([code, n]) => html`<li key=${code} class=${code >= "400" ? "bad" : ""}><span>${code}</span> <b>${plain(n)}</b></li>`)}</ul>`;
}

function Pipeline({ pipeline }) {
  const { doors, shards, writer, database, sessions, process } = pipeline;
  const queue = shards.reduce((sum, shard) => sum + shard.queue, 0);
  const full = doors.permits_max_kib ? doors.permits_used_kib / doors.permits_max_kib : 0;
  return html`<div class="pipeline">
    <${Stage} name="doors" hurts=${full > FULL_HURTS} rows=${[["requests", rate(doors.requests_per_s), true], ["in_flight", plain(doors.in_flight)], ["p50", ms(doors.p50_ms)], ["p95", ms(doors.p95_ms)], ["p99", ms(doors.p99_ms)]]}>
      <${Meter} name=${t("system.permits")} used=${doors.permits_used_kib} most=${doors.permits_max_kib} text=${bytes(doors.permits_used_kib * 1024)} />
      <${Codes} codes=${doors.by_code} /><//>
    <${Arrow} />
    <${Stage} name="shards" state=${shards.find((shard) => shard.state !== "running")?.state ?? "running"} hurts=${queue > QUEUE_HURTS}
      rows=${[["devices", number(shards.reduce((sum, shard) => sum + shard.devices, 0)), true], ["queue", number(queue)], ["restarts", number(shards.reduce((sum, shard) => sum + shard.restarts, 0))]]}>
      <ul class="shards">${shards.map((shard) => html`<li key=${shard.name} class=${shard.state === "running" ? "" : "down"}><span>${shard.name}</span>
        <b>${number(shard.queue)}</b><small>${t("system.restarts")} ${number(shard.restarts)}</small></li>`)}</ul><//>
    <${Arrow} />
    <${Stage} name="writer" state=${writer.state} hurts=${writer.queue > QUEUE_HURTS || writer.commit_lag_ms > LAG_HURTS_MS}
      rows=${[["rows", rate(writer.rows_per_s), true], ["batches", rate(writer.batches_per_s)], ["per_batch", plain(writer.rows_per_batch)], ["queue", number(writer.queue)], ["commit_p50", ms(writer.commit_p50_ms)], ["commit_p99", ms(writer.commit_p99_ms)], ["lag", ms(writer.commit_lag_ms)], ["restarts", number(writer.restarts)]]} />
    <${Arrow} />
    <${Stage} name="database" rows=${[["size", bytes(database.size_bytes), true], ["wal", bytes(database.wal_bytes)], ["free", bytes(database.disk_free_bytes)], ["checkpoint", ms(database.checkpoint_last_ms)]]}>
      <${Meter} name=${t("system.readers")} used=${database.readers_used} most=${database.readers_max} text=${number(database.readers_used) + " / " + number(database.readers_max)} /><//>
    <${Arrow} />
    <${Stage} name="sessions" state=${sessions.state} hurts=${sessions.offset_committed - sessions.offset_published > QUEUE_HURTS}
      rows=${[["open", number(sessions.open), true], ["to_socket_p50", ms(sessions.to_socket_p50_ms)], ["to_socket_p99", ms(sessions.to_socket_p99_ms)], ["committed", number(sessions.offset_committed)], ["published", number(sessions.offset_published)], ["behind", number(sessions.slowest_behind)], ["restarts", number(sessions.restarts)]]} />
  </div>
  <ul class="tiles">
    <li><span>${t("system.memory")}</span><b>${bytes(process.rss_bytes)}</b></li>
    <li><span>${t("system.cpu")}</span><b>${process.cpu_percent === null || process.cpu_percent === undefined ? "–" : number(process.cpu_percent) + "%"}</b></li>
    <li><span>${t("system.uptime")}</span><b>${span(process.uptime_s * 1000)}</b></li></ul>`;
}

function Actors({ actors }) {
  return html`<section class="card wide"><header><h2>${t("system.actors")}</h2></header><div class="table-box"><table class="table">
    <thead><tr><th scope="col">${t("system.actor")}</th><th scope="col">${t("devices.state")}</th><th scope="col">${t("system.queue")}</th><th scope="col">${t("system.restarts")}</th><th scope="col">${t("system.last_error")}</th></tr></thead>
    <tbody>${actors.map((actor) => html`<tr key=${actor.name}><th scope="row">${actor.name}</th>
      <td data-name=${t("devices.state")}><span class=${actor.state === "running" ? "badge state running" : "badge state down"}>${t("actor." + actor.state)}</span></td>
      <td data-name=${t("system.queue")}>${number(actor.queue_length ?? 0)}</td><td data-name=${t("system.restarts")}>${number(actor.restarts ?? 0)}</td>
      <td data-name=${t("system.last_error")} class="raw">${actor.last_error ?? "–"}</td></tr>`)}</tbody></table></div></section>`;
}

export function SystemPage() {
  const forbidden = isCustomers();
  const loaded = useLoaded(forbidden ? null : "/system", EVERY_MS);
  useEffect(() => {
    if (!isAdmin()) return undefined;
    askForStats(true);
    return () => askForStats(false);
  }, [isAdmin()]);
  const data = loaded.data;
  const frame = stats.value;
  const fresh = frame ? { at: instant(frame.at), every: 1000, error: null } : loaded;
  const pipeline = frame?.pipeline ?? data?.pipeline;
  const head = html`<div class="page-head"><h1 tabindex="-1">${t("page.system")}</h1>
    ${data && html`<p class="sum">${t("system.version", { version: data.version })}</p>`}<${Freshness} loaded=${fresh} /></div>`;
  if (forbidden) return html`${head}<${Failed} error=${{ status: 403 }} />`;
  if (loaded.error && !data) return html`${head}<${Failed} error=${loaded.error} retry=${loaded.again} />`;
  if (!data) return html`${head}<div class="skeleton" aria-hidden="true"><i></i><i></i><i></i></div>`;
  return html`${head}
    ${!data.ready && html`<p class="notice bad"><${Icon} name="help" /> ${t("system.not_ready")}</p>`}
    ${pipeline ? html`<p class="dim">${t("system.window", { s: pipeline.window_s })}</p><${Pipeline} pipeline=${pipeline} />`
      : html`<${Nothing} icon="system" title=${t("system.no_pipeline")} />`}
    <${Actors} actors=${data.actors ?? []} />`;
}
