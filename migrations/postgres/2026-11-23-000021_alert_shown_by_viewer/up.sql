-- Ranges of offsets said which changes a session had confirmed, but not which of them it had been
-- sent. Now: who has had which alert on the screen, and when first.
CREATE TABLE alert_shown_by_viewer (
    alert_id BIGINT NOT NULL,
    viewer   TEXT COLLATE "C" NOT NULL,
    shown_ms BIGINT NOT NULL,
    PRIMARY KEY (alert_id, viewer)
);
INSERT INTO alert_shown_by_viewer (alert_id, viewer, shown_ms)
    SELECT change.alert_id, shown.viewer, min(shown.shown_ms)
    FROM alert_shown AS shown
    JOIN alert_change AS change ON change.change_offset BETWEEN shown.from_offset AND shown.to_offset
    GROUP BY change.alert_id, shown.viewer;
DROP TABLE alert_shown;
ALTER TABLE alert_shown_by_viewer RENAME TO alert_shown;
