ALTER TABLE alert_change DROP COLUMN outcome;
ALTER TABLE alert DROP COLUMN outcome;
