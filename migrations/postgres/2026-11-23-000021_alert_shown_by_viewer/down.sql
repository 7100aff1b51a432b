DROP TABLE alert_shown;
CREATE TABLE alert_shown (
    session_id  TEXT COLLATE "C" NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset   BIGINT NOT NULL,
    viewer      TEXT COLLATE "C" NOT NULL,
    shown_ms    BIGINT NOT NULL,
    PRIMARY KEY (session_id, from_offset, to_offset)
);
