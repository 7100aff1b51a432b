//! Who a record is from and whom it claims to be about.

use std::borrow::Cow;

use super::alias::{CUSTOMER, DEVICE, Names, ORG, USER};
use super::object::{RawObject, Reading, read_text};
use crate::domain::event::Claims;
use crate::domain::ids::DeviceSn;

/// Words that stand where a serial or a text should be when there is none.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    text == "未知" || text.eq_ignore_ascii_case("unknown")
}

/// The serial under the first alias that has a usable one.
pub(super) fn device(object: &mut RawObject<'_>) -> Option<DeviceSn> {
    device_from(object, DEVICE)
}

/// As [`device`], with other aliases.
pub(super) fn device_from(object: &mut RawObject<'_>, aliases: &[&str]) -> Option<DeviceSn> {
    object.pick(aliases, |raw| match read_text(raw) {
        Reading::Value(text) if is_placeholder(&text) => Reading::Blank,
        Reading::Value(text) if text != "true" && text != "false" => {
            DeviceSn::parse(&text).map_or(Reading::Unusable("unusable_device"), Reading::Value)
        }
        Reading::Blank => Reading::Blank,
        _ => Reading::Unusable("unusable_device"),
    })
}

/// Ids that the record claims; texts and numbers with all their digits.
pub(super) fn claims(object: &mut RawObject<'_>) -> Claims {
    Claims { customer_id: claim(object, CUSTOMER), org_id: claim(object, ORG), user_id: claim(object, USER) }
}

fn claim(object: &mut RawObject<'_>, aliases: &[&str]) -> Option<Box<str>> {
    let id = object.pick(aliases, |raw| {
        read_text(raw).and_then(|text| match text.trim() {
            "0" => Reading::Blank,
            trimmed if trimmed.len() == text.len() => Reading::Value(text),
            trimmed => Reading::Value(Cow::Owned(trimmed.to_owned())),
        })
    });
    id.map(Box::from)
}

/// Fills claims that are missing here from `other`.
pub(super) fn fill_claims(claims: &mut Claims, other: &Claims) {
    let fill = |mine: &mut Option<Box<str>>, theirs: &Option<Box<str>>| {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    };
    fill(&mut claims.customer_id, &other.customer_id);
    fill(&mut claims.org_id, &other.org_id);
    fill(&mut claims.user_id, &other.user_id);
}

/// Device and claims were taken from `object`, but the report carries `kept`: what differs goes
/// back, so that it ends in `extra` and is not lost.
pub(super) fn restore_what_differs(
    object: &mut RawObject<'_>,
    said: (Option<&DeviceSn>, &Claims),
    kept: (Option<&DeviceSn>, &Claims),
) {
    if said.0.is_some() && said.0 != kept.0 {
        object.restore(DEVICE);
    }
    let mut claim = |said: &Option<Box<str>>, kept: &Option<Box<str>>, aliases: Names| {
        if said.is_some() && said != kept {
            object.restore(aliases);
        }
    };
    claim(&said.1.customer_id, &kept.1.customer_id, CUSTOMER);
    claim(&said.1.org_id, &kept.1.org_id, ORG);
    claim(&said.1.user_id, &kept.1.user_id, USER);
}
