// The shortcuts, by "?".
import { effect, html, signal, useEffect, useRef } from "./lib.js";
import { t } from "./i18n.js";
import { focusBack, holdKeys } from "./keys.js";
import { shortcutsOn } from "./prefs.js";
import { state } from "./session.js";
import { look } from "./shown.js";

export const helpOpen = signal(false);
effect(() => { if (state.value === "out") helpOpen.value = false; });

const KEYS = [
  [["j", "k"], "keys.move"], [["Enter"], "keys.open"], [["a"], "keys.acknowledge"], [["c"], "keys.comment"],
  [["r"], "keys.resolve"], [["/"], "keys.search"], [["g", "a"], "keys.go"], [["t"], "keys.theme"],
  [["l"], "keys.language"], [["Esc"], "keys.close"], [["?"], "keys.help"],
];

holdKeys((key) => {
  if (key !== "?" || state.value !== "in") return false;
  helpOpen.value = !helpOpen.value;
  return true;
});

export const Help = () => (helpOpen.value ? html`<${Dialog} />` : null);

function Dialog() {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    const dialog = box.current;
    dialog.showModal();
    const leave = holdKeys((key) => {
      if (key !== "?" && key !== "Escape") return false;
      helpOpen.value = false;
      return true;
    }, { exclusive: true, always: true });
    return () => {
      leave();
      look();
      // Back to where it was, unless somebody has gone elsewhere by now.
      const now = document.activeElement;
      if (now === document.body || dialog.contains(now)) focusBack(before);
    };
  }, []);
  return html`<dialog ref=${box} class="help" aria-labelledby="help-title" onClose=${() => { helpOpen.value = false; }}>
    <h2 id="help-title">${t("keys.title")}</h2>
    <dl>${KEYS.map(([keys, text]) => html`<div key=${text}>
      <dt>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${t(text)}</dd></div>`)}</dl>
    <p>${t("keys.popup")}</p>
    <label class="check"><input type="checkbox" checked=${shortcutsOn.value}
      onChange=${(event) => { shortcutsOn.value = event.target.checked; }} /> ${t("keys.on")}</label>
    <button type="button" onClick=${() => { helpOpen.value = false; }}>${t("close")}</button>
  </dialog>`;
}
