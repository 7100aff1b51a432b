//! Which watch this is, and what happens to who wears it.

/// How often something happens by itself, as the mean of the time between, in seconds. 0: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub sos_s: u64,
    pub one_key_s: u64,
    pub fall_s: u64,
    /// Taken off, or put on again.
    pub wear_s: u64,
    /// Calls, double clicks, changed settings, vital signs beyond the watch's own limits.
    pub ordinary_s: u64,
}

impl Rates {
    /// Nothing happens but what the caller makes happen.
    pub const NEVER: Rates = Rates { sos_s: 0, one_key_s: 0, fall_s: 0, wear_s: 0, ordinary_s: 0 };
}

impl Default for Rates {
    fn default() -> Self {
        Self { sos_s: 7_200, one_key_s: 14_400, fall_s: 14_400, wear_s: 3_600, ordinary_s: 600 }
    }
}

#[derive(Debug, Clone)]
pub struct Profile {
    pub serial: String,
    /// How far the watch's clock is ahead of true time, in milliseconds; negative if it is behind.
    pub clock_offset_ms: i64,
    /// The build that the protocol describes never sends a fall. Others do.
    pub sends_falls: bool,
    /// False: no fix, so events come without a position.
    pub has_location: bool,
    /// How far its wearer walks at most between two measurements, in degrees.
    pub stride_deg: f64,
    /// Charge at the start, percent. `None`: anything above 40.
    pub battery_percent: Option<f64>,
    pub rates: Rates,
    /// Replaces what the settings say about the interval of health uploads, in seconds.
    pub health_interval_s: Option<u64>,
}

impl Profile {
    /// A watch with an exact clock to which nothing happens by itself.
    pub fn new(serial: impl Into<String>) -> Self {
        Self {
            serial: serial.into(),
            clock_offset_ms: 0,
            sends_falls: true,
            has_location: true,
            stride_deg: 0.000_2,
            battery_percent: None,
            rates: Rates::NEVER,
            health_interval_s: None,
        }
    }
}
