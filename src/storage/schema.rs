//! Tables as diesel sees them; one for one with `migrations/`.
// Generated from the migrations (column order included); times are UTC milliseconds.

diesel::table! {
    meta (key) {

        key -> Text,

        value -> Text,

    }
}

diesel::table! {
    customer (customer_id) {

        customer_id -> Text,

        name -> Text,

        created_ms -> BigInt,

    }
}

diesel::table! {
    org (org_id) {

        org_id -> Text,

        customer_id -> Text,

        parent_org_id -> Nullable<Text>,

        name -> Text,

        created_ms -> BigInt,

    }
}

diesel::table! {
    person (person_id) {

        person_id -> Text,

        customer_id -> Text,

        org_id -> Nullable<Text>,

        name -> Text,

        created_ms -> BigInt,

    }
}

diesel::table! {
    device (device_sn) {

        device_sn -> Text,

        customer_id -> Text,

        first_seen_ms -> BigInt,

        last_seen_ms -> BigInt,

        worn -> Nullable<Bool>,

        worn_ms -> BigInt,

    }
}

diesel::table! {
    device_binding (binding_id) {

        binding_id -> BigInt,

        device_sn -> Text,

        customer_id -> Text,

        org_id -> Nullable<Text>,

        person_id -> Nullable<Text>,

        bound_ms -> BigInt,

        bound_by -> Text,

        unbound_ms -> Nullable<BigInt>,

        unbound_by -> Nullable<Text>,

    }
}

diesel::table! {
    device_status (device_sn, reported_ms) {

        device_sn -> Text,

        reported_ms -> BigInt,

        received_ms -> BigInt,

        battery_percent -> Nullable<Integer>,

        voltage_mv -> Nullable<Integer>,

        charging -> Nullable<Text>,

        worn -> Nullable<Bool>,

        software_version -> Nullable<Text>,

        model -> Nullable<Text>,

        device_name -> Nullable<Text>,

        imei -> Nullable<Text>,

        wifi_address -> Nullable<Text>,

        bluetooth_address -> Nullable<Text>,

        ip_address -> Nullable<Text>,

        network_mode -> Nullable<Text>,

        status -> Nullable<Text>,

        extra -> Nullable<Text>,

    }
}

diesel::table! {
    event (event_id) {

        event_id -> Binary,

        device_sn -> Text,

        customer_id -> Text,

        org_id -> Nullable<Text>,

        person_id -> Nullable<Text>,

        binding_id -> BigInt,

        event_type -> Text,

        type_key -> Text,

        value -> Nullable<Text>,

        occurred_ms -> BigInt,

        time_source -> Text,

        received_ms -> BigInt,

        client_event_id -> Nullable<Text>,

        level -> Nullable<Text>,

        description -> Nullable<Text>,

        latitude -> Nullable<Double>,

        longitude -> Nullable<Double>,

        altitude -> Nullable<Double>,

        vitals_ms -> Nullable<BigInt>,

        claims -> Nullable<Text>,

        extra -> Nullable<Text>,

        warnings -> Nullable<Text>,

        identity_hash -> Nullable<Binary>,

        alert_id -> Nullable<BigInt>,

        evaluated -> Bool,

    }
}

diesel::table! {
    vitals (device_sn, measured_ms) {

        device_sn -> Text,

        measured_ms -> BigInt,

        received_ms -> BigInt,

        customer_id -> Text,

        person_id -> Nullable<Text>,

        heart_rate -> Nullable<Double>,

        blood_oxygen -> Nullable<Double>,

        body_temperature -> Nullable<Double>,

        blood_pressure_systolic -> Nullable<Double>,

        blood_pressure_diastolic -> Nullable<Double>,

        stress -> Nullable<Double>,

        step -> Nullable<Double>,

        distance -> Nullable<Double>,

        calorie -> Nullable<Double>,

        latitude -> Nullable<Double>,

        longitude -> Nullable<Double>,

        altitude -> Nullable<Double>,

        upload_method -> Nullable<Text>,

        sleep -> Nullable<Text>,

        exercise_daily -> Nullable<Text>,

        exercise_week -> Nullable<Text>,

        scientific_sleep -> Nullable<Text>,

        workout -> Nullable<Text>,

        worn -> Bool,

        identity_hash -> Nullable<Binary>,

        extra -> Nullable<Text>,

    }
}

diesel::table! {
    alert (alert_id) {

        alert_id -> BigInt,

        rule_id -> Text,

        device_sn -> Text,

        binding_id -> BigInt,

        customer_id -> Text,

        severity -> Text,

        state -> Text,

        is_open -> Bool,

        count -> Integer,

        occurred_ms -> BigInt,

        raised_ms -> BigInt,

        last_offset -> BigInt,

        body -> Text,

        outcome -> Nullable<Text>,

    }
}

diesel::table! {
    alert_change (change_offset) {

        change_offset -> BigInt,

        alert_id -> BigInt,

        transition -> Text,

        cause -> Text,

        at_ms -> BigInt,

        actor -> Nullable<Text>,

        note -> Nullable<Text>,

        quiet -> Bool,

        device_sn -> Text,

        customer_id -> Text,

        severity -> Text,

        body -> Text,

        outcome -> Nullable<Text>,

    }
}

diesel::table! {
    alert_shown (alert_id, viewer) {

        alert_id -> BigInt,

        viewer -> Text,

        shown_ms -> BigInt,

    }
}

diesel::table! {
    alert_rule (rule_id) {

        rule_id -> Text,

        customer_id -> Nullable<Text>,

        name -> Text,

        severity -> Text,

        enabled -> Bool,

        built_in -> Bool,

        version -> BigInt,

        condition -> Text,

        changed_ms -> BigInt,

        changed_by -> Text,

    }
}

diesel::table! {
    device_message (message_key) {

        message_key -> Binary,

        device_sn -> Text,

        direction -> Text,

        message_id -> Nullable<Text>,

        body -> Text,

        received_ms -> BigInt,

    }
}

diesel::table! {
    watch_log (log_key) {

        log_key -> Binary,

        device_sn -> Text,

        logged_ms -> BigInt,

        level -> Nullable<Text>,

        content -> Text,

        received_ms -> BigInt,

    }
}

diesel::table! {
    quarantine (quarantine_id) {

        quarantine_id -> BigInt,

        body_hash -> Binary,

        first_seen_ms -> BigInt,

        last_seen_ms -> BigInt,

        seen_count -> BigInt,

        route -> Text,

        reason -> Text,

        names_emergency -> Bool,

        size_bytes -> BigInt,

        body -> Binary,

    }
}

diesel::table! {
    api_token (token_id) {

        token_id -> Text,

        token_hash -> Binary,

        name -> Text,

        kind -> Text,

        customer_id -> Nullable<Text>,

        created_ms -> BigInt,

        expires_ms -> Nullable<BigInt>,

        revoked_ms -> Nullable<BigInt>,

    }
}

diesel::allow_tables_to_appear_in_same_query!(
    meta,
    customer,
    org,
    person,
    device,
    device_binding,
    device_status,
    event,
    vitals,
    alert,
    alert_change,
    alert_shown,
    alert_rule,
    device_message,
    watch_log,
    quarantine,
    api_token,
);
