// What operators do about an alert. Each command has an id of its own, so that it can be sent again
// without being done twice.
import { api } from "./api.js";
import { answered, find } from "./alert-store.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";

const ATTEMPTS = 4;
const PAUSE_MS = 700;

const commandId = () => "page-" + Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

// What is under way, by what it is: the same once more, by a second click or key, is not a second command.
const underWay = new Map();

// Answers `{done: true}`, with a `text` if it is not stored yet, or `{done: false, text, first}` with who was first.
export function act(alertId, verb, body = {}) {
  const key = JSON.stringify([alertId, verb, body]);
  if (!underWay.has(key)) underWay.set(key, send(alertId, verb, body).finally(() => underWay.delete(key)));
  return underWay.get(key);
}

async function send(alertId, verb, body) {
  const path = "/alerts/" + encodeURIComponent(alertId) + "/" + verb;
  const command = { ...body, command_id: commandId() };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const alert = await api("POST", path, command);
      // The stream tells who has said what is not stored.
      if (alert?.stored === false) return { done: true, text: t("act.not_stored") };
      if (alert?.alert_id) answered(alert);
      return { done: true };
    } catch (error) {
      if (error.status === 409) return tooLate(alertId, error.problem);
      const again = error.status === 0 || error.status === 503;
      if (again && attempt < ATTEMPTS) await pause();
      else return { done: false, text: why(error) };
    }
  }
}

function tooLate(alertId, problem) {
  const alert = problem.present ?? find(alertId) ?? {};
  const resolved = problem.resolved_by ?? alert.resolved_by;
  const name = resolved ?? problem.acknowledged_by ?? alert.acknowledged_by;
  const at = resolved ? problem.resolved_at ?? alert.resolved_at : problem.acknowledged_at ?? alert.acknowledged_at;
  // What is not stored may be taken back: the stream tells of it.
  if (problem.present?.alert_id && problem.stored !== false) answered(problem.present);
  if (!name) return { done: false, text: t("act.too_late") };
  const key = resolved ? "act.first_resolved" : "act.first_acknowledged";
  return { done: false, first: name, text: t(key, { name, at: at ? clock(at) : "" }) };
}

function why(error) {
  if (error.status === 0) return t("act.unreachable");
  if (error.status === 503) return t("act.busy");
  if (error.status === 404) return t("act.gone");
  return t("act.failed", { why: error.message });
}
