-- What goes first: copies that name no emergency, then those that have not been seen for longest.
DROP INDEX quarantine_by_last_seen;
CREATE INDEX quarantine_by_importance ON quarantine (names_emergency, last_seen_ms, quarantine_id);
