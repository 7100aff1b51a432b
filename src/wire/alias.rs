//! The names that dialects have for the same thing, in the order in which they are believed.
//!
//! Dialects: snake case and camel case of the watch and of old test scripts, words with blanks and
//! PascalCase of the vendor's device information, initials of Chinese words (`xlv` is 心率, heart
//! rate) of an old export, and the words of the Java services.

use crate::domain::vitals::Metric;

pub(super) type Names = &'static [&'static str];

/// `id` comes last: in some dialects it numbers the record.
pub(super) const DEVICE: Names = &[
    "deviceSn",
    "device_sn",
    "SerialNumber",
    "serial_number",
    "serialNumber",
    "device_id",
    "deviceId",
    "sn",
    "id",
];
pub(super) const CUSTOMER: Names = &["customerId", "customer_id"];
pub(super) const ORG: Names = &["orgId", "org_id"];
pub(super) const USER: Names = &["userId", "user_id"];
pub(super) const TIME: Names = &[
    "timestamp",
    "eventTime",
    "event_time",
    "occurAt",
    "occur_at",
    "create_time",
    "createTime",
    "cjsj",
    "last_sync",
];

pub(super) const LATITUDE: Names = &["latitude", "lat", "wd"];
pub(super) const LONGITUDE: Names = &["longitude", "lng", "lon", "jd"];
pub(super) const ALTITUDE: Names = &["altitude", "alt", "hb"];
pub(super) const LOCATION: &str = "location";

pub(super) const EVENT_TYPE: Names = &["eventType", "event_type", "action", ALERT_TYPE];
/// The Java services' name of an event type; then the value is in `message`.
pub(super) const ALERT_TYPE: &str = "alert_type";
pub(super) const EVENT_VALUE: Names = &["eventValue", "event_value", "value", EVENT_DATA];
pub(super) const ALERT_VALUE: Names = &["eventValue", "event_value", "value", "message", EVENT_DATA];
/// JSON, mostly as text; may hold a location.
pub(super) const EVENT_DATA: &str = "eventData";
pub(super) const EVENT_ID: Names = &["eventId", "event_id"];
pub(super) const EVENT_LEVEL: Names = &["eventLevel", "event_level", "severity"];
pub(super) const EVENT_DESCRIPTION: Names = &["eventDescription", "event_description", "description"];
/// Which metric a metric event is about, where its type does not say.
pub(super) const EVENT_METRIC: &str = "metric";
/// Keys that only events have.
pub(super) const EVENT_MARKS: Names = &[
    "eventType",
    "event_type",
    ALERT_TYPE,
    "eventValue",
    "event_value",
    EVENT_DATA,
    "eventLevel",
    "event_level",
];
/// Health records of an event. `heatlhData` is how old watches spell it.
pub(super) const HEALTH: Names = &["healthData", "heatlhData", "health_data"];

pub(super) const METRICS: [(Metric, Names); Metric::COUNT] = [
    (Metric::HeartRate, &["heart_rate", "heartRate", "xlv"]),
    (Metric::BloodOxygen, &["blood_oxygen", "bloodOxygen", "spo2", "xy"]),
    (Metric::BodyTemperature, &["body_temperature", "bodyTemperature", "temperature", "tw"]),
    (
        Metric::BloodPressureSystolic,
        &[
            "blood_pressure_systolic",
            "bloodPressureSystolic",
            "bloodPressureSys",
            "pressureHigh",
            "pressure_high",
            "gxy",
        ],
    ),
    (
        Metric::BloodPressureDiastolic,
        &[
            "blood_pressure_diastolic",
            "bloodPressureDiastolic",
            "bloodPressureDia",
            "pressureLow",
            "pressure_low",
            "dxy",
        ],
    ),
    (Metric::Stress, &["stress", "yl"]),
    (Metric::Step, &["step", "steps", "bs"]),
    (Metric::Distance, &["distance", "jl"]),
    (Metric::Calorie, &["calorie", "rl"]),
];

/// The metric that a metric event names, in any dialect and case.
pub(super) fn metric_named(name: &str) -> Option<Metric> {
    METRICS
        .iter()
        .find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .map(|(metric, _)| *metric)
}

pub(super) const SLEEP: Names = &["sleepData", "sleep_data", "smData"];
pub(super) const EXERCISE_DAILY: Names = &["exerciseDailyData", "exercise_daily_data", "ydData"];
pub(super) const EXERCISE_WEEK: Names =
    &["exerciseWeekData", "exerciseDailyWeekData", "exercise_week_data", "ydWeekData"];
pub(super) const SCIENTIFIC_SLEEP: Names = &["scientificSleepData", "scientific_sleep_data", "kxsmData"];
pub(super) const WORKOUT: Names = &["workoutData", "workout_data"];
pub(super) const UPLOAD_METHOD: Names = &["upload_method", "uploadMethod"];

pub(super) const SOFTWARE_VERSION: Names = &[
    "System Software Version",
    "SystemSoftwareVersion",
    "system_software_version",
    "system_version",
    "systemVersion",
    "softwareVersion",
    "firmware_version",
];
pub(super) const WIFI_ADDRESS: Names = &["Wifi Address", "WifiAddress", "wifi_address", "wifiAddress"];
pub(super) const BLUETOOTH_ADDRESS: Names =
    &["Bluetooth Address", "BluetoothAddress", "bluetooth_address", "bluetoothAddress"];
pub(super) const IP_ADDRESS: Names = &["IP Address", "IPAddress", "IpAddress", "ip_address", "ipAddress"];
pub(super) const NETWORK_MODE: Names = &[
    "Network Access Mode",
    "NetworkAccessMode",
    "network_access_mode",
    "network_mode",
    "networkAccessMode",
    "networkMode",
];
pub(super) const DEVICE_NAME: Names = &["Device Name", "DeviceName", "device_name", "deviceName"];
pub(super) const IMEI: Names = &["IMEI", "Imei", "imei"];
pub(super) const BATTERY: Names = &["batteryLevel", "BatteryLevel", "battery_level"];
pub(super) const VOLTAGE: Names = &["voltage", "Voltage"];
pub(super) const CHARGING: Names = &["chargingStatus", "ChargingStatus", "charging_status"];
pub(super) const WORN: Names = &["wearState", "WearState", "wear_state"];
pub(super) const STATUS: Names = &["status", "Status"];
