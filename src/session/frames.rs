//! The JSON frames of the stream.

use std::sync::Arc;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::filter::Filter;
use super::messages::VitalsUpdate;
use super::pending::{Pending, PendingFrame};
use crate::domain::alert::{Alert, LoggedChange, Outcome, Transition};
use crate::domain::ids::{DeviceSn, Offset};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::Metrics;

/// Longest id that a client may give a subscription, characters.
pub const SUBSCRIPTION_ID_CHARS_MAX: usize = 100;

/// Where a client stopped: what `hello`, `snapshot`, `alert` and `pong` told it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    pub epoch: String,
    pub offset: Offset,
}

/// What a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    Auth {
        token: String,
    },
    Subscribe {
        id: String,
        #[serde(default)]
        filter: Filter,
        #[serde(default)]
        since: Option<Since>,
        /// Also a `stats` frame a second: for an administrator.
        #[serde(default)]
        stats: bool,
    },
    /// Everything up to this offset has been on the viewer's screen.
    Shown {
        offset: Offset,
    },
    Ping,
}

impl Since {
    /// From `epoch:offset`, as a `Last-Event-ID` has it.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.trim().rsplit_once(':')?;
        Some(Self { epoch: epoch.into(), offset: offset.parse().ok()? })
    }
}

impl ClientFrame {
    /// The error is a sentence for the author of the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        let frame = serde_json::from_str(text).map_err(|err| format!("not a frame: {err}"))?;
        match &frame {
            ClientFrame::Subscribe { id, .. } if id.chars().count() > SUBSCRIPTION_ID_CHARS_MAX => {
                Err(format!("the id has more than {SUBSCRIPTION_ID_CHARS_MAX} characters"))
            }
            _ => Ok(frame),
        }
    }
}

/// What the server sends, but for `alert`, which is written once for all sessions.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    Hello {
        session: &'a str,
        epoch: &'a str,
        offset: Offset,
        server_time: UtcMillis,
    },
    /// All open alerts that pass, most severe first, then newest first; changes follow from
    /// `offset`.
    Snapshot {
        id: &'a str,
        offset: Offset,
        /// The least severe ones are left out.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
        alerts: &'a [Arc<Alert>],
    },
    Vitals {
        device_sn: &'a DeviceSn,
        measured_at: UtcMillis,
        worn: bool,
        metrics: &'a Metrics,
    },
    /// All acknowledgements that pass and are not stored yet; those of the frame before that are missing
    /// are stored, or will never be.
    Pending {
        acknowledged: &'a [PendingFrame<'a>],
    },
    /// What the server is doing.
    Stats {
        at: UtcMillis,
        pipeline: &'a RawValue,
    },
    /// Changes `from` to `to`, both included, are not sent one by one; a snapshot follows.
    Gap {
        from: Offset,
        to: Offset,
    },
    Error {
        code: &'a str,
        message: &'a str,
    },
    /// `offset`: everything up to it that passes the filter has been sent.
    Pong {
        offset: Offset,
    },
}

impl ServerFrame<'_> {
    pub fn text(&self) -> ByteString {
        to_text(self)
    }
}

/// The `pending` frame.
pub fn pending_text(pending: &[Arc<Pending>]) -> ByteString {
    let acknowledged: Vec<PendingFrame<'_>> =
        pending.iter().map(|pending| PendingFrame::from(&**pending)).collect();
    ServerFrame::Pending { acknowledged: &acknowledged }.text()
}

impl<'a> From<&'a VitalsUpdate> for ServerFrame<'a> {
    fn from(update: &'a VitalsUpdate) -> Self {
        ServerFrame::Vitals {
            device_sn: &update.device_sn,
            measured_at: update.measured_at,
            worn: update.worn,
            metrics: &update.metrics,
        }
    }
}

#[derive(Serialize)]
struct AlertFrame<'a> {
    r#type: &'static str,
    offset: Offset,
    change: Change<'a>,
    alert: &'a Alert,
}

#[derive(Serialize)]
struct Change<'a> {
    transition: Transition,
    at: UtcMillis,
    actor: Option<&'a str>,
    note: Option<&'a str>,
    outcome: Option<Outcome>,
    cause: &'a str,
}

/// The `alert` frame of a change.
pub fn alert_text(change: &LoggedChange) -> ByteString {
    to_text(&AlertFrame {
        r#type: "alert",
        offset: change.offset,
        change: Change {
            transition: change.transition,
            at: change.at,
            actor: change.actor.as_deref(),
            note: change.note.as_deref(),
            outcome: change.outcome(),
            cause: &change.cause,
        },
        alert: &change.alert,
    })
}

fn to_text(frame: &impl Serialize) -> ByteString {
    // Maps with text keys, finite numbers and texts: serde_json has nothing to refuse.
    let text = serde_json::to_string(frame).expect("a frame is plain JSON");
    // Exactly its size: the ring keeps it.
    text.into_boxed_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_frames_are_read_and_bad_ones_named() {
        let subscribe = r#"{"type":"subscribe","id":"a","since":{"epoch":"e","offset":7}}"#;
        let ClientFrame::Subscribe { id, since, .. } = ClientFrame::parse(subscribe).unwrap() else {
            panic!("not a subscription");
        };
        assert_eq!((id.as_str(), since.map(|since| since.offset)), ("a", Some(7)));
        assert_eq!(ClientFrame::parse(r#"{"type":"ping"}"#), Ok(ClientFrame::Ping));

        let error =
            ClientFrame::parse(r#"{"type":"subscribe","id":"a","filter":{"severty":[]}}"#).unwrap_err();
        assert!(error.contains("severty"), "{error}");
        let error = ClientFrame::parse(r#"{"type":"unknown"}"#).unwrap_err();
        assert!(error.contains("unknown"), "{error}");
        let long = format!(r#"{{"type":"subscribe","id":"{}"}}"#, "x".repeat(101));
        assert!(ClientFrame::parse(&long).is_err());
    }

    #[test]
    fn truncated_is_only_there_when_true() {
        let snapshot =
            |truncated| ServerFrame::Snapshot { id: "a", offset: 3, truncated, alerts: &[] }.text();
        assert_eq!(&*snapshot(false), r#"{"type":"snapshot","id":"a","offset":3,"alerts":[]}"#);
        assert!(snapshot(true).contains(r#""truncated":true"#));
    }
}
