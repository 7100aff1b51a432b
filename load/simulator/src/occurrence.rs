//! What can happen to a watch, and which of it becomes an event.

use crate::profile::Rates;

const HEALTH: &str = "com.tdtech.ohos.health.action";
const SYSTEM: &str = "com.tdtech.ohos.action";

/// The same type again within this time is dropped, in milliseconds.
pub const SAME_TYPE_MS: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    Sos,
    OneKeyAlarm,
    Fall,
    /// Put on (true) or taken off.
    Wear(bool),
    Boot,
    Call,
    DoubleClick,
    SettingsChanged,
    StressHigh,
    OxygenLow,
    HeartRateHigh,
    HeartRateLow,
    TemperatureHigh,
}

const ORDINARY: [Occurrence; 8] = [
    Occurrence::Call,
    Occurrence::DoubleClick,
    Occurrence::SettingsChanged,
    Occurrence::StressHigh,
    Occurrence::OxygenLow,
    Occurrence::HeartRateHigh,
    Occurrence::HeartRateLow,
    Occurrence::TemperatureHigh,
];

impl Occurrence {
    /// The whole action name.
    pub fn event_type(self) -> String {
        let (package, name) = match self {
            Occurrence::Sos => (HEALTH, "SOS_EVENT"),
            Occurrence::OneKeyAlarm => (SYSTEM, "ONE_KEY_ALARM"),
            Occurrence::Fall => (HEALTH, "FALLDOWN_EVENT"),
            Occurrence::Wear(_) => (SYSTEM, "WEAR_STATUS_CHANGED"),
            Occurrence::Boot => (SYSTEM, "BOOT_COMPLETED"),
            Occurrence::Call => (SYSTEM, "CALL_STATE"),
            Occurrence::DoubleClick => (SYSTEM, "FUN_DOUBLE_CLICK"),
            Occurrence::SettingsChanged => (SYSTEM, "UI_SETTINGS_CHANGED"),
            Occurrence::StressHigh => (HEALTH, "STRESS_HIGH_ALERT"),
            Occurrence::OxygenLow => (HEALTH, "SPO2_LOW_ALERT"),
            Occurrence::HeartRateHigh => (HEALTH, "HEARTRATE_HIGH_ALERT"),
            Occurrence::HeartRateLow => (HEALTH, "HEARTRATE_LOW_ALERT"),
            Occurrence::TemperatureHigh => (HEALTH, "TEMPERATURE_HIGH_ALERT"),
        };
        format!("{package}.{name}")
    }

    /// What the event says as its value; often nothing useful.
    pub fn value(self, serial: &str, rng: &mut fastrand::Rng) -> String {
        match self {
            Occurrence::Wear(worn) => i32::from(worn).to_string(),
            Occurrence::Fall => "1".into(),
            Occurrence::SettingsChanged => ["0", "1", "null"][rng.usize(..3)].into(),
            Occurrence::StressHigh => or_null(rng, 67, 99),
            Occurrence::OxygenLow => or_null(rng, 80, 89),
            Occurrence::HeartRateHigh => or_null(rng, 121, 170),
            Occurrence::HeartRateLow => or_null(rng, 35, 49),
            Occurrence::TemperatureHigh => format!("{}.{}", rng.u32(38..40), rng.u32(0..10)),
            _ => serial.into(),
        }
    }
}

/// A parameter that is missing gives the text `null`.
fn or_null(rng: &mut fastrand::Rng, low: u32, high: u32) -> String {
    if rng.u32(..10) == 0 { "null".into() } else { rng.u32(low..=high).to_string() }
}

/// Keeps back events that the watch does not send again.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    last_of_type: Vec<(String, i64)>,
    /// What the state holder holds.
    held: String,
}

impl Filter {
    /// True if an event of this type and value is sent at `now_ms` of the watch's clock.
    pub fn passes(&mut self, event_type: &str, value: &str, serial: &str, now_ms: i64) -> bool {
        match self.last_of_type.iter_mut().find(|(known, _)| known == event_type) {
            Some((_, last_ms)) if now_ms - *last_ms < SAME_TYPE_MS => return false,
            Some((_, last_ms)) => *last_ms = now_ms,
            None => self.last_of_type.push((event_type.into(), now_ms)),
        }
        let composed = format!("{event_type}:{value}:{serial}");
        std::mem::replace(&mut self.held, composed) != self.held
    }

    /// A build that does not send falls holds a text of no use instead, so the event after it counts
    /// as a change.
    pub fn hold_unsent(&mut self, event_type: &str) {
        self.held = event_type.into();
    }
}

/// When something happens next by itself, and what.
#[derive(Debug, Clone)]
pub struct Chance {
    rates: Rates,
    next: Option<(i64, usize)>,
}

impl Chance {
    pub fn new(rates: Rates, now_ms: i64, rng: &mut fastrand::Rng) -> Self {
        let mut chance = Self { rates, next: None };
        chance.draw(now_ms, rng);
        chance
    }

    pub fn next_ms(&self) -> Option<i64> {
        self.next.map(|(at_ms, _)| at_ms)
    }

    /// What happens now. `worn`: the present state, for its change.
    pub fn take(&mut self, now_ms: i64, worn: bool, rng: &mut fastrand::Rng) -> Option<Occurrence> {
        let (_, which) = self.next.take_if(|(at_ms, _)| *at_ms <= now_ms)?;
        self.draw(now_ms, rng);
        Some(match which {
            0 => Occurrence::Sos,
            1 => Occurrence::OneKeyAlarm,
            2 => Occurrence::Fall,
            3 => Occurrence::Wear(!worn),
            _ => ORDINARY[rng.usize(..ORDINARY.len())],
        })
    }

    pub fn stop(&mut self) {
        self.rates = Rates::NEVER;
        self.next = None;
    }

    /// Exponential times between occurrences of each kind; the first of them is next.
    fn draw(&mut self, now_ms: i64, rng: &mut fastrand::Rng) {
        let Rates { sos_s, one_key_s, fall_s, wear_s, ordinary_s } = self.rates;
        let means = [sos_s, one_key_s, fall_s, wear_s, ordinary_s];
        let times = means.iter().enumerate().filter(|(_, mean_s)| **mean_s > 0).map(|(which, mean_s)| {
            let mean_ms = *mean_s as f64 * 1_000.0;
            let after_ms = (-(1.0 - rng.f64()).ln() * mean_ms) as i64;
            (now_ms + after_ms.max(1), which)
        });
        self.next = times.min();
    }
}
