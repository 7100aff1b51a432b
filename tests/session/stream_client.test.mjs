// The JavaScript client of the stream, against a played socket and clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { StreamClient, streamUrl } from "../../src/dashboard/stream-client.js";

/** A clock that stands until it is turned, and sockets that do what the test says. */
class World {
  now = 1_000_000;
  sockets = [];
  #timers = new Map();
  #next = 1;

  platform(random = () => 0.5) {
    const world = this;
    return {
      random,
      now: () => world.now,
      setTimeout: (run, ms) => {
        world.#timers.set(world.#next, { run, at: world.now + ms });
        return world.#next++;
      },
      clearTimeout: (timer) => world.#timers.delete(timer),
      WebSocket: class {
        readyState = 0;
        sent = [];
        closedWith = null;
        constructor(url) {
          this.url = url;
          world.sockets.push(this);
        }
        send(text) {
          assert.equal(this.readyState, 1, "only an open socket is written to");
          this.sent.push(JSON.parse(text));
        }
        close(code) {
          this.closedWith = code;
          this.readyState = 3;
        }
        open() {
          this.readyState = 1;
          this.onopen({});
        }
        tell(frame) {
          this.onmessage({ data: JSON.stringify(frame) });
        }
        end(code, reason = "") {
          this.readyState = 3;
          this.onclose({ code, reason });
        }
        take(type) {
          const found = this.sent.filter((frame) => frame.type === type);
          this.sent = this.sent.filter((frame) => frame.type !== type);
          return found;
        }
      },
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Turns the clock, running what falls due. */
  pass(ms) {
    const until = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = due[1].at;
      due[1].run();
    }
    this.now = until;
  }

  get waiting() {
    return this.#timers.size;
  }
}

function client(world, options = {}, random) {
  const stream = new StreamClient({ url: "ws://x/api/v1/stream", platform: world.platform(random), ...options });
  const log = [];
  for (const event of ["state", "snapshot", "alert", "gap", "error", "stats"]) {
    stream.on(event, (detail) => log.push([event, detail]));
  }
  stream.start();
  return { stream, log, of: (event) => log.filter(([name]) => name === event).map(([, detail]) => detail) };
}

const hello = (offset, epoch = "e1") => ({ type: "hello", session: "s", epoch, offset, server_time: "" });
const snapshot = (id, offset, alerts = []) => ({ type: "snapshot", id, offset, alerts });
const alert = (offset) => ({ type: "alert", offset, change: { transition: "raised" }, alert: { alert_id: `${offset}` } });
const pong = (offset) => ({ type: "pong", offset });

/** Connected and answered with a snapshot at `offset`. */
function live(world, options, random) {
  const made = client(world, options, random);
  world.socket.open();
  world.socket.tell(hello(5));
  world.socket.tell(snapshot("1", 5));
  return made;
}

test("a page's own server is asked, with the scheme that it came by", () => {
  assert.equal(streamUrl({ href: "https://desk.example/alerts#x" }), "wss://desk.example/api/v1/stream");
  assert.equal(streamUrl({ href: "http://127.0.0.1:5001/" }), "ws://127.0.0.1:5001/api/v1/stream");
});

test("a snapshot and then each change once, in order", () => {
  const world = new World();
  const { stream, of } = live(world, { token: "t", filter: { min_severity: "high" }, stats: true });
  assert.deepEqual(world.socket.take("auth"), [{ type: "auth", token: "t" }]);
  const [asked] = world.socket.take("subscribe");
  assert.deepEqual(asked, { type: "subscribe", id: "1", filter: { min_severity: "high" }, stats: true });
  for (const offset of [6, 8, 8, 7, 9]) world.socket.tell(alert(offset));
  assert.deepEqual(of("alert").map(({ offset }) => offset), [6, 8, 9]);
  assert.deepEqual(stream.cursor, { epoch: "e1", offset: 9 });
  assert.equal(stream.state, "live");
  world.socket.tell(pong(12));
  assert.equal(stream.cursor.offset, 12);
  assert.equal(stream.heardAt, world.now);
});

test("it comes back after a growing, spread-out pause and resumes", () => {
  const world = new World();
  const { stream, of } = live(world);
  world.socket.tell(alert(6));
  world.socket.end(1006);
  const [, , waiting] = of("state");
  assert.deepEqual([waiting.state, waiting.retryAt], ["waiting", world.now + 187.5]);
  const pauses = [];
  for (let round = 0; round < 9; round += 1) {
    const before = world.sockets.length;
    const begun = world.now;
    while (world.sockets.length === before) world.pass(1);
    pauses.push(world.now - begun);
    world.socket.end(1006);
  }
  assert.ok(pauses.every((pause, i) => i === 0 || pause >= pauses[i - 1]), `${pauses}`);
  assert.ok(pauses.at(-1) <= 15_000 && pauses.at(-1) >= 7_500, `${pauses}`);
  world.pass(15_000);
  world.socket.open();
  assert.deepEqual(world.socket.take("subscribe")[0].since, { epoch: "e1", offset: 6 });
  world.socket.tell(hello(8));
  for (const offset of [6, 7, 8]) world.socket.tell(alert(offset));
  assert.deepEqual(of("alert").map(({ offset }) => offset), [6, 7, 8]);
  // It works again, so the next pause is short again.
  world.socket.end(1012);
  assert.equal(of("state").at(-1).retryAt - world.now, 187.5);
  assert.equal(stream.state, "waiting");
});

test("no two clients come back at the same moment", () => {
  const pauses = [0, 0.25, 1].map((random) => {
    const world = new World();
    const { of } = live(world, {}, () => random);
    world.socket.end(1001);
    return of("state").at(-1).retryAt - world.now;
  });
  assert.deepEqual(pauses, [125, 156.25, 250]);
});

test("a resume that brings nothing is live as soon as the server says how far it has got", () => {
  const world = new World();
  const { stream } = live(world);
  world.socket.end(1006);
  world.pass(187.5);
  world.socket.open();
  world.socket.tell(hello(9));
  assert.equal(stream.state, "connecting");
  assert.equal(world.socket.take("ping").length, 1);
  // The subscription has not been answered yet: it is asked again, ever more seldom.
  for (const pause of [250, 500, 1_000, 2_000]) {
    world.socket.tell(pong(0));
    assert.equal(stream.state, "connecting");
    world.pass(pause - 1);
    assert.deepEqual(world.socket.take("ping"), [], `before ${pause} ms`);
    world.pass(1);
    assert.equal(world.socket.take("ping").length, 1, `after ${pause} ms`);
  }
  world.socket.tell(pong(9));
  assert.deepEqual([stream.state, stream.cursor.offset], ["live", 9]);
  // 3,750 ms after the socket was made: from here on only the heartbeat asks.
  world.pass(6_249);
  assert.deepEqual(world.socket.take("ping"), []);
  world.pass(1);
  assert.equal(world.socket.take("ping").length, 1);
});

test("a resume is asked about no more once it has been answered, and anew on the next socket", () => {
  const world = new World();
  const { stream } = live(world);
  world.socket.end(1006);
  world.pass(187.5);
  world.socket.open();
  world.socket.tell(hello(9));
  world.socket.tell(pong(0));
  world.socket.tell(alert(6));
  assert.equal(stream.state, "live");
  world.socket.take("ping");
  // Its answer was under way when the alert came.
  world.socket.tell(pong(0));
  world.pass(9_999);
  assert.deepEqual(world.socket.take("ping"), []);
  world.socket.end(1006);
  world.pass(187.5);
  world.socket.open();
  world.socket.tell(hello(9));
  world.socket.tell(pong(0));
  world.socket.take("ping");
  world.socket.end(1006);
  assert.equal(world.waiting, 1, "nothing but the way back");
  world.pass(375);
  world.socket.open();
  world.socket.tell(hello(9));
  world.socket.tell(pong(0));
  world.socket.take("ping");
  world.pass(250);
  assert.equal(world.socket.take("ping").length, 1);
});

test("a resume is live although nothing has ever happened", () => {
  const world = new World();
  const { stream, of } = client(world);
  world.socket.open();
  world.socket.tell(hello(0));
  world.socket.tell(snapshot("1", 0));
  for (const [epoch, state] of [["e1", "live"], ["e2", "connecting"]]) {
    world.socket.end(1006);
    world.pass(10_000);
    world.socket.open();
    world.socket.tell(hello(0, epoch));
    world.socket.tell(pong(0));
    assert.equal(stream.state, state, epoch);
  }
  // Another epoch is answered by a snapshot, whatever it holds.
  world.socket.tell({ type: "gap", from: 1, to: 0 });
  world.socket.tell(snapshot("3", 0));
  assert.equal(stream.state, "live");
  assert.equal(of("snapshot").length, 2);
});

test("a gap is told and its snapshot replaces everything", () => {
  const world = new World();
  const { stream, of } = live(world);
  world.socket.end(1013);
  world.pass(1_000);
  world.socket.open();
  world.socket.tell(hello(70, "e2"));
  world.socket.tell({ type: "gap", from: 1, to: 70 });
  world.socket.tell(pong(70));
  assert.deepEqual(stream.cursor, { epoch: "e1", offset: 5 }, "until the snapshot nothing has been made up for");
  world.socket.tell(snapshot("2", 70));
  assert.deepEqual(of("gap"), [{ type: "gap", from: 1, to: 70 }]);
  assert.deepEqual(of("snapshot").at(-1).gap, { from: 1, to: 70 });
  assert.deepEqual(stream.cursor, { epoch: "e2", offset: 70 });
});

test("a silent server is given up", () => {
  const world = new World();
  const { stream } = live(world);
  const socket = world.socket;
  world.pass(10_000);
  socket.tell(pong(5));
  world.pass(10_000);
  assert.equal(socket.closedWith, null);
  world.pass(10_000);
  assert.equal(socket.closedWith, 4000);
  assert.equal(stream.state, "waiting");
  // What a given-up socket still says is not heard.
  socket.tell(alert(6));
  assert.equal(stream.cursor.offset, 5);
});

test("a revoked token, a wrong one, and a refused client do not come back", () => {
  for (const [end, state] of [
    [(socket) => socket.end(4401, "revoked"), "signed-out"],
    [(socket) => socket.tell({ type: "error", code: "unauthenticated", message: "no" }), "signed-out"],
    [(socket) => socket.end(1008, "too many bad frames"), "refused"],
  ]) {
    const world = new World();
    const { stream } = live(world);
    end(world.socket);
    assert.equal(stream.state, state);
    assert.equal(world.waiting, 0);
    world.pass(600_000);
    assert.equal(world.sockets.length, 1);
    // Signed in anew, it goes on where it was.
    stream.start();
    world.socket.open();
    assert.deepEqual(world.socket.take("subscribe")[0].since, { epoch: "e1", offset: 5 });
  }
});

test("a filter that the server refuses is told, and costs nothing else", () => {
  const world = new World();
  const { stream, of } = live(world);
  world.socket.tell({ type: "error", code: "bad_filter", message: "vitals need devices" });
  assert.equal(of("error")[0].code, "bad_filter");
  assert.equal(stream.state, "live");
});

test("another filter begins with its own snapshot", () => {
  const world = new World();
  const { stream, of } = live(world);
  world.socket.take("subscribe");
  stream.subscribe({ severity: ["critical"] });
  stream.subscribe({ severity: ["high"] });
  const [, asked] = world.socket.take("subscribe");
  assert.deepEqual(asked, { type: "subscribe", id: "3", filter: { severity: ["high"] } });
  world.socket.tell(alert(6));
  world.socket.tell(snapshot("2", 6));
  world.socket.tell(pong(6));
  assert.equal(stream.cursor, null);
  world.socket.tell(snapshot("3", 7));
  world.socket.tell(alert(8));
  assert.deepEqual(of("snapshot").map(({ id }) => id), ["1", "3"]);
  assert.deepEqual(of("alert").map(({ offset }) => offset), [8]);
});

test("another filter before the server has said hello is the one that is answered", () => {
  for (const isBack of [false, true]) {
    const world = new World();
    const { stream, of } = isBack ? live(world) : client(world);
    const said = () => of("snapshot").slice(isBack ? 1 : 0);
    if (isBack) {
      world.socket.end(1006);
      world.pass(1_000);
    }
    world.socket.open();
    const [first] = world.socket.take("subscribe");
    stream.subscribe({ severity: ["critical"] }, { stats: true });
    const [asked, ...more] = world.socket.take("subscribe");
    const id = String(Number(first.id) + 1);
    assert.deepEqual(asked, { type: "subscribe", id, filter: { severity: ["critical"] }, stats: true });
    assert.deepEqual(more, []);
    world.socket.tell(hello(9));
    // Answers to the first subscription, which may be under way: the snapshot, or what a resume missed.
    world.socket.tell(isBack ? alert(6) : snapshot(first.id, 9, [{ alert_id: "of the first" }]));
    world.socket.tell(alert(10));
    world.socket.tell(pong(10));
    assert.deepEqual([said(), of("alert"), stream.cursor], [[], [], null]);
    world.socket.tell(snapshot(id, 10));
    world.socket.tell(alert(11));
    assert.deepEqual(said().map((frame) => frame.id), [id]);
    assert.deepEqual(of("alert").map(({ offset }) => offset), [11]);
    assert.deepEqual([stream.state, stream.cursor], ["live", { epoch: "e1", offset: 11 }]);
  }
});

test("another filter while there is no socket, or one that is not open, goes out once", () => {
  for (const isConnecting of [false, true]) {
    const world = new World();
    const { stream } = live(world);
    world.socket.end(1006);
    if (isConnecting) world.pass(1_000);
    stream.subscribe({ severity: ["high"] });
    if (!isConnecting) world.pass(1_000);
    world.socket.open();
    assert.deepEqual(world.socket.take("subscribe"), [{ type: "subscribe", id: "2", filter: { severity: ["high"] } }]);
  }
});

test("what was shown is told a few times a second, and never ahead of what was sent", () => {
  const world = new World();
  const { stream } = live(world);
  for (let offset = 6; offset <= 10; offset += 1) {
    world.socket.tell(alert(offset));
    stream.shown(offset);
  }
  stream.shown(99);
  assert.deepEqual(world.socket.take("shown"), [{ type: "shown", offset: 6 }]);
  world.pass(250);
  assert.deepEqual(world.socket.take("shown"), [{ type: "shown", offset: 10 }]);
  world.pass(5_000);
  assert.deepEqual(world.socket.take("shown"), []);
});

test("what was shown of another database or of another filter confirms nothing", () => {
  const world = new World();
  const { stream } = live(world);
  world.socket.tell(alert(6));
  stream.shown(6);
  assert.deepEqual(world.socket.take("shown"), [{ type: "shown", offset: 6 }]);
  stream.subscribe({ min_severity: "high" });
  world.socket.tell(snapshot("2", 6));
  assert.deepEqual(world.socket.take("shown"), []);
  world.pass(250);
  stream.shown(6);
  assert.deepEqual(world.socket.take("shown"), [{ type: "shown", offset: 6 }]);
  world.socket.end(1012);
  world.pass(1_000);
  world.socket.open();
  world.socket.tell({ ...hello(3), epoch: "another" });
  world.socket.tell({ type: "gap", from: 1, to: 3 });
  world.socket.tell(snapshot("3", 3));
  assert.deepEqual(world.socket.take("shown"), [], "nobody has seen it yet");
  stream.shown(3);
  assert.deepEqual(world.socket.take("shown"), [{ type: "shown", offset: 3 }]);
});

test("what is pending is passed on as it comes", () => {
  const world = new World();
  const stream = new StreamClient({ url: "ws://x", platform: world.platform() });
  const seen = [];
  stream.on("pending", (frame) => seen.push(frame.acknowledged.length));
  stream.start();
  const socket = world.sockets[0];
  socket.open();
  socket.tell({ type: "hello", session: "s", epoch: "e", offset: 1, server_time: "t" });
  socket.tell({ type: "snapshot", id: "1", offset: 1, alerts: [] });
  socket.tell({ type: "pending", acknowledged: [{ alert_id: "1", acknowledged_by: "ann", acknowledged_at: "t" }] });
  socket.tell({ type: "pending", acknowledged: [] });
  assert.deepEqual(seen, [1, 0]);
  stream.stop();
});

test("a listener that throws costs the others nothing", () => {
  const world = new World();
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  const stream = new StreamClient({ url: "ws://x", platform: world.platform() });
  const seen = [];
  stream.on("alert", () => {
    throw new Error("mine");
  });
  const off = stream.on("alert", ({ offset }) => seen.push(offset));
  stream.start();
  world.socket.open();
  world.socket.tell(hello(5));
  world.socket.tell(snapshot("1", 5));
  world.socket.tell(alert(6));
  off();
  world.socket.tell(alert(7));
  delete globalThis.reportError;
  assert.deepEqual([seen, reported], [[6], ["mine", "mine"]]);
  stream.stop();
  assert.equal(world.waiting, 0);
});

test("10,000 random disconnects: nothing is missed, given twice or out of order", () => {
  // A server that keeps the whole log, and a line that breaks anywhere.
  let seed = 7;
  const random = () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed / 2_147_483_648;
  };
  const world = new World();
  const { stream, of } = client(world, {}, random);
  let last = 0;
  let breaks = 0;
  while (breaks < 10_000) {
    const socket = world.socket;
    if (socket.readyState === 3) {
      world.pass(15_000);
      continue;
    }
    socket.open();
    let cursor = null;
    const fate = Math.floor(random() * 12);
    const frames = [];
    const [{ since, id }] = socket.take("subscribe");
    frames.push(hello(last));
    if (since) cursor = since.offset;
    else {
      cursor = last;
      frames.push(snapshot(id, last));
    }
    for (let step = 0; step < 6; step += 1) {
      if (random() < 0.6) last += 1;
      while (cursor < last) {
        cursor += 1;
        frames.push(alert(cursor));
        // A careless proxy.
        if (random() < 0.05) frames.push(alert(cursor));
      }
      if (random() < 0.3) frames.push(pong(cursor));
    }
    for (const frame of frames.slice(0, fate)) socket.tell(frame);
    socket.end([1001, 1006, 1012, 1013][Math.floor(random() * 4)]);
    breaks += 1;
  }
  const offsets = of("alert").map(({ offset }) => offset);
  const first = of("snapshot")[0].offset;
  assert.equal(of("snapshot").length, 1);
  assert.deepEqual(offsets, Array.from({ length: stream.cursor.offset - first }, (_, i) => first + 1 + i));
  assert.ok(offsets.length > 10_000, `${offsets.length}`);
});
