// What a screen reader says: emergencies at once, the rest when it has time.
import { html, signal } from "./lib.js";
import { isEmergency, onChanges } from "./alert-store.js";
import { kindOf, who } from "./format.js";
import { count, t } from "./i18n.js";

const urgent = signal("");
const polite = signal("");

export function announce(text) {
  polite.value = text;
}

onChanges((frames) => {
  const raised = frames.filter(({ change }) => change.transition === "raised" || change.transition === "repeated");
  const emergency = raised.findLast(({ alert }) => isEmergency(alert));
  if (emergency) {
    const { alert } = emergency;
    urgent.value = t("announce.emergency", { kind: kindOf(alert.event_type, alert.rule_name), who: who(alert) });
  } else if (raised.length > 0) {
    polite.value = count("announce.raised", raised.length);
  }
});

export const Announcer = () => html`
  <div class="heard" aria-live="assertive">${urgent.value}</div>
  <div class="heard" aria-live="polite">${polite.value}</div>`;
