-- Times are UTC milliseconds since 1970. Ids of people, organisations and customers are text.
-- alert_change is append-only and is the truth about alerts; alert holds the same, up to date.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE customer (
    customer_id TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE org (
    org_id        TEXT   NOT NULL PRIMARY KEY,
    customer_id   TEXT   NOT NULL REFERENCES customer (customer_id),
    parent_org_id TEXT   REFERENCES org (org_id),
    name          TEXT   NOT NULL,
    created_ms    BIGINT NOT NULL
);

CREATE TABLE person (
    person_id   TEXT   NOT NULL PRIMARY KEY,
    customer_id TEXT   NOT NULL REFERENCES customer (customer_id),
    org_id      TEXT   REFERENCES org (org_id),
    name        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE device (
    device_sn     TEXT   NOT NULL PRIMARY KEY,
    -- Owner by the open binding; the default customer if there is none. What lists filter by.
    customer_id   TEXT   NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    last_seen_ms  BIGINT NOT NULL,
    -- Worn or not by device time; null is unknown.
    worn          BOOLEAN,
    worn_ms       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX device_by_customer ON device (customer_id, device_sn);

CREATE TABLE device_binding (
    binding_id  BIGINT NOT NULL PRIMARY KEY,
    device_sn   TEXT   NOT NULL,
    customer_id TEXT   NOT NULL REFERENCES customer (customer_id),
    org_id      TEXT   REFERENCES org (org_id),
    person_id   TEXT   REFERENCES person (person_id),
    bound_ms    BIGINT NOT NULL,
    bound_by    TEXT   NOT NULL,
    unbound_ms  BIGINT,
    unbound_by  TEXT
);
CREATE UNIQUE INDEX device_binding_open ON device_binding (device_sn) WHERE unbound_ms IS NULL;
CREATE INDEX device_binding_by_device ON device_binding (device_sn, binding_id);

-- One row per device-info upload: history, and its newest row is the present state.
CREATE TABLE device_status (
    device_sn         TEXT   NOT NULL,
    reported_ms       BIGINT NOT NULL,
    received_ms       BIGINT NOT NULL,
    battery_percent   INTEGER,
    voltage_mv        INTEGER,
    charging          TEXT,
    worn              BOOLEAN,
    software_version  TEXT,
    model             TEXT,
    device_name       TEXT,
    imei              TEXT,
    wifi_address      TEXT,
    bluetooth_address TEXT,
    ip_address        TEXT,
    network_mode      TEXT,
    status            TEXT,
    extra             TEXT,
    PRIMARY KEY (device_sn, reported_ms)
);

CREATE TABLE event (
    -- UUIDv8: begins with the time, so inserts stay local and the order is that of time.
    event_id        BLOB    NOT NULL PRIMARY KEY,
    device_sn       TEXT    NOT NULL,
    customer_id     TEXT    NOT NULL,
    org_id          TEXT,
    person_id       TEXT,
    binding_id      BIGINT  NOT NULL,
    event_type      TEXT    NOT NULL,
    -- Last segment of the type in lower case: what lists filter by.
    type_key        TEXT    NOT NULL,
    value           TEXT,
    occurred_ms     BIGINT  NOT NULL,
    time_source     TEXT    NOT NULL,
    received_ms     BIGINT  NOT NULL,
    client_event_id TEXT,
    level           TEXT,
    description     TEXT,
    latitude        DOUBLE PRECISION,
    longitude       DOUBLE PRECISION,
    altitude        DOUBLE PRECISION,
    vitals_ms       BIGINT,
    -- Ids that the body claimed, as JSON. They scope nothing.
    claims          TEXT,
    extra           TEXT,
    warnings        TEXT,
    identity_hash   BLOB,
    alert_id        BIGINT,
    evaluated       BOOLEAN NOT NULL
);
CREATE INDEX event_by_device ON event (device_sn, event_id);
CREATE INDEX event_by_customer ON event (customer_id, event_id);
CREATE INDEX event_by_type ON event (type_key, event_id);
CREATE INDEX event_by_hash ON event (device_sn, received_ms) WHERE identity_hash IS NOT NULL;

CREATE TABLE vitals (
    device_sn                TEXT    NOT NULL,
    measured_ms              BIGINT  NOT NULL,
    received_ms              BIGINT  NOT NULL,
    customer_id              TEXT    NOT NULL,
    person_id                TEXT,
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
    upload_method            TEXT,
    sleep                    TEXT,
    exercise_daily           TEXT,
    exercise_week            TEXT,
    scientific_sleep         TEXT,
    workout                  TEXT,
    worn                     BOOLEAN NOT NULL,
    identity_hash            BLOB,
    extra                    TEXT,
    PRIMARY KEY (device_sn, measured_ms)
);

CREATE TABLE alert (
    alert_id     BIGINT NOT NULL PRIMARY KEY,
    rule_id      TEXT   NOT NULL,
    device_sn    TEXT   NOT NULL,
    binding_id   BIGINT NOT NULL,
    customer_id  TEXT   NOT NULL,
    severity     TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    is_open      BOOLEAN NOT NULL,
    count        INTEGER NOT NULL,
    occurred_ms  BIGINT NOT NULL,
    raised_ms    BIGINT NOT NULL,
    -- Offset of the change that wrote this row: a smaller one never overwrites it.
    last_offset  BIGINT NOT NULL,
    -- The alert object as JSON, as the stream and the REST API show it.
    body         TEXT   NOT NULL
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
    transition    TEXT    NOT NULL,
    cause         TEXT    NOT NULL,
    at_ms         BIGINT  NOT NULL,
    actor         TEXT,
    note          TEXT,
    quiet         BOOLEAN NOT NULL,
    device_sn     TEXT    NOT NULL,
    customer_id   TEXT    NOT NULL,
    severity      TEXT    NOT NULL,
    -- The alert object as JSON, as it was after this change.
    body          TEXT    NOT NULL
);
CREATE UNIQUE INDEX alert_change_cause ON alert_change (alert_id, cause, transition);
CREATE INDEX alert_change_by_alert ON alert_change (alert_id, change_offset);

-- What has been on a viewer's screen, as ranges of offsets.
CREATE TABLE alert_shown (
    session_id  TEXT   NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset   BIGINT NOT NULL,
    viewer      TEXT   NOT NULL,
    shown_ms    BIGINT NOT NULL,
    PRIMARY KEY (session_id, from_offset, to_offset)
);

CREATE TABLE alert_rule (
    rule_id     TEXT    NOT NULL PRIMARY KEY,
    customer_id TEXT,
    name        TEXT    NOT NULL,
    severity    TEXT    NOT NULL,
    enabled     BOOLEAN NOT NULL,
    built_in    BOOLEAN NOT NULL,
    version     BIGINT  NOT NULL,
    -- Condition as JSON (see the REST API's rules).
    condition   TEXT    NOT NULL,
    changed_ms  BIGINT  NOT NULL,
    changed_by  TEXT    NOT NULL
);

CREATE TABLE device_message (
    message_key BLOB   NOT NULL PRIMARY KEY,
    device_sn   TEXT   NOT NULL,
    direction   TEXT   NOT NULL,
    message_id  TEXT,
    body        TEXT   NOT NULL,
    received_ms BIGINT NOT NULL
);
CREATE INDEX device_message_by_device ON device_message (device_sn, received_ms);

CREATE TABLE watch_log (
    log_key     BLOB   NOT NULL PRIMARY KEY,
    device_sn   TEXT   NOT NULL,
    logged_ms   BIGINT NOT NULL,
    level       TEXT,
    content     TEXT   NOT NULL,
    received_ms BIGINT NOT NULL
);
CREATE INDEX watch_log_by_device ON watch_log (device_sn, logged_ms);

CREATE TABLE quarantine (
    quarantine_id   BIGINT NOT NULL PRIMARY KEY,
    body_hash       BLOB   NOT NULL UNIQUE,
    first_seen_ms   BIGINT NOT NULL,
    last_seen_ms    BIGINT NOT NULL,
    seen_count      BIGINT NOT NULL,
    route           TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    names_emergency BOOLEAN NOT NULL,
    size_bytes      BIGINT NOT NULL,
    body            BLOB   NOT NULL
);
CREATE INDEX quarantine_by_last_seen ON quarantine (last_seen_ms, quarantine_id);

CREATE TABLE api_token (
    token_id    TEXT   NOT NULL PRIMARY KEY,
    -- SHA-256 of the token; the token itself is never stored.
    token_hash  BLOB   NOT NULL UNIQUE,
    name        TEXT   NOT NULL,
    -- admin, session, or login_code (one use).
    kind        TEXT   NOT NULL,
    -- Null sees everything.
    customer_id TEXT,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT,
    revoked_ms  BIGINT
);
CREATE INDEX api_token_by_expiry ON api_token (expires_ms) WHERE expires_ms IS NOT NULL;

INSERT INTO customer (customer_id, name, created_ms) VALUES ('0', 'default', 0);
