//! What a watch says besides reports: lines of its own log, and answers to messages.

use serde::Serialize;

use super::event::{ReportedTime, Warning};
use super::ids::DeviceSn;

/// A line of a watch's own log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WatchLogEntry {
    pub device_sn: DeviceSn,
    pub time: ReportedTime,
    /// As sent, upper case; watches are not consistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Box<str>>,
    /// A text as it is, any other JSON value as its JSON text; empty if there was none.
    pub content: Box<str>,
    /// A JSON object of the keys that no field holds, as they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A watch or phone tells that a message has arrived and was shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageReply {
    pub device_sn: DeviceSn,
    /// `None` if the reply does not say which message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Box<str>>,
    /// The text of the message from watches, the wearer's answer from phones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
    pub received_time: ReportedTime,
    /// The whole reply as the JSON text that was sent.
    pub original: Box<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}
