// A client of the stream, for browsers and for Node 22 or newer. It depends on nothing.
//
//   const stream = new StreamClient({ filter: { min_severity: "high" } });
//   stream.on("snapshot", ({ alerts }) => ...);        // replaces everything shown so far
//   stream.on("alert", ({ offset, change, alert }) => { ...; stream.shown(offset); });
//   stream.start();
//
// It signs in by the session cookie of the page, or by `token`. It comes back by itself, after pauses
// that grow and are spread out, and resumes where it stopped: every change that passes the filter
// is given once, in order. docs/stream.md describes the frames, and this module under "In JavaScript".

/** The pause before the first try to come back, milliseconds; it doubles up to the last. */
const BACK_OFF_FIRST_MS = 250;
const BACK_OFF_LAST_MS = 15_000;
/** A ping is sent so often, and an answer is waited for as long again. */
const HEARTBEAT_MS = 10_000;
/** A resume that has not been answered is asked about again after so long; it doubles up to the heartbeat. */
const ASK_AGAIN_FIRST_MS = 250;
/** `shown` is sent at most so often. */
const SHOWN_MS = 250;
/** Close codes after which coming back is of no use. */
const CLOSE_NORMAL = 1000;
const CLOSE_POLICY = 1008;
const CLOSE_REVOKED = 4401;
/** What this side closes with when the server is silent. */
const CLOSE_SILENT = 4000;

/** The address of the stream of the server that a page came from. */
export function streamUrl(page = globalThis.location) {
  const url = new URL("/api/v1/stream", page.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * Events, each with one object:
 *
 * - `state`: `{ state, retryAt, reason }`, with `state` one of `connecting`, `live`, `waiting` (until `retryAt`,
 *   milliseconds since 1970), `signed-out` (the token is not valid, was revoked, or the session ended; it does not
 *   come back by itself), `refused` (the server does not accept what this client sends), `stopped`.
 * - `hello`: the frame.
 * - `snapshot`: the frame, with `gap` (`{ from, to }`) if changes were missed that cannot be given one by one.
 * - `alert`: the frame. Never twice, always in order.
 * - `pending`: the frame. After `hello` nothing is pending until this says so, before the first answer.
 * - `vitals`, `stats`, `gap`: the frames.
 * - `error`: `{ code, message }` of an error frame, for example of a filter that is refused.
 */
export class StreamClient {
  #options;
  #listeners = new Map();
  #socket = null;
  #state = "stopped";
  #epoch = null;
  /** The largest offset that was given, of which epoch. Null: a snapshot is wanted. */
  #cursor = null;
  /** True until the subscription that was sent last has been answered by its snapshot. */
  #awaitsSnapshot = false;
  /** The newest offset when the server said hello. */
  #newest = 0;
  #gap = null;
  #id = 0;
  #filter;
  #stats;
  #attempts = 0;
  #heardAt = null;
  #pinged = false;
  /** The pause before the next question of how far the resume has got, milliseconds. */
  #askAgainMs = ASK_AGAIN_FIRST_MS;
  #timers = new Map();
  #shownWanted = 0;
  #shownSent = 0;
  #wake = () => this.#comeBackNow();

  /**
   * @param {object} [options]
   * @param {string} [options.url] Default: the server that the page came from.
   * @param {string} [options.token] Without it the cookie of the page signs in.
   * @param {object} [options.filter] As in docs/stream.md; default: everything.
   * @param {boolean} [options.stats] Ask for `stats` frames; for an administrator's token.
   * @param {{epoch: string, offset: number}} [options.since] Where an earlier client stopped: its `cursor`.
   * @param {object} [options.platform] `WebSocket`, `setTimeout`, `clearTimeout`, `now`, `random`, for tests.
   */
  constructor({ url, token, filter = {}, stats = false, since = null, platform = {} } = {}) {
    this.#options = {
      url,
      token,
      WebSocket: globalThis.WebSocket,
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
      now: () => Date.now(),
      random: () => Math.random(),
      ...platform,
    };
    this.#filter = filter;
    this.#stats = stats;
    this.#cursor = since;
  }

  /** Calls `listener` with each event of this kind; answers a function that ends it. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event).delete(listener);
  }

  /** As in the event `state`. */
  get state() {
    return this.#state;
  }

  /** `{ epoch, offset }` of the last change that was given; null before the first snapshot. */
  get cursor() {
    return this.#cursor && { ...this.#cursor };
  }

  /** When the server was last heard, milliseconds since 1970; null if never. What is shown is as old. */
  get heardAt() {
    return this.#heardAt;
  }

  /** Connects, and comes back until `stop`. After `signed-out` or `refused`, tries again. */
  start() {
    if (this.#socket || this.#timers.has("retry")) return;
    this.#attempts = 0;
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#connect();
  }

  /** Ends it. `cursor` says where a later client may go on. */
  stop() {
    this.#end("stopped");
  }

  /**
   * Another filter on the live socket, in place of the one before. A snapshot follows; until then no
   * change is given.
   */
  subscribe(filter, { stats = this.#stats } = {}) {
    this.#filter = filter;
    this.#stats = stats;
    this.#cursor = null;
    this.#awaitsSnapshot = true;
    // Also before `hello`: what was sent when the socket opened is answered otherwise.
    if (this.#socket?.readyState === 1) this.#sendSubscription();
  }

  /** Everything up to `offset` has been on the screen. It is told to the server, a few times a second at most. */
  shown(offset) {
    this.#shownWanted = Math.max(this.#shownWanted, Number(offset));
    if (!this.#timers.has("shown")) this.#sendShown();
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(detail);
      } catch (error) {
        // One listener's mistake must not cost the others their alert.
        globalThis.reportError ? globalThis.reportError(error) : console.error(error);
      }
    }
  }

  #become(state, more = {}) {
    this.#state = state;
    this.#emit("state", { state, retryAt: null, reason: null, ...more });
  }

  #later(name, ms, run) {
    this.#cancel(name);
    const timer = this.#options.setTimeout(() => {
      this.#timers.delete(name);
      run();
    }, ms);
    this.#timers.set(name, timer);
  }

  #cancel(name) {
    if (this.#timers.has(name)) this.#options.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #connect() {
    this.#cancel("retry");
    this.#become("connecting");
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url ?? streamUrl());
    } catch (error) {
      // An address that is none: it will not get better.
      return this.#end("refused", String(error));
    }
    this.#socket = socket;
    this.#epoch = null;
    this.#pinged = false;
    this.#askAgainMs = ASK_AGAIN_FIRST_MS;
    const present = (run) => (event) => {
      // What a socket says that has been given up is of no interest.
      if (this.#socket === socket) run(event);
    };
    socket.onopen = present(() => this.#opened());
    socket.onmessage = present((event) => this.#received(event.data));
    socket.onclose = present((event) => this.#closed(event.code, event.reason));
    // `onerror` says nothing that `onclose` does not.
    this.#later("heartbeat", HEARTBEAT_MS, () => this.#heartbeat());
  }

  #opened() {
    if (this.#options.token) this.#send({ type: "auth", token: this.#options.token });
    this.#sendSubscription();
  }

  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  #sendSubscription() {
    const frame = { type: "subscribe", id: String(++this.#id), filter: this.#filter };
    if (this.#stats) frame.stats = true;
    if (this.#cursor) frame.since = this.#cursor;
    this.#awaitsSnapshot = !this.#cursor;
    this.#gap = null;
    this.#send(frame);
  }

  #received(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    this.#heardAt = this.#options.now();
    this.#pinged = false;
    switch (frame.type) {
      case "hello":
        this.#epoch = frame.epoch;
        this.#newest = frame.offset;
        this.#emit("hello", frame);
        // Asks how far it has got: the answer to a resume that brings nothing.
        return this.#send({ type: "ping" });
      case "snapshot":
        // Of a subscription that has been replaced.
        if (frame.id !== String(this.#id)) return;
        this.#awaitsSnapshot = false;
        this.#cursor = { epoch: this.#epoch, offset: frame.offset };
        // What was on the screen before says nothing about what is in this one, or of this epoch.
        this.#shownWanted = 0;
        this.#shownSent = 0;
        this.#live();
        this.#emit("snapshot", this.#gap ? { ...frame, gap: this.#gap } : frame);
        this.#gap = null;
        return;
      case "alert":
        if (this.#awaitsSnapshot || this.#gap || frame.offset <= this.#cursor.offset) return;
        this.#cursor = { epoch: this.#epoch, offset: frame.offset };
        this.#live();
        return this.#emit("alert", frame);
      case "pong":
        // Changes that do not pass the filter need not be asked for again.
        if (this.#awaitsSnapshot || this.#gap) return;
        // Not answered yet; but of a log that is empty there is nothing else to be said.
        if (frame.offset < 1 && (this.#newest > 0 || this.#cursor.epoch !== this.#epoch)) return this.#askAgain();
        if (frame.offset > this.#cursor.offset) this.#cursor = { epoch: this.#epoch, offset: frame.offset };
        return this.#live();
      case "gap":
        this.#gap = { from: frame.from, to: frame.to };
        return this.#emit("gap", frame);
      case "vitals":
      case "stats":
      case "pending":
        return this.#emit(frame.type, frame);
      case "error":
        this.#emit("error", { code: frame.code, message: frame.message });
        if (frame.code === "unauthenticated") this.#end("signed-out", frame.message);
        return;
      default:
      // Of a newer server.
    }
  }

  /** The answer to a resume that brings nothing is no frame of its own. */
  #askAgain() {
    if (this.#state === "live" || this.#timers.has("ask")) return;
    this.#later("ask", this.#askAgainMs, () => this.#send({ type: "ping" }));
    this.#askAgainMs = Math.min(this.#askAgainMs * 2, HEARTBEAT_MS);
  }

  #live() {
    this.#attempts = 0;
    this.#cancel("ask");
    if (this.#state !== "live") this.#become("live");
    if (this.#shownWanted > this.#shownSent && !this.#timers.has("shown")) this.#sendShown();
  }

  #sendShown() {
    // The server knows nothing of what it has not sent.
    const offset = Math.min(this.#shownWanted, this.#cursor?.offset ?? 0);
    if (this.#state !== "live" || offset <= this.#shownSent) return;
    this.#shownSent = offset;
    this.#send({ type: "shown", offset });
    this.#later("shown", SHOWN_MS, () => this.#sendShown());
  }

  /** A browser answers the server's pings out of sight, so this side asks too. */
  #heartbeat() {
    if (this.#pinged) return this.#lost("the server is silent", CLOSE_SILENT);
    this.#pinged = true;
    this.#send({ type: "ping" });
    this.#later("heartbeat", HEARTBEAT_MS, () => this.#heartbeat());
  }

  #closed(code, reason) {
    this.#socket = null;
    if (code === CLOSE_REVOKED) return this.#end("signed-out", reason);
    if (code === CLOSE_POLICY) return this.#end("refused", reason);
    this.#lost(reason || "the connection was lost", CLOSE_NORMAL);
  }

  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#epoch = null;
    if (socket && socket.readyState < 2) socket.close(code);
    this.#cancel("heartbeat");
    this.#cancel("ask");
    this.#cancel("shown");
  }

  #lost(reason, code) {
    this.#drop(code);
    const most = Math.min(BACK_OFF_FIRST_MS * 2 ** this.#attempts, BACK_OFF_LAST_MS);
    this.#attempts += 1;
    // Half to all of it: after a restart of the server its clients do not come all at once.
    const pause = most / 2 + (this.#options.random() * most) / 2;
    this.#later("retry", pause, () => this.#connect());
    this.#become("waiting", { retryAt: this.#options.now() + pause, reason });
  }

  /** The network is back, or somebody looks at the page again. */
  #comeBackNow() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.#timers.has("retry")) this.#connect();
    else if (this.#socket && !this.#pinged) this.#heartbeat();
  }

  #end(state, reason = null) {
    this.#cancel("retry");
    this.#drop(CLOSE_NORMAL);
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    if (this.#state !== state) this.#become(state, { reason });
  }
}
