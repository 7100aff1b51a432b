// What happened to an alert, newest first, and who has had it on the screen.
import { html } from "./lib.js";
import { clock, instant } from "./format.js";
import { t } from "./i18n.js";

export function Timeline({ changes, shown, truncated }) {
  if (!changes) return html`<div class="skeleton"><i></i></div>`;
  const entries = changes.map((change) => ({ ...change, at: instant(change.at) }));
  for (const { viewer, at } of shown ?? []) entries.push({ transition: "shown", actor: viewer, at: instant(at), offset: 0 });
  entries.sort((a, b) => b.at - a.at || b.offset - a.offset);
  return html`<ol class="timeline">${entries.map((entry, index) => html`
    <li key=${entry.offset + ":" + index} class=${entry.transition}>
      <time dateTime=${new Date(entry.at).toISOString()}>${clock(entry.at)}</time>
      <div><strong>${t("transition." + entry.transition)}</strong>${entry.actor && html` ${t("by", { name: entry.actor })}`}
        ${entry.outcome && html` · ${t("outcome." + entry.outcome)}`}
        ${entry.note && html`<p class="note">${entry.note}</p>`}</div>
    </li>`)}</ol>
    ${truncated && html`<p class="dim">${t("timeline.truncated")}</p>`}`;
}
