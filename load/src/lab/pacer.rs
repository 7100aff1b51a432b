//! When what is due: arrivals of an open loop, and a clock that wakes in time.

use std::io;
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use super::request::Kind;
use super::scenario::{Arrivals, Phase};

/// Wakes within some 50 µs; tokio's own timers are good to a millisecond, which is as long as the
/// answers that are measured.
pub struct Clock {
    /// A timer's file descriptor: like a pipe, it becomes readable and is read.
    timer: Receiver,
}

impl Clock {
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: Receiver::from_owned_fd_unchecked(timer)? })
    }

    pub async fn until(&self, due: Instant) -> io::Result<()> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let spec = Itimerspec { it_interval: none, it_value: once };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
            self.timer.readable().await?;
            // Nothing to read means that it woke for nothing; the loop looks at the time again.
            let _ = self.timer.try_read(&mut [0; 8]);
        }
    }
}

/// Small, fast, and the same for the same seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0, less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 for `below` 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }
}

/// Draws kinds by their shares.
#[derive(Debug, Clone)]
pub struct Mix {
    until: Vec<(u64, Kind)>,
    total: u64,
}

impl Mix {
    pub fn new(shares: impl IntoIterator<Item = (Kind, u32)>) -> Self {
        let mut mix = Self { until: Vec::new(), total: 0 };
        for (kind, share) in shares.into_iter().filter(|(_, share)| *share > 0) {
            mix.total += u64::from(share);
            mix.until.push((mix.total, kind));
        }
        mix
    }

    pub fn draw(&self, random: &mut Random) -> Kind {
        let at = random.below(self.total);
        self.until.iter().find(|(until, _)| at < *until).map_or(Kind::Event, |(_, kind)| *kind)
    }
}

/// The arrivals of one phase, in order.
pub struct Timetable {
    at_s: f64,
    rate: f64,
    slope: f64,
    spacing: Arrivals,
    seconds: f64,
    begin_ns: u64,
}

impl Timetable {
    /// `rate`: requests per second when the phase begins.
    pub fn new(phase: &Phase, rate: f64, begin_ns: u64, spacing: Arrivals) -> Self {
        let slope = (phase.rate_to.unwrap_or(rate) - rate) / phase.seconds.max(f64::EPSILON);
        Self { at_s: 0.0, rate, slope, spacing, seconds: phase.seconds, begin_ns }
    }

    /// When the next request is due, in nanoseconds since the start of the run.
    pub fn next(&mut self, random: &mut Random) -> Option<u64> {
        let step = match self.spacing {
            Arrivals::Even => 1.0,
            Arrivals::Poisson => -(1.0 - random.unit()).ln(),
        };
        self.at_s += step / (self.rate + self.slope * self.at_s).max(0.01);
        (self.at_s < self.seconds).then_some(self.begin_ns + nanos(self.at_s))
    }
}

pub fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(text: &str) -> Phase {
        toml::from_str(&format!("name = 'x'\n{text}")).expect("a phase")
    }

    fn dues(phase: &Phase, spacing: Arrivals) -> Vec<u64> {
        let mut random = Random::new(7);
        let mut table = Timetable::new(phase, phase.rate.expect("a rate"), 0, spacing);
        std::iter::from_fn(|| table.next(&mut random)).collect()
    }

    #[test]
    fn an_open_loop_has_its_rate_and_its_order() {
        let steady = phase("seconds = 100\nrate = 50");
        assert!((4_999..=5_000).contains(&dues(&steady, Arrivals::Even).len()));
        let drawn = dues(&steady, Arrivals::Poisson);
        assert!((4_700..5_300).contains(&drawn.len()), "{}", drawn.len());
        assert!(drawn.windows(2).all(|pair| pair[0] <= pair[1]));
        // From 10 to 90 a second is 50 on average, more of them late.
        let ramp = dues(&phase("seconds = 100\nrate = 10\nrate_to = 90"), Arrivals::Even);
        assert!((4_800..5_200).contains(&ramp.len()), "{}", ramp.len());
        let early = ramp.iter().filter(|due_ns| **due_ns < 50_000_000_000).count();
        assert!(early < ramp.len() / 3, "{early} of {}", ramp.len());
    }

    #[test]
    fn a_mix_has_its_shares() {
        let mix = Mix::new([(Kind::Sos, 1), (Kind::Event, 0), (Kind::Vitals, 3)]);
        let mut random = Random::new(3);
        let sos = (0..4_000).filter(|_| mix.draw(&mut random) == Kind::Sos).count();
        assert!((850..1_150).contains(&sos), "{sos}");
    }

    #[tokio::test]
    async fn the_clock_does_not_wake_early() {
        let clock = Clock::new().expect("a timer");
        let due = Instant::now() + std::time::Duration::from_millis(5);
        clock.until(due).await.expect("a wake-up");
        assert!(Instant::now() >= due);
        clock.until(due).await.expect("no wait for what has passed");
    }
}
