-- Times are UTC milliseconds since 1970. Ids of people, organisations and customers are text.
-- Text is compared byte by byte, as in SQLite: lists continue behind a key.
-- alert_change is append-only and is the truth about alerts; alert holds the same, up to date.

CREATE TABLE meta (
    key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

CREATE TABLE customer (
    customer_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE org (
    org_id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL REFERENCES customer (customer_id),
    parent_org_id TEXT COLLATE "C"   REFERENCES org (org_id),
    name          TEXT COLLATE "C" NOT NULL,
    created_ms    BIGINT NOT NULL
);

CREATE TABLE person (
    person_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    customer_id TEXT COLLATE "C" NOT NULL REFERENCES customer (customer_id),
    org_id      TEXT COLLATE "C"   REFERENCES org (org_id),
    name        TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE device (
    device_sn     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Owner by the open binding; the default customer if there is none. What lists filter by.
    customer_id   TEXT COLLATE "C" NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    last_seen_ms  BIGINT NOT NULL,
    -- Worn or not by device time; null is unknown.
    worn          BOOLEAN,
    worn_ms       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX device_by_customer ON device (customer_id, device_sn);

CREATE TABLE device_binding (
    binding_id  BIGINT NOT NULL PRIMARY KEY,
    device_sn   TEXT COLLATE "C" NOT NULL,
    customer_id TEXT COLLATE "C" NOT NULL REFERENCES customer (customer_id),
    org_id      TEXT COLLATE "C"   REFERENCES org (org_id),
    person_id   TEXT COLLATE "C"   REFERENCES person (person_id),
    bound_ms    BIGINT NOT NULL,
    bound_by    TEXT COLLATE "C" NOT NULL,
    unbound_ms  BIGINT,
    unbound_by  TEXT COLLATE "C"
);
CREATE UNIQUE INDEX device_binding_open ON device_binding (device_sn) WHERE unbound_ms IS NULL;
CREATE INDEX device_binding_by_device ON device_binding (device_sn, binding_id);

-- One row per device-info upload: history, and its newest row is the present state.
CREATE TABLE device_status (
    device_sn         TEXT COLLATE "C" NOT NULL,
    reported_ms       BIGINT NOT NULL,
    received_ms       BIGINT NOT NULL,
    battery_percent   INTEGER,
    voltage_mv        INTEGER,
    charging          TEXT COLLATE "C",
    worn              BOOLEAN,
    software_version  TEXT COLLATE "C",
    model             TEXT COLLATE "C",
    device_name       TEXT COLLATE "C",
    imei              TEXT COLLATE "C",
    wifi_address      TEXT COLLATE "C",
    bluetooth_address TEXT COLLATE "C",
    ip_address        TEXT COLLATE "C",
    network_mode      TEXT COLLATE "C",
    status            TEXT COLLATE "C",
    extra             TEXT COLLATE "C",
    PRIMARY KEY (device_sn, reported_ms)
);

-- Partitioned by the time that the id begins with, month by month; months are made ahead by the server.
-- What belongs to no month that has been made is in event_other.
CREATE TABLE event (
    -- UUIDv8: begins with the time, so inserts stay local and the order is that of time.
    event_id        BYTEA NOT NULL PRIMARY KEY,
    device_sn       TEXT COLLATE "C" NOT NULL,
    customer_id     TEXT COLLATE "C" NOT NULL,
    org_id          TEXT COLLATE "C",
    person_id       TEXT COLLATE "C",
    binding_id      BIGINT  NOT NULL,
    event_type      TEXT COLLATE "C" NOT NULL,
    -- Last segment of the type in lower case: what lists filter by.
    type_key        TEXT COLLATE "C" NOT NULL,
    value           TEXT COLLATE "C",
    occurred_ms     BIGINT  NOT NULL,
    time_source     TEXT COLLATE "C" NOT NULL,
    received_ms     BIGINT  NOT NULL,
    client_event_id TEXT COLLATE "C",
    level           TEXT COLLATE "C",
    description     TEXT COLLATE "C",
    latitude        DOUBLE PRECISION,
    longitude       DOUBLE PRECISION,
    altitude        DOUBLE PRECISION,
    vitals_ms       BIGINT,
    -- Ids that the body claimed, as JSON. They scope nothing.
    claims          TEXT COLLATE "C",
    extra           TEXT COLLATE "C",
    warnings        TEXT COLLATE "C",
    identity_hash   BYTEA,
    alert_id        BIGINT,
    evaluated       BOOLEAN NOT NULL
) PARTITION BY RANGE (event_id);
CREATE TABLE event_other PARTITION OF event DEFAULT;
CREATE INDEX event_by_device ON event (device_sn, event_id);
CREATE INDEX event_by_customer ON event (customer_id, event_id);
CREATE INDEX event_by_type ON event (type_key, event_id);
CREATE INDEX event_by_hash ON event (device_sn, received_ms) WHERE identity_hash IS NOT NULL;

CREATE TABLE vitals (
    device_sn                TEXT COLLATE "C" NOT NULL,
    measured_ms              BIGINT  NOT NULL,
    received_ms              BIGINT  NOT NULL,
    customer_id              TEXT COLLATE "C" NOT NULL,
    person_id                TEXT COLLATE "C",
    heart_rate               DOUBLE PRECISION,
    blood_oxygen             DOUBLE PRECISION,
    body_temperature         DOUBLE PRECISION,
    blood_pressure_systolic  DOUBLE PRECISION,
    blood_pressure_diastolic DOUBLE PRECISION,
    stress                   DOUBLE PRECISION,
    step                     DOUBLE PRECISION,
    distance                 DOUBLE PRECISION,
    calorie                  DOUBLE PRECISION,
    latitude                 DOUBLE PRECISION,
    longitude                DOUBLE PRECISION,
    altitude                 DOUBLE PRECISION,
    upload_method            TEXT COLLATE "C",
    sleep                    TEXT COLLATE "C",
    exercise_daily           TEXT COLLATE "C",
    exercise_week            TEXT COLLATE "C",
    scientific_sleep         TEXT COLLATE "C",
    workout                  TEXT COLLATE "C",
    worn                     BOOLEAN NOT NULL,
    identity_hash            BYTEA,
    extra                    TEXT COLLATE "C",
    PRIMARY KEY (device_sn, measured_ms)
) PARTITION BY RANGE (measured_ms);
CREATE TABLE vitals_other PARTITION OF vitals DEFAULT;

CREATE TABLE alert (
    alert_id     BIGINT NOT NULL PRIMARY KEY,
    rule_id      TEXT COLLATE "C" NOT NULL,
    device_sn    TEXT COLLATE "C" NOT NULL,
    binding_id   BIGINT NOT NULL,
    customer_id  TEXT COLLATE "C" NOT NULL,
    severity     TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    is_open      BOOLEAN NOT NULL,
    count        INTEGER NOT NULL,
    occurred_ms  BIGINT NOT NULL,
    raised_ms    BIGINT NOT NULL,
    -- Offset of the change that wrote this row: a smaller one never overwrites it.
    last_offset  BIGINT NOT NULL,
    -- The alert object as JSON, as the stream and the REST API show it.
    body         TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX alert_open ON alert (device_sn, rule_id, binding_id) WHERE is_open;
CREATE INDEX alert_open_by_raised ON alert (raised_ms, alert_id) WHERE is_open;
CREATE INDEX alert_by_raised ON alert (raised_ms, alert_id);
CREATE INDEX alert_by_customer ON alert (customer_id, raised_ms, alert_id);
CREATE INDEX alert_by_device ON alert (device_sn, raised_ms, alert_id);
CREATE INDEX alert_by_state ON alert (state, raised_ms, alert_id);
CREATE INDEX alert_by_severity ON alert (severity, raised_ms, alert_id);
CREATE INDEX alert_by_rule ON alert (rule_id, raised_ms, alert_id);
CREATE INDEX alert_open_by_customer ON alert (customer_id, raised_ms, alert_id) WHERE is_open;

-- The log of the stream. Gap-free offsets within an epoch (meta 'epoch').
CREATE TABLE alert_change (
    change_offset BIGINT  NOT NULL PRIMARY KEY,
    alert_id      BIGINT  NOT NULL,
    transition    TEXT COLLATE "C" NOT NULL,
    cause         TEXT COLLATE "C" NOT NULL,
    at_ms         BIGINT  NOT NULL,
    actor         TEXT COLLATE "C",
    note          TEXT COLLATE "C",
    quiet         BOOLEAN NOT NULL,
    device_sn     TEXT COLLATE "C" NOT NULL,
    customer_id   TEXT COLLATE "C" NOT NULL,
    severity      TEXT COLLATE "C" NOT NULL,
    -- The alert object as JSON, as it was after this change.
    body          TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX alert_change_cause ON alert_change (alert_id, cause, transition);
CREATE INDEX alert_change_by_alert ON alert_change (alert_id, change_offset);

-- What has been on a viewer's screen, as ranges of offsets.
CREATE TABLE alert_shown (
    session_id  TEXT COLLATE "C" NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset   BIGINT NOT NULL,
    viewer      TEXT COLLATE "C" NOT NULL,
    shown_ms    BIGINT NOT NULL,
    PRIMARY KEY (session_id, from_offset, to_offset)
);

CREATE TABLE alert_rule (
    rule_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    customer_id TEXT COLLATE "C",
    name        TEXT COLLATE "C" NOT NULL,
    severity    TEXT COLLATE "C" NOT NULL,
    enabled     BOOLEAN NOT NULL,
    built_in    BOOLEAN NOT NULL,
    version     BIGINT  NOT NULL,
    -- Condition as JSON (see the REST API's rules).
    condition   TEXT COLLATE "C" NOT NULL,
    changed_ms  BIGINT  NOT NULL,
    changed_by  TEXT COLLATE "C" NOT NULL
);

CREATE TABLE device_message (
    message_key BYTEA NOT NULL PRIMARY KEY,
    device_sn   TEXT COLLATE "C" NOT NULL,
    direction   TEXT COLLATE "C" NOT NULL,
    message_id  TEXT COLLATE "C",
    body        TEXT COLLATE "C" NOT NULL,
    received_ms BIGINT NOT NULL
);
CREATE INDEX device_message_by_device ON device_message (device_sn, received_ms);

CREATE TABLE watch_log (
    log_key     BYTEA NOT NULL PRIMARY KEY,
    device_sn   TEXT COLLATE "C" NOT NULL,
    logged_ms   BIGINT NOT NULL,
    level       TEXT COLLATE "C",
    content     TEXT COLLATE "C" NOT NULL,
    received_ms BIGINT NOT NULL
);
CREATE INDEX watch_log_by_device ON watch_log (device_sn, logged_ms);

CREATE TABLE quarantine (
    quarantine_id   BIGINT NOT NULL PRIMARY KEY,
    body_hash       BYTEA NOT NULL UNIQUE,
    first_seen_ms   BIGINT NOT NULL,
    last_seen_ms    BIGINT NOT NULL,
    seen_count      BIGINT NOT NULL,
    route           TEXT COLLATE "C" NOT NULL,
    reason          TEXT COLLATE "C" NOT NULL,
    names_emergency BOOLEAN NOT NULL,
    size_bytes      BIGINT NOT NULL,
    body            BYTEA NOT NULL
);
CREATE INDEX quarantine_by_last_seen ON quarantine (last_seen_ms, quarantine_id);

CREATE TABLE api_token (
    token_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- SHA-256 of the token; the token itself is never stored.
    token_hash  BYTEA NOT NULL UNIQUE,
    name        TEXT COLLATE "C" NOT NULL,
    -- admin, session, or login_code (one use).
    kind        TEXT COLLATE "C" NOT NULL,
    -- Null sees everything.
    customer_id TEXT COLLATE "C",
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT,
    revoked_ms  BIGINT
);
CREATE INDEX api_token_by_expiry ON api_token (expires_ms) WHERE expires_ms IS NOT NULL;

INSERT INTO customer (customer_id, name, created_ms) VALUES ('0', 'default', 0);
