//! The watch on its wrist: what it measures, and the JSON that it makes of it.

use chrono::DateTime;
use serde_json::{Value, json};

use crate::profile::Profile;
use crate::settings::Settings;

/// Watches write the wall clock of China without its offset.
const SHANGHAI_OFFSET_MS: i64 = 8 * 3_600_000;
/// A measurement is used again for this long, in milliseconds.
const SNAPSHOT_MS: std::ops::RangeInclusive<i64> = 5_000..=10_000;

/// `yyyy-MM-dd HH:mm:ss` in Shanghai. `clock_ms`: what the watch's clock shows, since 1970.
pub fn wall_clock(clock_ms: i64) -> String {
    let wall = DateTime::from_timestamp_millis(clock_ms + SHANGHAI_OFFSET_MS).unwrap_or_default();
    wall.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Percent at which its wearer puts a watch on its charger, and takes it off again.
const CHARGED_FROM: f64 = 5.0;
const CHARGED_TO: f64 = 98.0;
/// Percent between two measurements.
const DRAIN: f64 = 0.02;
const CHARGE: f64 = 0.2;

/// Drifting vital signs, position and battery.
#[derive(Debug, Clone)]
pub struct Body {
    serial: String,
    has_location: bool,
    pub worn: bool,
    /// By the watch's clock; until then there is no pulse, and all measurements are 0.
    first_pulse_ms: i64,
    heart_rate: f64,
    blood_oxygen: f64,
    temperature: f64,
    stress: f64,
    step: u64,
    latitude: f64,
    longitude: f64,
    stride_deg: f64,
    battery: f64,
    is_charging: bool,
    /// The last measurement, with the clock at which it was taken and until which it is used.
    snapshot: Option<(Value, i64, i64)>,
}

fn drift(value: &mut f64, step: f64, low: f64, high: f64, rng: &mut fastrand::Rng) {
    *value = (*value + (rng.f64() - 0.5) * 2.0 * step).clamp(low, high);
}

impl Body {
    pub fn new(profile: &Profile, first_pulse_ms: i64, rng: &mut fastrand::Rng) -> Self {
        let mut body = Self {
            serial: profile.serial.clone(),
            has_location: profile.has_location,
            worn: true,
            first_pulse_ms,
            heart_rate: 62.0 + 30.0 * rng.f64(),
            blood_oxygen: 95.0 + 4.0 * rng.f64(),
            temperature: 36.2 + 0.8 * rng.f64(),
            stress: 15.0 + 40.0 * rng.f64(),
            step: rng.u64(0..6_000),
            latitude: 22.5 + 0.1 * rng.f64(),
            longitude: 114.0 + 0.1 * rng.f64(),
            stride_deg: profile.stride_deg,
            battery: 40.0 + 60.0 * rng.f64(),
            is_charging: false,
            snapshot: None,
        };
        body.battery = profile.battery_percent.unwrap_or(body.battery);
        body
    }

    /// It lies on its charger, or somebody has taken it off.
    fn is_on_a_wrist(&self) -> bool {
        self.worn && !self.is_charging
    }

    /// What the other one measured last, at the place where it was.
    pub fn go_on_from(&mut self, past: &Self) {
        self.heart_rate = past.heart_rate;
        self.blood_oxygen = past.blood_oxygen;
        self.temperature = past.temperature;
        self.stress = past.stress;
        self.step = past.step;
        self.latitude = past.latitude;
        self.longitude = past.longitude;
    }

    /// It had a pulse already at this time of its clock.
    pub fn has_pulse_since(&mut self, clock_ms: i64) {
        self.first_pulse_ms = self.first_pulse_ms.min(clock_ms);
    }

    /// The record of now, and its time. Within 5 to 10 s it is the one of before. A watch that was
    /// taken off repeats its last values under a new time.
    pub fn record(&mut self, clock_ms: i64, settings: &Settings, rng: &mut fastrand::Rng) -> (Value, String) {
        if let Some((record, taken_ms, until_ms)) = &self.snapshot
            && (*taken_ms..*until_ms).contains(&clock_ms)
        {
            return (record.clone(), wall_clock(*taken_ms));
        }
        if self.is_on_a_wrist() {
            drift(&mut self.heart_rate, 3.0, 52.0, 118.0, rng);
            drift(&mut self.blood_oxygen, 0.6, 94.0, 99.0, rng);
            drift(&mut self.temperature, 0.1, 35.8, 37.4, rng);
            drift(&mut self.stress, 4.0, 5.0, 80.0, rng);
            drift(&mut self.latitude, self.stride_deg, 22.4, 22.7, rng);
            drift(&mut self.longitude, self.stride_deg, 113.9, 114.2, rng);
            self.step += rng.u64(0..40);
        }
        self.use_battery();
        let time = wall_clock(clock_ms);
        let measured = clock_ms >= self.first_pulse_ms;
        let or_zero = |value: f64| if measured { value } else { 0.0 };
        let (step, heart_rate) = (self.step as f64, or_zero(self.heart_rate) as i64);
        // Computed from the pulse, not measured.
        let pressure = |slope, base| if measured { heart_rate * slope / 255 + base } else { 0 };
        let place = |value: f64| if self.has_location { format!("{value:.6}") } else { "0".into() };
        let record = json!({
            "deviceSn": self.serial, "customerId": settings.customer_id,
            "orgId": settings.org_id, "userId": settings.user_id,
            "heart_rate": heart_rate, "blood_oxygen": or_zero(self.blood_oxygen) as i64,
            "body_temperature": format!("{:.1}", or_zero(self.temperature)),
            "step": self.step, "distance": format!("{:.1}", step * 0.7),
            "calorie": format!("{:.1}", step * 31.5),
            "latitude": place(self.latitude), "longitude": place(self.longitude), "altitude": "0.0",
            "stress": or_zero(self.stress) as i64, "upload_method": "wifi",
            "blood_pressure_systolic": pressure(260, 40),
            "blood_pressure_diastolic": pressure(170, 30),
            "sleepData": "null", "exerciseDailyData": "null", "exerciseWeekData": "null",
            "scientificSleepData": "null", "workoutData": "null", "timestamp": time,
        });
        self.snapshot = Some((record.clone(), clock_ms, clock_ms + rng.i64(SNAPSHOT_MS)));
        (record, time)
    }

    fn use_battery(&mut self) {
        self.is_charging = match self.is_charging {
            false => self.battery <= CHARGED_FROM,
            true => self.battery < CHARGED_TO,
        };
        self.battery += if self.is_charging { CHARGE } else { -DRAIN };
    }

    pub fn event(
        &mut self,
        (event_type, value): (&str, &str),
        clock_ms: i64,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> String {
        let mut record = self.record(clock_ms, settings, rng).0;
        record["upload_method"] = "common_event".into();
        let mut event = json!({
            "eventType": event_type, "eventValue": value, "deviceSn": self.serial,
            "customerId": settings.customer_id, "orgId": settings.org_id, "userId": settings.user_id,
            "timestamp": wall_clock(clock_ms),
        });
        if record["heart_rate"] != 0 {
            event["healthData"] = json!({"data": record});
        }
        if self.has_location {
            event["latitude"] = ((self.latitude * 1e6).round() / 1e6).into();
            event["longitude"] = ((self.longitude * 1e6).round() / 1e6).into();
            event["altitude"] = 0.0.into();
        }
        event.to_string()
    }

    /// `wear_as_text`: as it is sent just before the event of a change.
    pub fn device(&self, clock_ms: i64, settings: &Settings, wear_as_text: bool) -> String {
        let worn = i32::from(self.is_on_a_wrist());
        json!({
            "System Software Version": "ARC-AL00CN 4.0.0.900(SP41C700E104R412P100)",
            "Wifi Address": "f0:fa:c7:ed:6c:17", "Bluetooth Address": "B0:FE:E5:8F:FD:D6",
            "IP Address": "192.168.31.192", "Network Access Mode": 2, "SerialNumber": self.serial,
            "Device Name": "HUAWEI WATCH 4-DD6", "IMEI": "861600078000000",
            "batteryLevel": self.battery as i64, "voltage": 3_600 + (self.battery * 6.0) as i64,
            "chargingStatus": if self.is_charging { "CHARGING" } else { "NONE" }, "status": "ACTIVE", "timestamp": wall_clock(clock_ms),
            "wearState": if wear_as_text { Value::from(worn.to_string()) } else { worn.into() },
            "customerId": settings.customer_id, "orgId": settings.org_id, "userId": settings.user_id,
        })
        .to_string()
    }
}
