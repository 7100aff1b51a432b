"""Makes the tables, or says what is in them.

    python3 database.py create DEVICES   waits for the server; wearers of BENCH00000000000 and on
    python3 database.py count            one line of JSON: alerts, health records, connections
"""

import json
import sys
import time

from sqlalchemy import insert, text
from sqlalchemy.exc import OperationalError

import model
from model import Base, Rule, User

READY_WITHIN_S = 60
# As the bodies of the load name their owner.
CUSTOMER_ID, USER_ID = 1939964806110937090, 1940034533382479873
RULES = [("SOS_EVENT", "critical"), ("FALLDOWN_EVENT", "critical"), ("ONE_KEY_ALARM", "critical"),
         ("WEAR_STATUS_CHANGED", "medium"), ("HEARTRATE_HIGH_ALERT", "high"), ("CALL_STATE", "low")]


def wait_for_server():
    engine, until = model.engine(1, ""), time.monotonic() + READY_WITHIN_S
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {model.DATABASE} CHARACTER SET utf8mb4"))
                return
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def create(devices):
    wait_for_server()
    engine = model.engine(1)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Rule), [
            {"id": 1 + at, "rule_type": kind, "alert_message": kind.lower(), "severity_level": severity,
             "is_deleted": False}
            for at, (kind, severity) in enumerate(RULES)])
        for first in range(0, devices, 1_000):
            connection.execute(insert(User), [
                {"id": USER_ID + at, "user_name": f"wearer {at}", "device_sn": f"BENCH{at:011}",
                 "org_id": CUSTOMER_ID, "customer_id": CUSTOMER_ID}
                for at in range(first, min(first + 1_000, devices))])


def count():
    others = "SELECT COUNT(*) FROM information_schema.processlist " \
             "WHERE id <> CONNECTION_ID() AND command NOT IN ('Daemon', 'Binlog Dump')"
    with model.engine(1).connect() as connection:
        print(json.dumps({
            "connections": connection.execute(text(others)).scalar(),
            "alerts": connection.execute(text("SELECT COUNT(*) FROM t_alert_info")).scalar(),
            "health": connection.execute(text("SELECT COUNT(*) FROM t_user_health_data")).scalar(),
        }))


if __name__ == "__main__":
    count() if sys.argv[1] == "count" else create(int(sys.argv[2]))
