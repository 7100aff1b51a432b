// What somebody has typed and not sent: it outlasts its form when the sign-in ends, another alert is opened or the
// page is loaded anew. It stays in this window and belongs to who wrote it, by the name that the server would put under
// it: whoever signs in next neither sees nor sends it, and its writer finds it again. Who signs out by
// choice hands the place over, so that leaves nothing behind.
import { signal } from "./lib.js";

const KEY = "watchpost.drafts";
const DRAFTS_MAX = 40;

const kept = signal(read());
// Empty while it is not known who is signed in.
const writer = signal("");

function read() {
  try {
    const drafts = JSON.parse(sessionStorage.getItem(KEY));
    return Array.isArray(drafts) ? drafts : [];
  } catch {
    return [];
  }
}

function keep(drafts) {
  kept.value = drafts.slice(-DRAFTS_MAX);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(kept.value.filter((draft) => draft.writer)));
  } catch {
    // A browser that keeps nothing: drafts last as long as the page.
  }
}

// What was written before the server said by whom is theirs: nobody else has signed in meanwhile.
export function signedIn({ customer_id, name }) {
  const now = JSON.stringify([customer_id ?? null, name]);
  keep(kept.value.map((draft) => (draft.writer ? draft : { ...draft, writer: now })));
  writer.value = now;
}

export function signedOut({ byChoice }) {
  const left = byChoice ? writer.value : "";
  keep(kept.value.filter((draft) => draft.writer && draft.writer !== left));
  writer.value = "";
}

const isOf = (alert, verb) => (draft) => draft.writer === writer.value && draft.alert === alert && draft.verb === verb;

// `{note, outcome, begun}`, or nothing. Follows the draft where it is called while rendering.
export const draftOf = (alert, verb) => kept.value.find(isOf(alert, verb));

export function write(alert, verb, { note, outcome }) {
  const is = isOf(alert, verb);
  const others = kept.value.filter((draft) => !is(draft));
  const begun = kept.value.find(is)?.begun ?? Date.now();
  keep(note || outcome ? [...others, { writer: writer.value, alert, verb, note, outcome, begun }] : others);
}

// Whoever was too late to resolve has still written something worth a comment.
export function becomeComment(alert) {
  const draft = draftOf(alert, "resolve");
  if (draft?.note && !draftOf(alert, "comment")) write(alert, "comment", { note: draft.note, outcome: "" });
  write(alert, "resolve", { note: "", outcome: "" });
}
