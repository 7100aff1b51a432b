"""What both variants read from a body: the event, and the health record that comes with it."""

import json
from datetime import datetime

# Column: names that it has on the wire, the first that is there wins.
HEALTH_FIELDS = {
    "heart_rate": ("heart_rate", "heartRate", "xlv"),
    "pressure_high": ("blood_pressure_systolic", "pressureHigh", "pressure_high", "gxy"),
    "pressure_low": ("blood_pressure_diastolic", "pressureLow", "pressure_low", "dxy"),
    "blood_oxygen": ("blood_oxygen", "bloodOxygen", "xy"),
    "temperature": ("body_temperature", "temperature", "tw"),
    "stress": ("stress", "yl"),
    "step": ("step", "bs"),
    "distance": ("distance", "jl"),
    "calorie": ("calorie", "rl"),
    "latitude": ("latitude", "wd"),
    "longitude": ("longitude", "jd"),
    "altitude": ("altitude", "hb"),
}
HISTORY_FIELDS = {
    "sleep_data": "sleepData",
    "exercise_daily_data": "exerciseDailyData",
    "exercise_week_data": "exerciseWeekData",
    "scientific_sleep_data": "scientificSleepData",
    "workout_data": "workoutData",
}
WHOLE_NUMBERS = {"heart_rate", "pressure_high", "pressure_low", "blood_oxygen", "stress", "step"}


def when(text):
    """The time as the watch wrote it; now if there is none that can be read."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError):
        return datetime.now()


def short_type(body):
    return (body.get("eventType") or body.get("event_type") or "").rsplit(".", 1)[-1]


def owner(body):
    """Customer, organisation and user as the body has them."""
    names = (("customer_id", "customerId"), ("org_id", "orgId"), ("user_id", "userId"))
    return {snake: int(body.get(snake) or body.get(camel) or 0) for snake, camel in names}


def health(body, ids):
    """The columns of the health record, or None."""
    block = body.get("healthData")
    if isinstance(block, str):
        block = json.loads(block)
    if not isinstance(block, dict):
        return None
    record = block.get("data", block)
    if not isinstance(record, dict) or not record:
        return None
    row = {"device_sn": record.get("deviceSn") or body["deviceSn"], "timestamp": when(record.get("timestamp"))}
    for column, names in HEALTH_FIELDS.items():
        value = next((record[name] for name in names if record.get(name) is not None), None)
        if value is not None:
            value = int(value) if column in WHOLE_NUMBERS else float(value)
        row[column] = value
    for column, name in HISTORY_FIELDS.items():
        text = record.get(name)
        # Read as the design does: it adds up the hours of sleep and workout.
        row[column] = text if text and text != "null" and json.loads(text) else None
    row["upload_method"] = record.get("upload_method", "wifi")
    row["create_time"] = datetime.now()
    row.update(ids)
    return row


def alert(body, ids, rule):
    """The columns of the alert. `rule`: id, message and severity."""
    return {
        "rule_id": rule[0],
        "alert_type": short_type(body),
        "device_sn": body["deviceSn"],
        "alert_timestamp": when(body.get("timestamp")),
        "alert_desc": f"{rule[1]}({body.get('eventValue')})",
        "severity_level": rule[2],
        "alert_status": "pending",
        "latitude": body.get("latitude", 22.54036796),
        "longitude": body.get("longitude", 114.01508952),
        "altitude": body.get("altitude", 0),
        "create_time": datetime.now(),
        **ids,
    }


def push(alerts, sockets=()):
    """Writes the frame of critical alerts out and hands it to whoever is connected: here nobody."""
    for row in alerts:
        if row["severity_level"] == "critical":
            frame = json.dumps({"type": "critical_alert", "alert": row}, default=str)
            for socket in sockets:
                socket.send(frame)
