// Which of the open alerts the list shows. An emergency that nobody has taken is never hidden.
import { computed, signal } from "./lib.js";
import { isEmergency, open } from "./alert-store.js";
import { kindOf } from "./format.js";

export const severities = signal([]);
export const words = signal("");
export const org = signal("");

const has = (text, word) => text && text.toLowerCase().includes(word);

function matches(alert, wanted) {
  return wanted.every((word) => [alert.person_name, alert.person_id, alert.device_sn, alert.org_name, alert.rule_name,
    alert.event_type, alert.acknowledged_by, kindOf(alert.event_type, alert.rule_name)].some((text) => has(text, word)));
}

export const isNarrowed = computed(() => severities.value.length > 0 || words.value.trim() !== "" || org.value !== "");

export const visible = computed(() => {
  if (!isNarrowed.value) return open.value;
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  return open.value.filter((alert) => isEmergency(alert)
    || ((severities.value.length === 0 || severities.value.includes(alert.severity))
      && (org.value === "" || alert.org_name === org.value)
      && matches(alert, wanted)));
});

export const orgs = computed(() =>
  [...new Set(open.value.map((alert) => alert.org_name).filter(Boolean))].sort((a, b) => a.localeCompare(b)));

export function clear() {
  severities.value = [];
  words.value = "";
  org.value = "";
}
