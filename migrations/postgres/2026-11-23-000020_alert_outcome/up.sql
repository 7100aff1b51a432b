-- What a resolved alert turned out to be: helped, false_alarm, test, other. Null if nobody said.
ALTER TABLE alert ADD COLUMN outcome TEXT COLLATE "C";
-- Of the change that resolved it; null for all others.
ALTER TABLE alert_change ADD COLUMN outcome TEXT COLLATE "C";
