// Tells the server what has been on the screen: what was painted while a person could see it. An
// emergency counts only once it has been in front: its pop-up, or its large row in sight. Until then neither it nor
// what was sent after it is confirmed, since a confirmation is of everything up to an offset.
import { effect } from "./lib.js";
import { applied, emergencies, find, isEmergency, onChanges, snapshots } from "./alert-store.js";
import { confirmShown, link } from "./connection.js";
import { state } from "./session.js";

// So much of a row must be in sight.
const ROW_SHARE = 0.5;

// How often an emergency had happened when it was last in front, by id.
const met = new Map();
// Emergencies that have not been in front, by id: the offset with which each came. 0 for those of a
// snapshot, of which it is not known.
const unmet = new Map();

const isMet = (alert) => met.get(alert.alert_id) >= alert.count;

onChanges((frames) => {
  for (const { alert, offset } of frames) {
    // A later change of the same one leaves its first offset: with that the server has sent it.
    if (isEmergency(alert) && !isMet(alert) && !unmet.has(alert.alert_id)) unmet.set(alert.alert_id, offset);
  }
});

snapshots.subscribe(() => {
  unmet.clear();
  for (const alert of emergencies.value) if (!isMet(alert)) unmet.set(alert.alert_id, 0);
  for (const id of met.keys()) if (!find(id)) met.delete(id);
});

// What one person has had in front, the next one has not.
effect(() => {
  if (state.value !== "out") return;
  met.clear();
  unmet.clear();
});

// Up to which offset no emergency is missing. One that is taken and not stored may be one again.
function reach() {
  let end = Infinity;
  for (const [id, offset] of unmet) {
    const alert = find(id);
    if (alert && (isEmergency(alert) || alert.not_stored) && !isMet(alert)) end = Math.min(end, offset - 1);
    else unmet.delete(id);
  }
  return end;
}

const inSight = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, intersectionRatio } of entries) {
    if (intersectionRatio >= ROW_SHARE) inSight.add(target);
    else inSight.delete(target);
  }
  look();
}, { threshold: ROW_SHARE });

// A row of the list that shows an emergency, with `data-alert` and `data-count`.
export const watchRow = (row) => watcher.observe(row);

export function unwatchRow(row) {
  watcher.unobserve(row);
  inSight.delete(row);
}

// What is in front now: id and count of each.
function inFront() {
  const popUp = document.querySelector("dialog.popup");
  // Drawn and not open yet, it covers in a moment what is seen for a frame.
  if (popUp) return popUp.open ? [[popUp.dataset.popup, Number(popUp.dataset.count)]] : [];
  if (document.querySelector("dialog[open]")) return [];
  return Array.from(inSight, ({ dataset }) => [dataset.alert, Number(dataset.count)]);
}

let asked = false;

// Something may be on the screen now that was not before.
export function look() {
  if (asked || document.visibilityState !== "visible") return;
  asked = true;
  // The first callback runs before the frame is painted, the second after it.
  requestAnimationFrame(() => {
    asked = false;
    const [snapshot, offset, front] = [snapshots.value, applied.value, inFront()];
    requestAnimationFrame(() => {
      const isOver = document.visibilityState !== "visible" || snapshots.value !== snapshot || applied.value === 0;
      if (!isOver) painted(offset, front);
    });
  });
}

function painted(offset, front) {
  for (const [id, count] of front) met.set(id, Math.max(met.get(id) ?? 0, count));
  const end = Math.min(offset, reach());
  if (end > 0) confirmShown(end);
}

effect(() => {
  if (snapshots.value > 0 && applied.value > 0 && link.value === "live") look();
});
document.addEventListener("visibilitychange", look);
