//! The answer to a poll for messages, read as strictly as the watch does.

use serde_json::{Value, json};

use crate::body::wall_clock;

/// Replies to all messages of an answer; none if a key is missing or of a wrong type, because then the
/// watch drops the whole answer.
pub fn replies(body: &[u8], serial: &str, clock_ms: i64) -> Vec<String> {
    read(body, serial, clock_ms).unwrap_or_default()
}

fn read(body: &[u8], serial: &str, clock_ms: i64) -> Option<Vec<String>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let data = &answer["data"];
    let counts = ["totalMessages", "personalMessagesCount", "publicMessagesCount"];
    let counted = counts.into_iter().all(|key| data[key].is_i64());
    let by_type = data["messageTypeCount"].as_object()?;
    data["departments"].as_array()?;
    if answer["success"] != true || !counted || !by_type.values().all(Value::is_i64) {
        return None;
    }
    let Some(messages) = data.get("messages") else { return Some(Vec::new()) };
    messages.as_array()?.iter().map(|message| reply(message, serial, clock_ms)).collect()
}

fn reply(message: &Value, serial: &str, clock_ms: i64) -> Option<String> {
    const TEXTS: [&str; 6] =
        ["message_id", "message_type", "sent_time", "message", "department_name", "department_id"];
    let mut reply = json!({
        "sender_type": "device", "receiver_type": "platform", "device_sn": serial,
        "received_time": wall_clock(clock_ms), "message_status": "responded",
        "is_public": message["is_public"].as_bool()?,
        "user_id": message.get("user_id")?, "user_name": message.get("user_name")?,
    });
    for key in TEXTS {
        reply[key] = message[key].as_str()?.into();
    }
    Some(reply.to_string())
}
