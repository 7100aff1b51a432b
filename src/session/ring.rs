//! The recent changes, each written out once for all sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::filter::{Subject, View};
use super::frames;
use crate::domain::alert::LoggedChange;
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, Offset, OrgId};
use crate::domain::rule::Severity;

/// One change, ready to send.
#[derive(Debug)]
pub struct Frame {
    pub offset: Offset,
    pub alert_id: AlertId,
    /// Stored, but never delivered.
    pub quiet: bool,
    pub severity: Severity,
    pub customer_id: CustomerId,
    pub org_id: Option<OrgId>,
    pub device_sn: DeviceSn,
    pub event_type: Option<Box<str>>,
    /// Empty if quiet.
    pub text: ByteString,
    /// When its report arrived in this process; `None` for one read back from storage.
    pub arrived: Option<Instant>,
    written: AtomicBool,
}

impl Frame {
    pub fn new(change: &LoggedChange) -> Self {
        Self {
            offset: change.offset,
            alert_id: change.alert.alert_id,
            quiet: change.quiet,
            severity: change.alert.severity,
            customer_id: change.alert.customer_id.clone(),
            org_id: change.alert.org_id.clone(),
            device_sn: change.alert.device_sn.clone(),
            event_type: change.alert.event_type.clone(),
            text: if change.quiet { ByteString::new() } else { frames::alert_text(change) },
            arrived: change.arrived,
            written: AtomicBool::new(false),
        }
    }

    pub fn passes(&self, view: &View) -> bool {
        !self.quiet
            && view.shows(Subject {
                severity: self.severity,
                customer_id: &self.customer_id,
                org_id: self.org_id.as_ref(),
                device_sn: &self.device_sn,
                event_type: self.event_type.as_deref(),
            })
    }

    /// Time from arrival to now, only for the first socket that the frame was written to.
    pub fn first_written(&self, now: Instant) -> Option<Duration> {
        let arrived = self.arrived?;
        (!self.written.swap(true, Ordering::Relaxed)).then(|| now.saturating_duration_since(arrived))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// What a cursor gets.
#[derive(Debug)]
pub struct Slice {
    /// In order; those that pass.
    pub frames: Vec<Arc<Frame>>,
    /// Where to go on: everything up to here is in `frames` or does not pass.
    pub next_cursor: Offset,
}

/// The cursor points before the oldest change that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftRing;

/// Changes of consecutive offsets, bounded by number and bytes; the oldest goes first.
#[derive(Debug)]
pub struct Ring {
    frames: VecDeque<Arc<Frame>>,
    /// Offset before the first frame: the oldest cursor that misses nothing.
    base: Offset,
    bytes: usize,
    frames_max: usize,
    bytes_max: usize,
}

impl Ring {
    /// Empty, at `base`.
    pub fn new(base: Offset, frames_max: usize, bytes_max: usize) -> Self {
        Self { frames: VecDeque::new(), base, bytes: 0, frames_max, bytes_max }
    }

    /// Offset of the newest change.
    pub fn last(&self) -> Offset {
        self.base + self.frames.len() as Offset
    }

    pub fn holds(&self, cursor: Offset) -> bool {
        (self.base..=self.last()).contains(&cursor)
    }

    /// All frames after an offset, `None` if it is not held.
    pub fn after(&self, offset: Offset) -> Option<impl Iterator<Item = &Arc<Frame>>> {
        let skip = usize::try_from(offset - self.base).ok()?;
        self.holds(offset).then(|| self.frames.iter().skip(skip))
    }

    /// The frame must be the next one.
    pub fn push(&mut self, frame: Frame) {
        debug_assert_eq!(frame.offset, self.last() + 1);
        self.bytes += frame.bytes();
        self.frames.push_back(Arc::new(frame));
        while self.frames.len() > self.frames_max || (self.bytes > self.bytes_max && self.frames.len() > 1) {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.base = oldest.offset;
        }
    }

    /// What follows `cursor` and passes: at most `frames_max`, and after the first one at most
    /// `bytes_max`.
    pub fn from(
        &self,
        cursor: Offset,
        view: &View,
        frames_max: usize,
        bytes_max: usize,
    ) -> Result<Slice, LeftRing> {
        let skip = usize::try_from(cursor - self.base).map_err(|_| LeftRing)?;
        let mut slice = Slice { frames: Vec::new(), next_cursor: cursor };
        let mut bytes = 0;
        for frame in self.frames.iter().skip(skip) {
            if frame.passes(view) {
                bytes += frame.text.len();
                let full = slice.frames.len() >= frames_max || bytes > bytes_max;
                if full && !slice.frames.is_empty() {
                    break;
                }
                slice.frames.push(frame.clone());
            }
            slice.next_cursor = frame.offset;
        }
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::owner::Scope;
    use crate::session::filter::Filter;

    fn frame(offset: Offset, severity: Severity, quiet: bool) -> Frame {
        Frame {
            offset,
            alert_id: AlertId(offset),
            quiet,
            severity,
            customer_id: CustomerId::default_customer(),
            org_id: None,
            device_sn: DeviceSn::parse("w1").unwrap(),
            event_type: None,
            text: "x".repeat(100).into(),
            arrived: Some(Instant::now()),
            written: AtomicBool::new(false),
        }
    }

    fn ring(frames_max: usize, bytes_max: usize) -> Ring {
        let mut ring = Ring::new(10, frames_max, bytes_max);
        for offset in 11..=20 {
            let severity = if offset % 2 == 0 { Severity::High } else { Severity::Low };
            ring.push(frame(offset, severity, offset == 14));
        }
        ring
    }

    fn everything() -> View {
        View { scope: Scope::All, filter: Filter::default() }
    }

    fn offsets(slice: &Slice) -> Vec<Offset> {
        slice.frames.iter().map(|frame| frame.offset).collect()
    }

    #[test]
    fn a_cursor_gets_what_passes_after_it_without_quiet_ones() {
        let ring = ring(100, usize::MAX);
        let slice = ring.from(12, &everything(), 100, usize::MAX).unwrap();
        assert_eq!((offsets(&slice), slice.next_cursor), (vec![13, 15, 16, 17, 18, 19, 20], 20));
        let filter = Filter { min_severity: Some(Severity::High), ..Filter::default() };
        let slice = ring.from(10, &View { scope: Scope::All, filter }, 2, usize::MAX).unwrap();
        assert_eq!((offsets(&slice), slice.next_cursor), (vec![12, 16], 17));
    }

    #[test]
    fn a_slice_is_bounded_by_frames_and_bytes_but_never_empty_for_size() {
        let ring = ring(100, usize::MAX);
        assert_eq!(offsets(&ring.from(10, &everything(), 100, 250).unwrap()), vec![11, 12]);
        assert_eq!(offsets(&ring.from(10, &everything(), 100, 1).unwrap()), vec![11]);
        assert_eq!(offsets(&ring.from(10, &everything(), 3, usize::MAX).unwrap()), vec![11, 12, 13]);
    }

    #[test]
    fn the_oldest_leave_first_and_a_cursor_before_them_is_told() {
        let by_number = ring(4, usize::MAX);
        assert_eq!(by_number.from(15, &everything(), 9, usize::MAX).map(|_| ()), Err(LeftRing));
        assert!(by_number.holds(16) && !by_number.holds(15) && !by_number.holds(21));
        let one = frame(1, Severity::Low, false).bytes();
        let by_bytes = ring(100, 3 * one);
        assert_eq!(offsets(&by_bytes.from(17, &everything(), 9, usize::MAX).unwrap()), vec![18, 19, 20]);
        assert!(!by_bytes.holds(16));
    }

    #[test]
    fn only_the_first_socket_is_timed() {
        let frame = frame(1, Severity::Low, false);
        assert!(frame.first_written(Instant::now()).is_some());
        assert!(frame.first_written(Instant::now()).is_none());
    }
}
