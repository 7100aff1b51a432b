"""The synchronous design: two to four queries, the health record and the push inside the request."""

from flask import Flask, jsonify, request
from sqlalchemy.orm import scoped_session, sessionmaker

import model
import parse
from model import Alert, Health, Rule, User


def create(threads):
    app = Flask(__name__)
    session = scoped_session(sessionmaker(bind=model.engine(threads)))

    @app.teardown_appcontext
    def done(_error):
        session.remove()

    @app.post("/upload_common_event")
    def upload_common_event():
        body = request.get_json()
        device_sn, event_type = body.get("deviceSn", ""), parse.short_type(body)
        ids = parse.owner(body)
        if not all(ids.values()):
            user = session.query(User).filter(User.device_sn == device_sn).first()
            if user is None:
                return jsonify(status="error", message=f"nobody wears {device_sn}"), 400
            ids = {"customer_id": user.customer_id, "org_id": user.org_id, "user_id": user.id}
        rule = session.query(Rule).filter(Rule.rule_type == event_type, Rule.is_deleted.is_(False)).first()
        if rule is None:
            return jsonify(status="error", message=f"no rule for {event_type}"), 400
        row = parse.alert(body, ids, (rule.id, rule.alert_message, rule.severity_level))
        health = parse.health(body, ids)
        health_id = None
        if health is not None:
            known = session.query(Health.id).filter(
                Health.device_sn == health["device_sn"], Health.timestamp == health["timestamp"]
            ).first()
            if known is None:
                stored = Health(**health)
                session.add(stored)
                session.flush()
                health_id = stored.id
            else:
                health_id = known.id
        alert = Alert(**row, health_id=health_id)
        session.add(alert)
        session.flush()
        alert_id = alert.id
        session.commit()
        parse.push([row])
        return jsonify(
            status="success", success=True, message="stored", alert_id=alert_id, event_type=event_type,
            device_sn=device_sn, health_id=health_id,
        )

    return app
