//! Answers of watches and phones to messages.

use super::flatten::{self, Packing, Part};
use super::object::read_any;
use super::{DecodeError, DecodeOptions, checked, identity, time};
use crate::domain::message::MessageReply;

/// No `id` here: in a reply it would be the message's.
const DEVICE: &[&str] = &["device_sn", "deviceSn", "device_id", "deviceId", "SerialNumber", "serial_number"];
const MESSAGE_ID: &[&str] = &["message_id", "messageId", "id"];
const MESSAGE: &[&str] = &["message", "acknowledgment_message", "content"];
const RECEIVED: &[&str] = &["received_time", "receivedTime", "ack_time", "processed_time", "timestamp"];
const PACKING: Packing = Packing {
    wrapped_in: &["data", "requests"],
    is_record: |object| object.has_any(&["message_id", "messageId"]),
};

/// Decodes the answer to a message; usually one, none for an empty body. Any key may be missing
/// but the device. Items of a list without a device, or that are no objects, are passed over as
/// long as one has it.
///
/// Fails as [`super::decode`] does. Pure.
pub fn decode_message_reply(body: &[u8], options: &DecodeOptions) -> Result<Vec<MessageReply>, DecodeError> {
    let mut replies = Vec::new();
    let mut faults = 0;
    if let Some(raw) = checked(body, options)? {
        flatten::each(raw, &PACKING, options, &mut |part| {
            let (raw, mut object) = match part {
                Part::Wrapper(_) => return Ok(()),
                Part::Record(raw, object) => (raw, object),
                Part::Unreadable(_) => {
                    faults += 1;
                    return Ok(());
                }
            };
            let Some(device_sn) = identity::device_from(&mut object, DEVICE) else {
                faults += 1;
                return Ok(());
            };
            if replies.len() >= options.records_max {
                return Err(DecodeError::TooManyRecords { records_max: options.records_max });
            }
            replies.push(MessageReply {
                device_sn,
                message_id: object.text(MESSAGE_ID),
                message: object.pick(MESSAGE, read_any).map(Box::from),
                received_time: time::pick(&mut object, RECEIVED, options.zone),
                original: raw.as_str().into(),
                warnings: std::mem::take(&mut object.warnings),
            });
            Ok(())
        })?;
    }
    if replies.is_empty() && faults > 0 { Err(DecodeError::NoDevice) } else { Ok(replies) }
}
