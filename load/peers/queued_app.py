"""The queued variant: validate, queue, answer. Workers take 50 events or wait 2 s, and store a
batch in one commit. What is in the queue is in memory only, and has been answered 200."""

import queue
import threading
import time

from flask import Flask, jsonify, request
from sqlalchemy import insert, select
from sqlalchemy.dialects.mysql import insert as mysql_insert

import model
import parse
from model import Alert, Health, Rule, User

QUEUE_EVENTS = 5_000
WORKERS = 4
BATCH_EVENTS = 50
BATCH_WAIT_S = 2.0
DEVICE_CACHE = (10_000, 300)
RULE_CACHE = (1_000, 600)


class Cache:
    """Entries of a limited number and age; the oldest goes."""

    def __init__(self, entries, seconds):
        self.entries, self.seconds, self.items = entries, seconds, {}
        self.lock = threading.Lock()

    def get(self, key):
        with self.lock:
            value, until = self.items.get(key, (None, 0))
        return value if until > time.monotonic() else None

    def put(self, key, value):
        with self.lock:
            if len(self.items) >= self.entries:
                del self.items[next(iter(self.items))]
            self.items[key] = (value, time.monotonic() + self.seconds)


class Processor:
    def __init__(self):
        self.queue = queue.Queue(QUEUE_EVENTS)
        self.engine = model.engine(WORKERS)
        self.devices, self.rules = Cache(*DEVICE_CACHE), Cache(*RULE_CACHE)

    def start(self):
        for _ in range(WORKERS):
            threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            batch = [self.queue.get()]
            until = time.monotonic() + BATCH_WAIT_S
            while len(batch) < BATCH_EVENTS:
                try:
                    batch.append(self.queue.get(timeout=max(0, until - time.monotonic())))
                except queue.Empty:
                    break
            self.store(batch)

    def missing(self, connection, cache, keys, query):
        wanted = {key for key in keys if cache.get(key) is None}
        if wanted:
            for key, *value in connection.execute(query(wanted)):
                cache.put(key, value)
        return {key: cache.get(key) for key in keys}

    def store(self, batch):
        """One device query and one rule query at most, two inserts, one commit."""
        with self.engine.begin() as connection:
            devices = self.missing(
                connection, self.devices, {body["deviceSn"] for body in batch},
                lambda keys: select(User.device_sn, User.customer_id, User.org_id, User.id)
                .where(User.device_sn.in_(keys)))
            rules = self.missing(
                connection, self.rules, {parse.short_type(body) for body in batch},
                lambda keys: select(Rule.rule_type, Rule.id, Rule.alert_message, Rule.severity_level)
                .where(Rule.rule_type.in_(keys), Rule.is_deleted.is_(False)))
            alerts, records = [], []
            for body in batch:
                device, rule = devices[body["deviceSn"]], rules[parse.short_type(body)]
                if device is None or rule is None:
                    continue
                ids = dict(zip(("customer_id", "org_id", "user_id"), device))
                alerts.append(parse.alert(body, ids, rule))
                record = parse.health(body, ids)
                if record is not None:
                    records.append(record)
            if records:
                connection.execute(mysql_insert(Health).prefix_with("IGNORE"), records)
            if alerts:
                connection.execute(insert(Alert), alerts)
        parse.push(alerts)


def create(_threads):
    app = Flask(__name__)
    processor = Processor()
    processor.start()

    @app.post("/upload_common_event")
    def upload_common_event():
        begun = time.perf_counter()
        body = request.get_json()
        if not isinstance(body, dict) or not body.get("deviceSn") or not body.get("eventType"):
            return jsonify(status="error", message="not an event"), 400
        try:
            processor.queue.put_nowait(body)
        except queue.Full:
            return jsonify(status="error", message="busy, try again"), 503
        return jsonify(
            status="success", success=True, message="queued",
            event_id=f"evt_{int(time.time() * 1000)}_{threading.get_ident()}", device_sn=body["deviceSn"],
            event_type=parse.short_type(body), queue_size=processor.queue.qsize(),
            processing_time_ms=round((time.perf_counter() - begun) * 1000, 3),
        )

    return app
