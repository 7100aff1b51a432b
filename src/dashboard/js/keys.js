// The keyboard. Keys are taken by the page in front: pop-up, dialog, then the page itself.
import { shortcutsOn, toggleTheme } from "./prefs.js";
import { toggleLanguage } from "./i18n.js";
import { go, route } from "./router.js";
import { state } from "./session.js";

const layers = [];

// While held, `handler(key, event)` gets keys first; true means taken. A layer with `exclusive`
// keeps them from what is below it.
export function holdKeys(handler, { exclusive = false, always = false } = {}) {
  const layer = { handler, exclusive, always };
  layers.push(layer);
  return () => { layers.splice(layers.indexOf(layer), 1); };
}

const PAGE_KEYS = { a: "alerts", d: "devices", o: "overview", s: "system" };
const CHORD_MS = 1500;
let chordUntil = 0;

const isTyping = (target) => target instanceof HTMLElement
  && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const typing = isTyping(event.target);
  for (const layer of layers.toReversed()) {
    const plain = key.length === 1 && !layer.always;
    const mine = !(typing && key !== "Escape") && (shortcutsOn.value || !plain);
    if (mine && layer.handler(key, event)) {
      event.preventDefault();
      return;
    }
    if (layer.exclusive) return;
  }
  if (typing || !shortcutsOn.value || state.value !== "in") return;
  // By when it was pressed: a busy page may come to it late.
  if (event.timeStamp < chordUntil && PAGE_KEYS[key]) {
    chordUntil = 0;
    go(PAGE_KEYS[key]);
    event.preventDefault();
  } else if (key === "g") {
    chordUntil = event.timeStamp + CHORD_MS;
  } else if (key === "t") {
    toggleTheme();
  } else if (key === "l") {
    toggleLanguage();
  } else if (key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) {
      search.focus();
      event.preventDefault();
    }
  }
});

// After a dialog: where the focus was, or the heading if that has gone or was nowhere. A heading gets it
// with the next frame, and where frames are late the dialog was in its way.
export function focusBack(before) {
  const there = before?.isConnected && before !== document.body ? before : document.querySelector("main h1");
  there?.focus();
}

// A new page is read from its heading on.
let before = route.value;
route.subscribe((now) => {
  const watch = ({ page, argument }) => (page === "devices" ? argument : null);
  // The list of watches comes back where it stood.
  const isBack = now.page === "devices" && !now.argument && Boolean(watch(before));
  const isSame = now.page === before.page && watch(now) === watch(before);
  before = now;
  if (isSame) return;
  requestAnimationFrame(() => {
    // Somebody may be typing by now: a frame can be late.
    if (!isTyping(document.activeElement)) document.querySelector("main h1")?.focus({ preventScroll: isBack });
  });
});
