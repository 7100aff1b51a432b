DROP INDEX quarantine_by_importance;
CREATE INDEX quarantine_by_last_seen ON quarantine (last_seen_ms, quarantine_id);
