// A client of the stream: connects, signs in by cookie, resumes after a lost connection.
//
//   const stream = openStream({ subscription: () => ({ filter: {} }), onFrame, onState });
//   stream.send({ type: "shown", offset: 7 });

const SILENCE_MAX_MS = 45_000;
const PING_MS = 5_000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 15_000;

export function openStream({ subscription, onFrame, onState }) {
  let socket = null;
  let epoch = null;
  let since = null;
  let attempts = 0;
  let heard = 0;
  let timer = null;
  let ended = false;

  function connect() {
    clearTimeout(timer);
    if (ended) return;
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const mine = new WebSocket(scheme + location.host + "/api/v1/stream");
    socket = mine;
    heard = Date.now();
    mine.onopen = () => subscribe(since);
    mine.onmessage = (message) => {
      heard = Date.now();
      receive(JSON.parse(message.data));
    };
    mine.onclose = (event) => lost(event.code);
  }

  function subscribe(from) {
    const frame = { type: "subscribe", id: "page", ...subscription() };
    if (from) frame.since = from;
    send(frame);
  }

  function lost(code) {
    if (ended) return;
    socket.onclose = socket.onmessage = null;
    // Half of the wait by chance, so that not all pages come back at once.
    const wait = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(attempts, 6)) * (0.5 + Math.random() / 2);
    attempts += 1;
    onState("lost", { code, retryAt: Date.now() + wait });
    timer = setTimeout(connect, wait);
  }

  function receive(frame) {
    if (frame.type === "hello") {
      attempts = 0;
      epoch = frame.epoch;
    } else if (frame.type === "error" && frame.code === "unauthenticated") {
      close();
      onState("unauthenticated", {});
      return;
    }
    onFrame(frame);
    const offset = frame.offset;
    if (frame.type === "snapshot") since = { epoch, offset };
    // A pong says 0 until the subscription has been answered.
    else if ((frame.type === "alert" || frame.type === "pong") && since && offset > since.offset) {
      since = { epoch, offset };
    }
    if (frame.type === "hello") onState("live", {});
  }

  function send(frame) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
  }

  function close() {
    ended = true;
    clearTimeout(timer);
    clearInterval(pinging);
    if (socket) {
      socket.onclose = socket.onmessage = null;
      socket.close();
    }
  }

  const pinging = setInterval(() => {
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (Date.now() - heard > SILENCE_MAX_MS) {
      socket.close();
      lost(0);
    } else {
      send({ type: "ping" });
    }
  }, PING_MS);

  connect();
  return { send, close, retry: () => { if (!ended && socket?.readyState > WebSocket.OPEN) connect(); },
    resubscribe: () => subscribe(since) };
}
