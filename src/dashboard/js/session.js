// Who is signed in at this browser. The session itself is in a cookie that scripts cannot read.
import { signal } from "./lib.js";
import { ApiError, api, get, onSignedOut } from "./api.js";
import { keep, keeps, recall } from "./prefs.js";
import * as connection from "./connection.js";
import * as drafts from "./drafts.js";
import * as store from "./alert-store.js";

// "unknown" until the server has been asked, then "in" or "out".
export const state = signal("unknown");
export const caller = signal(null);
// Key of the text that says why signing in failed; somebody else may be signed in all the same.
export const failure = signal("");

export const isAdmin = () => caller.value !== null && !caller.value.customer_id;
// Sees one customer and nothing of the server.
export const isCustomers = () => Boolean(caller.value?.customer_id);

function leave({ byChoice = false } = {}) {
  connection.stop();
  store.forget();
  drafts.signedOut({ byChoice });
  caller.value = null;
  state.value = "out";
  keep("signed_in", false);
}

// Not by choice: whoever looks must learn that no alert is shown any more, and why.
function ended() {
  leave();
  failure.value = "sign_in.ended";
}

onSignedOut(ended);

function known(answer) {
  caller.value = answer;
  drafts.signedIn(answer);
}

async function enter() {
  try {
    known(await get("/session", { quiet: true }));
  } catch (error) {
    if (error.status === 401) return recall("signed_in", false) ? ended() : leave();
    // Not reachable: the stream says so, and comes back by itself.
    caller.value = null;
  }
  failure.value = "";
  state.value = "in";
  keep("signed_in", true);
  connection.start(ended);
}

export async function signIn(credentials) {
  failure.value = "";
  try {
    await api("POST", "/session", credentials, { quiet: true });
    // What whoever was signed in has put aside, or had in front, is not so for the next.
    if (state.value === "in") leave();
    await enter();
  } catch (error) {
    const wrong = error instanceof ApiError && [400, 401, 403].includes(error.status);
    failure.value = wrong ? (credentials.code ? "sign_in.old_link" : "sign_in.wrong_token")
      : error.status === 0 ? "sign_in.unreachable" : "sign_in.failed";
    if (state.value !== "in") state.value = "out";
  }
}

export async function signOut() {
  await api("DELETE", "/session", undefined, { quiet: true }).catch(() => {});
  leave({ byChoice: true });
  failure.value = "";
}

// The name could not be asked for while the server was away.
connection.onReturn(() => {
  if (!caller.value) get("/session", { quiet: true }).then(known, () => {});
});

// The code of a one-time link, which is used up by signing in: it shall not stay in the history.
function takeCode(address) {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) history.replaceState(null, "", address);
  return code;
}

// A link that is opened in a window that has the page already loads nothing.
addEventListener("hashchange", (event) => {
  const code = takeCode(new URL(event.oldURL).hash || location.pathname);
  if (code) signIn({ code });
});

export async function begin() {
  const code = takeCode(location.pathname);
  if (code) {
    await signIn({ code });
    // Another link may have signed this browser in, and that holds.
    if (failure.value !== "sign_in.old_link" || !recall("signed_in", false)) return;
    await enter();
    failure.value = "sign_in.old_link";
  } else if (keeps && !recall("signed_in", false)) {
    // The cookie itself cannot be seen from here; asking the server in vain would be an error.
    leave();
  } else {
    await enter();
  }
}
