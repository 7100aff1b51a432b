// The time as the server has it, once a second.
import { signal } from "./lib.js";

// What must be added to this machine's clock, milliseconds.
let ahead = 0;

export const toServerTime = (local) => local + ahead;
export const serverNow = () => toServerTime(Date.now());

// A signal: reading it while rendering renders again each second.
export const now = signal(serverNow());

export function serverSaid(time) {
  const at = Date.parse(time);
  if (Number.isFinite(at)) ahead = at - Date.now();
  now.value = serverNow();
}

setInterval(() => { now.value = serverNow(); }, 1000);
