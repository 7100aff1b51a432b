// Signs in, then shows the open alerts as the stream tells them. What watches sent is only ever
// put in as text.
"use strict";

const RANKS = ["critical", "high", "medium", "low", "info"];
const SILENCE_MAX_MS = 45000;
const PING_MS = 15000;

const byId = (id) => document.getElementById(id);
const alerts = new Map();
let socket = null;
let epoch = null;
let since = null;
let attempts = 0;
let lastHeard = 0;
let retryTimer = null;

function show(text, down) {
  byId("status").textContent = text;
  byId("status").classList.toggle("down", down);
  document.body.classList.toggle("stale", down);
}

function askToSignIn(message) {
  since = null;
  alerts.clear();
  draw();
  byId("sign-in").hidden = false;
  byId("board").hidden = true;
  byId("sign-in-error").textContent = message || "";
  show("not signed in", false);
}

async function signIn(credentials) {
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(credentials),
    });
    if (answer.ok) {
      byId("sign-in").hidden = true;
      connect();
      return;
    }
    const old = credentials.code ? "The link has been used or is too old." : "The token is not valid.";
    askToSignIn(answer.status === 401 || answer.status === 403 || answer.status === 400
      ? old : "The server could not sign you in (" + answer.status + ").");
  } catch {
    askToSignIn("The server cannot be reached.");
  }
}

function connect() {
  clearTimeout(retryTimer);
  if (socket) socket.onclose = socket.onmessage = null;
  const scheme = location.protocol === "https:" ? "wss://" : "ws://";
  const mine = new WebSocket(scheme + location.host + "/api/v1/stream");
  socket = mine;
  lastHeard = Date.now();
  mine.onopen = () => {
    const subscribe = { type: "subscribe", id: "board" };
    if (since) subscribe.since = since;
    mine.send(JSON.stringify(subscribe));
  };
  mine.onmessage = (message) => {
    lastHeard = Date.now();
    receive(JSON.parse(message.data));
  };
  mine.onclose = () => disconnected();
}

function disconnected() {
  // 0.5 s to 30 s, half of it by chance, so that not all screens come back at once.
  const wait = Math.min(30000, 500 * 2 ** Math.min(attempts, 6)) * (0.5 + Math.random() / 2);
  attempts += 1;
  show("DISCONNECTED, what you see is old; trying again", true);
  retryTimer = setTimeout(connect, wait);
}

function receive(frame) {
  switch (frame.type) {
    case "hello":
      attempts = 0;
      epoch = frame.epoch;
      byId("board").hidden = false;
      show("live", false);
      break;
    case "snapshot":
      alerts.clear();
      for (const alert of frame.alerts) alerts.set(alert.alert_id, alert);
      notice(frame.truncated ? "Too many alerts are open: the least severe are not shown." : "");
      served(frame.offset);
      draw();
      break;
    case "alert":
      if (frame.alert.state === "resolved") alerts.delete(frame.alert.alert_id);
      else alerts.set(frame.alert.alert_id, frame.alert);
      served(frame.offset);
      draw();
      break;
    case "pong":
      // 0 before the subscription has been answered: nothing to go on from.
      if (since && frame.offset > since.offset) since = { epoch, offset: frame.offset };
      break;
    case "error":
      if (frame.code === "unauthenticated") {
        socket.onclose = null;
        socket.close();
        askToSignIn("");
      }
      break;
  }
}

function served(offset) {
  since = { epoch, offset };
  // Only what a person can have seen has been shown.
  if (document.visibilityState === "visible" && offset > 0) {
    socket.send(JSON.stringify({ type: "shown", offset }));
  }
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  // A storm is drawn once, not once per alert. A timer also runs where nothing is being painted.
  setTimeout(() => {
    drawing = false;
    const sorted = [...alerts.values()].sort((a, b) =>
      RANKS.indexOf(a.severity) - RANKS.indexOf(b.severity) || (a.raised_at < b.raised_at ? 1 : -1));
    byId("alerts").replaceChildren(...sorted.slice(0, 500).map(row));
    byId("empty").hidden = sorted.length > 0;
    const loud = sorted.filter((alert) => alert.severity === "critical" && alert.state === "raised").length;
    document.title = loud ? "(" + loud + ") ALERT - Watchpost" : "Watchpost";
  }, 0);
}

function text(tag, className, content) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

function row(alert) {
  const item = document.createElement("li");
  item.classList.add(alert.severity, alert.state);
  const kind = (alert.event_type || alert.rule_name).split(".").pop();
  const title = kind + (alert.count > 1 ? " x" + alert.count : "") + ": "
    + (alert.person_name || alert.device_sn);
  const more = [alert.severity, alert.state, alert.org_name, alert.device_sn,
    new Date(alert.last_at).toLocaleString()];
  if (alert.acknowledged_by) more.push("by " + alert.acknowledged_by);
  if (alert.location) more.push(alert.location.latitude.toFixed(5) + ", " + alert.location.longitude.toFixed(5));
  if (alert.back_to_normal_at) more.push("back to normal");
  if (!alert.verified) more.push("unverified");
  const details = document.createElement("div");
  details.className = "details";
  details.append(text("div", "title", title), text("div", "more", more.filter(Boolean).join(" · ")));
  item.append(details);
  if (alert.state === "raised") item.append(action(alert, "acknowledge", "Acknowledge"));
  item.append(action(alert, "resolve", "Resolve"));
  return item;
}

function action(alert, verb, label) {
  const button = text("button", verb, label);
  button.type = "button";
  button.addEventListener("click", async () => {
    button.disabled = true;
    const failed = (message) => {
      button.disabled = false;
      button.parentElement?.append(text("span", "failed", message));
    };
    try {
      const answer = await fetch("/api/v1/alerts/" + encodeURIComponent(alert.alert_id) + "/" + verb, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      });
      // The stream brings the change. 409: somebody was first, and the stream says who.
      if (!answer.ok && answer.status !== 409) failed("Not done (" + answer.status + "), try again.");
    } catch {
      failed("Not done: the server cannot be reached.");
    }
  });
  return button;
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  signIn({ token });
});

document.addEventListener("visibilitychange", () => {
  if (since && socket?.readyState === WebSocket.OPEN) served(since.offset);
});

setInterval(() => {
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (Date.now() - lastHeard > SILENCE_MAX_MS) {
    socket.onclose = null;
    socket.close();
    disconnected();
  } else {
    socket.send(JSON.stringify({ type: "ping" }));
  }
}, PING_MS);

const code = new URLSearchParams(location.hash.slice(1)).get("code");
if (code) {
  // Used up by signing in; it shall not stay in the history.
  history.replaceState(null, "", location.pathname);
  signIn({ code });
} else {
  connect();
}
