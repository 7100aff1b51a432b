DROP INDEX alert_change_acknowledged;
