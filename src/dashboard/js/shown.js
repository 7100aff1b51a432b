// Tells the server what has been on the screen: what was painted while a person could see it.
import { effect } from "./lib.js";
import { applied, snapshots } from "./alert-store.js";
import { confirmShown, link } from "./connection.js";

let asked = false;

function painted() {
  asked = false;
  if (document.visibilityState === "visible" && applied.value > 0) confirmShown(applied.value);
}

function afterPaint() {
  if (asked || document.visibilityState !== "visible") return;
  asked = true;
  // The first callback runs before the frame with the change is painted, the second after it.
  requestAnimationFrame(() => requestAnimationFrame(painted));
}

effect(() => {
  if (snapshots.value > 0 && applied.value > 0 && link.value === "live") afterPaint();
});
document.addEventListener("visibilitychange", afterPaint);
