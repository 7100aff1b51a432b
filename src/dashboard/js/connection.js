// Whether what the page shows is true now: the stream, its state, and the age of what is shown.
import { computed, signal } from "./lib.js";
import { now, serverNow, serverSaid, toServerTime } from "./clock.js";
import { StreamClient } from "../stream-client.js";
import * as store from "./alert-store.js";

// Without a word for this long, what is shown is called old, milliseconds. The client asks every 10 s.
const STALE_MS = 13_000;
const LOOK_MS = 500;

// "connecting", "live", "lost".
export const link = signal("connecting");
// When the server last said anything, by its clock; 0 for never.
export const heardAt = signal(0);
// By this machine's clock.
export const retryAt = signal(0);
// Since when the connection is lost, by the server's clock; 0 if there has been none.
export const lostAt = signal(0);
// The newest `stats` frame.
export const stats = signal(null);
export const epoch = signal(null);

export const isStale = computed(() => link.value !== "live" || now.value - heardAt.value > STALE_MS);

const returns = new Set();
// `callback` is called with the instant of the loss when a lost connection is back.
export function onReturn(callback) {
  returns.add(callback);
  return () => returns.delete(callback);
}

let stream = null;
// As `lostAt`, or since when it is tried for the first time.
let missingSince = 0;
let wantsStats = false;
// The present connection has said what is acknowledged and not stored: before its first answer, or there is nothing.
let toldPending = false;

export function start(onSignedOut) {
  stop();
  link.value = "connecting";
  stream = new StreamClient({ stats: wantsStats });
  stream.on("state", (change) => follow(change, onSignedOut));
  stream.on("hello", (frame) => {
    serverSaid(frame.server_time);
    toldPending = false;
    epoch.value = frame.epoch;
  });
  stream.on("snapshot", store.snapshot);
  stream.on("alert", store.changed);
  stream.on("pending", (frame) => {
    toldPending = true;
    store.pending(frame.acknowledged);
  });
  stream.on("stats", (frame) => { stats.value = frame; });
  stream.start();
}

function follow(change, onSignedOut) {
  noteHeard();
  if (change.state === "live") {
    const since = link.value === "lost" ? missingSince : 0;
    link.value = "live";
    if (!toldPending) store.pending([]);
    if (since) for (const callback of returns) callback(since);
  } else if (change.state === "waiting" || change.state === "refused") {
    if (link.value !== "lost") {
      lostAt.value = heardAt.value;
      missingSince = heardAt.value || serverNow();
    }
    link.value = "lost";
    retryAt.value = change.retryAt ?? 0;
    stats.value = null;
  } else if (change.state === "signed-out") {
    onSignedOut();
  }
}

function noteHeard() {
  if (stream?.heardAt) heardAt.value = toServerTime(stream.heardAt);
}
setInterval(noteHeard, LOOK_MS);

export function stop() {
  const old = stream;
  stream = null;
  old?.stop();
  heardAt.value = 0;
  stats.value = null;
}

export function retryNow() {
  if (link.value !== "lost") return;
  const old = stream;
  // The client comes back at once when it hears that the network is back.
  globalThis.dispatchEvent(new Event("online"));
  if (old?.state === "refused") old.start();
}

// The System page asks for `stats` frames while it is open.
export function askForStats(wanted) {
  if (wantsStats === wanted) return;
  wantsStats = wanted;
  if (!wanted) stats.value = null;
  stream?.subscribe({}, { stats: wanted });
}

// Tells the server what a person can have seen.
export const confirmShown = (offset) => stream?.shown(offset);
