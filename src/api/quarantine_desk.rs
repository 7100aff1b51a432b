//! Bodies that no watch can have meant: a copy for people, a clear answer for the sender, and no
//! second refusal of the same bytes, since a watch would repeat them for ever.

use std::sync::{Arc, Mutex, PoisonError};

use cached::{Cached, LruCache};
use tokio::sync::Semaphore;

use crate::config::QuarantineConfig;
use crate::domain::event::{Claims, DeviceReport, EventReport, ReportBody, ReportedTime};
use crate::domain::identity;
use crate::domain::ids::DeviceSn;
use crate::ingest::admission::{Admission, NotPromised};
use crate::storage::command::{Command, CommandError, CommandReply, NewQuarantine};
use crate::telemetry::{KindLabels, Metrics};
use crate::writer::client::WriterClient;

/// Under this serial unreadable emergencies share one alert.
pub const UNREADABLE_SN: &str = "watchpost:unreadable";
/// Matched by the built-in SOS rule.
const UNREADABLE_TYPE: &str = "SOS_UNREADABLE";
/// What makes unreadable bytes an emergency, in upper case.
const EMERGENCY_WORDS: [&str; 3] = ["SOS", "FALL", "ONE_KEY"];

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    First {
        quarantine_id: i64,
    },
    /// The same bytes have been here before.
    Again,
    /// No room for a copy; it was refused all the same.
    NoRoom,
}

#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The bytes name an emergency, and its alert could not be stored: the sender must try again.
    #[error("an unreadable emergency could not be raised: {0}")]
    NotRaised(#[from] NotPromised),
    #[error(transparent)]
    Command(#[from] CommandError),
}

pub struct QuarantineDesk {
    config: QuarantineConfig,
    permits: Semaphore,
    known: Mutex<LruCache<[u8; 32], ()>>,
    writer: WriterClient,
    admission: Admission,
    metrics: Arc<Metrics>,
}

impl QuarantineDesk {
    pub fn new(
        config: &QuarantineConfig,
        writer: WriterClient,
        admission: Admission,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config: config.clone(),
            permits: Semaphore::new(config.permits),
            known: Mutex::new(LruCache::new(config.known_hashes_max)),
            writer,
            admission,
            metrics,
        }
    }

    /// Takes a body that cannot be understood. `route` and `reason` are for people.
    pub async fn keep(&self, body: &[u8], route: &'static str, reason: String) -> Result<Kept, DeskError> {
        let hash = identity::sha256(body);
        if self.is_known(&hash) {
            return Ok(Kept::Again);
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            Metrics::count(&self.metrics.refused, "quarantine");
            return Ok(Kept::NoRoom);
        };
        let names_emergency = names_emergency(body);
        let command = Command::Quarantine(NewQuarantine {
            body_hash: hash,
            size_bytes: body.len() as u64,
            body: body.to_vec(),
            route,
            reason,
            names_emergency,
            bodies_max: self.config.bodies_max,
            bytes_max: self.config.bytes_max,
        });
        let (quarantine_id, seen_count) = match self.writer.execute(command).await {
            Ok(CommandReply::Quarantined { quarantine_id, seen_count }) => (quarantine_id, seen_count),
            Ok(CommandReply::QuarantineFull) => {
                Metrics::count(&self.metrics.refused, "quarantine");
                // It may stay full for long, and the same bytes must not be refused all that time.
                self.remember(hash);
                return Ok(Kept::NoRoom);
            }
            Ok(_) => return Ok(Kept::NoRoom),
            Err(CommandError::Busy(_)) => {
                Metrics::count(&self.metrics.refused, "quarantine");
                return Ok(Kept::NoRoom);
            }
            Err(err) => return Err(err.into()),
        };
        self.metrics.quarantined.get_or_create(&KindLabels { kind: route }).inc();
        if names_emergency {
            // Also for bytes that have been here before: their alert may not have been stored then.
            self.raise(quarantine_id, hash).await?;
        }
        // Only now is nothing left to be done for these bytes.
        self.remember(hash);
        Ok(if seen_count == 1 { Kept::First { quarantine_id } } else { Kept::Again })
    }

    fn is_known(&self, hash: &[u8; 32]) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).cache_get(hash).is_some()
    }

    fn remember(&self, hash: [u8; 32]) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).cache_set(hash, ());
    }

    /// The same for a report that was read, but that no shard could decide upon.
    pub async fn raise_undecided(
        &self,
        device_sn: &str,
        event_type: &str,
        hash: [u8; 32],
    ) -> Result<(), NotPromised> {
        let what = "an emergency that could not be decided upon; its copy is in quarantine";
        self.raise_as(format!("{event_type} of {device_sn}"), what, hash).await
    }

    /// Somebody may have pressed SOS: people must see that, even if nothing else can be read.
    async fn raise(&self, quarantine_id: i64, hash: [u8; 32]) -> Result<(), NotPromised> {
        let what = "a body that names an emergency could not be read";
        self.raise_as(format!("quarantine {quarantine_id}"), what, hash).await
    }

    async fn raise_as(&self, value: String, what: &'static str, hash: [u8; 32]) -> Result<(), NotPromised> {
        let report = DeviceReport {
            device_sn: DeviceSn::parse(UNREADABLE_SN).expect("the constant is a valid serial"),
            claims: Claims::default(),
            body: ReportBody::Event(EventReport {
                event_type: UNREADABLE_TYPE.into(),
                value: Some(value.into()),
                time: ReportedTime::Missing,
                client_event_id: None,
                level: None,
                description: Some(what.into()),
                location: None,
                vitals: Vec::new(),
            }),
            extra: None,
            warnings: Vec::new(),
            body_hash: hash,
        };
        self.admission.submit(vec![report], 1024).await.map(|_| ())
    }
}

/// True if the bytes contain one of the emergency words, in any case.
pub fn names_emergency(body: &[u8]) -> bool {
    EMERGENCY_WORDS.iter().any(|word| {
        let word = word.as_bytes();
        body.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
    })
}
