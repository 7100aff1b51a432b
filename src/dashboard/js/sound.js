// The alarm, while an emergency waits. Browsers block sound until somebody has touched the page.
import { computed, effect, signal } from "./lib.js";
import { emergencies } from "./alert-store.js";
import { soundOn } from "./prefs.js";

const EVERY_MS = 1600;

let context = null;
const running = signal(false);
// True while the browser does not let the page be heard.
export const blocked = computed(() => soundOn.value && !running.value);

function touch() {
  if (running.value) return;
  context ??= new AudioContext();
  context.onstatechange = () => { running.value = context.state === "running"; };
  context.resume().then(() => { running.value = context.state === "running"; }, () => {});
}

export function allow() {
  soundOn.value = true;
  touch();
}

// No AudioContext is made before the first touch: it would start blocked and stay so in some browsers.
for (const event of ["pointerdown", "keydown"]) addEventListener(event, touch, { capture: true, passive: true });
if (navigator.userActivation?.hasBeenActive) touch();

function tone(at, frequency, length) {
  const oscillator = context.createOscillator();
  const gain = context.createGain();
  oscillator.type = "square";
  oscillator.frequency.value = frequency;
  gain.gain.setValueAtTime(0, at);
  gain.gain.linearRampToValueAtTime(0.2, at + 0.02);
  gain.gain.setValueAtTime(0.2, at + length - 0.03);
  gain.gain.linearRampToValueAtTime(0, at + length);
  oscillator.connect(gain).connect(context.destination);
  oscillator.start(at);
  oscillator.stop(at + length);
}

export function alarm() {
  if (context?.state !== "running") return;
  const at = context.currentTime;
  tone(at, 880, 0.22);
  tone(at + 0.26, 660, 0.22);
  tone(at + 0.52, 880, 0.22);
}

// It sounds on while an emergency waits, whether its pop-up is open or not.
let repeating = null;
effect(() => {
  const wanted = emergencies.value.length > 0 && soundOn.value && running.value;
  if (wanted && !repeating) {
    alarm();
    repeating = setInterval(alarm, EVERY_MS);
  } else if (!wanted && repeating) {
    clearInterval(repeating);
    repeating = null;
  }
});
