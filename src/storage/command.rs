//! Administrative writes: what is not a report. They are executed by the writer, each in a
//! transaction of its own between two batches, so that there is never a second writer.

use serde::Serialize;

use super::database::StorageError;
pub use super::execute::execute;
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, OrgId, PersonId, RuleId};
use crate::domain::owner::{Owner, Scope};
use crate::domain::rule::Rule;
use crate::domain::time::UtcMillis;
use crate::supervision::outage::OutageKind;

/// Who a device is given to.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBinding {
    pub device_sn: DeviceSn,
    pub customer_id: CustomerId,
    pub customer_name: Option<String>,
    pub org_id: Option<OrgId>,
    pub org_name: Option<String>,
    pub person_id: Option<PersonId>,
    pub person_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    Admin,
    /// A browser's, made from a login code or a token.
    Session,
    /// One use, ten minutes.
    LoginCode,
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub token_id: String,
    /// SHA-256; the token itself is shown once and never stored.
    pub token_hash: [u8; 32],
    pub name: String,
    pub kind: TokenKind,
    /// `None` sees everything.
    pub customer_id: Option<CustomerId>,
    pub expires: Option<UtcMillis>,
}

#[derive(Debug, Clone)]
pub struct NewQuarantine {
    pub body_hash: [u8; 32],
    pub body: Vec<u8>,
    /// Size as it came; larger than `body` if only its beginning is kept.
    pub size_bytes: u64,
    pub route: &'static str,
    pub reason: String,
    pub names_emergency: bool,
    /// Copies and bytes to keep. Those that name no emergency go first, then the oldest.
    pub bodies_max: u32,
    pub bytes_max: u64,
}

#[derive(Debug, Clone)]
pub struct NewWatchLog {
    pub device_sn: DeviceSn,
    pub logged_at: UtcMillis,
    pub level: Option<String>,
    pub content: String,
    /// SHA-256 of the entry as sent: a retry is stored once.
    pub log_key: [u8; 32],
}

#[derive(Debug, Clone)]
pub struct NewDeviceMessage {
    pub device_sn: DeviceSn,
    pub message_id: Option<String>,
    /// JSON as sent.
    pub body: String,
    /// SHA-256 of the message as sent.
    pub message_key: [u8; 32],
}

/// What the writer executes besides batches. Every kind is idempotent.
#[derive(Debug, Clone)]
pub enum Command {
    /// Creates, or replaces if `replace`. The stored version grows by one.
    PutRule {
        rule: Rule,
        replace: bool,
        actor: String,
    },
    DeleteRule {
        rule_id: RuleId,
        actor: String,
    },
    /// Ends the device's open binding, if it is another one, and opens this. `scope` is the
    /// caller's, checked in the transaction: nobody takes a device away from another customer.
    PutBinding {
        binding: NewBinding,
        scope: Scope,
        actor: String,
    },
    EndBinding {
        device_sn: DeviceSn,
        scope: Scope,
        actor: String,
    },
    /// All or nothing.
    ImportBindings {
        bindings: Vec<NewBinding>,
        scope: Scope,
        actor: String,
    },
    CreateToken(NewToken),
    /// Revokes a token and the sessions that were made from it.
    RevokeToken {
        token_id: String,
    },
    /// Uses up a login code and makes the session token of the browser that showed it. Name and
    /// customer are those of the code, whatever `session` says.
    RedeemLoginCode {
        code_hash: [u8; 32],
        session: NewToken,
    },
    Quarantine(NewQuarantine),
    /// Deletes a copy that is of no use any more.
    DeleteQuarantine {
        quarantine_id: i64,
    },
    StoreWatchLogs(Vec<NewWatchLog>),
    StoreDeviceMessage(NewDeviceMessage),
    RecordShown {
        viewer: String,
        /// Each with the time when it was confirmed.
        alerts: Vec<(AlertId, UtcMillis)>,
    },
    /// Writes as much as a small batch, to see whether that is possible.
    Probe,
    /// Reports are taken from now on: a start that finds this mark is told that nobody took it away.
    MarkRunning,
    /// Nothing is left to write: the next start finds a server that was stopped well.
    MarkStopped,
}

impl Command {
    /// Kind for metrics and for the bound on waiting commands.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::PutRule { .. } | Command::DeleteRule { .. } => "rule",
            Command::PutBinding { .. } | Command::EndBinding { .. } | Command::ImportBindings { .. } => {
                "binding"
            }
            Command::CreateToken(_) | Command::RevokeToken { .. } | Command::RedeemLoginCode { .. } => {
                "token"
            }
            Command::Quarantine(_) => "quarantine",
            // Not the kind of the above: a flood of bad bodies keeps no operator out.
            Command::DeleteQuarantine { .. } => "quarantine_delete",
            Command::StoreWatchLogs(_) => "watch_log",
            Command::StoreDeviceMessage(_) => "device_message",
            Command::RecordShown { .. } => "shown",
            Command::Probe => "probe",
            Command::MarkRunning | Command::MarkStopped => "running",
        }
    }
}

/// What a command answers.
#[derive(Debug, Clone)]
pub enum CommandReply {
    Done,
    Rule(Rule),
    /// The device's owner afterwards.
    Owner(Owner),
    /// Devices whose owner changed.
    Imported {
        changed: Vec<DeviceSn>,
    },
    /// How often these bytes have come, this time included, and the id of their row.
    Quarantined {
        quarantine_id: i64,
        seen_count: i64,
    },
    /// There was no room for a copy but that of copies that name an emergency.
    QuarantineFull,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{0} does not exist")]
    NotFound(&'static str),
    /// It would contradict what is stored; the text says what and what to do.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error("the server has too many {0} commands waiting")]
    Busy(&'static str),
    #[error("the writer is restarting; try again")]
    WriterAway,
    /// Nothing can be written now; it goes on by itself.
    #[error("{0}; nothing can be stored now")]
    Outage(OutageKind),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<diesel::result::Error> for CommandError {
    fn from(err: diesel::result::Error) -> Self {
        CommandError::Storage(err.into())
    }
}

/// An alert that a raise met in storage and became a repeat of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    pub raised: AlertId,
    pub into: AlertId,
}
