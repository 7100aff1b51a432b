// The open alerts, as the stream tells them. A storm is taken in once per painted frame, not once
// per alert.
import { computed, signal } from "./lib.js";

export const RANKS = ["critical", "high", "medium", "low", "info"];
const RECENT_MAX = 500;
// Without painting (a hidden page) frames are taken in by this timer, milliseconds.
const UNPAINTED_MS = 120;

const alerts = new Map();
// What people have acknowledged while the server cannot store, by alert: `acknowledged_by`, `acknowledged_at`, and `count`.
let unstored = new Map();
const revision = signal(0);
export const truncated = signal(false);
// False until the first snapshot.
export const known = signal(false);
// Newest last: what changed since the page was opened.
export const recent = [];
// Offset up to which everything is in the document; 0 before the first snapshot.
export const applied = signal(0);
// Snapshots so far: each has to be confirmed anew, also one of the same offset.
export const snapshots = signal(0);
const listeners = new Set();

// `callback` gets the changes of one painted frame, after they are in the store.
export function onChanges(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

let waiting = [];
let scheduled = false;

export function snapshot(frame) {
  waiting = [];
  alerts.clear();
  for (const alert of frame.alerts) alerts.set(alert.alert_id, alert);
  truncated.value = frame.truncated === true;
  known.value = true;
  revision.value += 1;
  applied.value = frame.offset;
  snapshots.value += 1;
}

export function changed(frame) {
  waiting.push(frame);
  if (scheduled) return;
  scheduled = true;
  const timer = setTimeout(take, UNPAINTED_MS);
  requestAnimationFrame(() => {
    clearTimeout(timer);
    take();
  });
}

function take() {
  if (!scheduled) return;
  scheduled = false;
  const frames = waiting;
  waiting = [];
  if (frames.length === 0) return;
  for (const { alert } of frames) {
    if (alert.state === "resolved") alerts.delete(alert.alert_id);
    else alerts.set(alert.alert_id, alert);
  }
  for (const frame of frames) recent.push({ ...frame, seen: Date.now() });
  recent.splice(0, Math.max(0, recent.length - RECENT_MAX));
  revision.value += 1;
  applied.value = Math.max(applied.value, frames.at(-1).offset);
  for (const listener of listeners) listener(frames);
}

// Everything that is acknowledged and not stored yet.
export function pending(acknowledged) {
  if (unstored.size === 0 && acknowledged.length === 0) return;
  // What has been stored came before this, and must not wait for somebody until it is painted.
  take();
  unstored = new Map(acknowledged.map((said) => [said.alert_id, said]));
  revision.value += 1;
}

// As people see it: somebody has it in hand, whether that is stored or not.
function seen(alert) {
  const said = alert?.state === "raised" ? unstored.get(alert.alert_id) : undefined;
  // Since it happened again it waits again.
  return said && alert.count <= said.count ? { ...alert, acknowledged_by: said.acknowledged_by, acknowledged_at: said.acknowledged_at, state: "acknowledged", not_stored: true } : alert;
}

// An answer to an action may be here before the stream brings the change.
export function answered(alert) {
  const held = alerts.get(alert.alert_id);
  if (held && held.pushed_at > alert.pushed_at) return;
  if (alert.state === "resolved") alerts.delete(alert.alert_id);
  else alerts.set(alert.alert_id, alert);
  revision.value += 1;
}

export function forget() {
  alerts.clear();
  unstored = new Map();
  waiting = [];
  recent.length = 0;
  known.value = false;
  applied.value = 0;
  revision.value += 1;
}

export const find = (id) => (revision.value, seen(alerts.get(id)));

const rank = (alert) => RANKS.indexOf(alert.severity);
const waits = (alert) => (alert.state === "raised" ? 0 : 1);

// Those that wait for someone first, then the worst, then the newest.
export const open = computed(() => {
  revision.value;
  return [...alerts.values()].map(seen).sort((a, b) =>
    waits(a) - waits(b) || rank(a) - rank(b) || (a.raised_at < b.raised_at ? 1 : a.raised_at > b.raised_at ? -1 : 0));
});

export const isEmergency = (alert) => alert.severity === "critical" && alert.state === "raised";

// Critical ones that nobody has taken yet, the one that waits longest first.
export const emergencies = computed(() => open.value.filter(isEmergency).reverse());
