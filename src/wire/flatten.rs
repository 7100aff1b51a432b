//! Records out of whatever they are packed in: wrappers, lists, JSON inside texts.

use super::depth;
use super::json::{Kind, Raw};
use super::object::RawObject;
use super::{DecodeError, DecodeOptions};

/// Containers around a record, texts included. The watch needs three at most; the bound keeps
/// JSON in text in JSON in text from going on.
pub(super) const NESTING_MAX: usize = 40;

/// How to find the records of one kind.
pub(super) struct Packing {
    /// Keys of a wrapper under which records are.
    pub wrapped_in: &'static [&'static str],
    /// True for an object that is a record even if it has such a key.
    pub is_record: fn(&RawObject<'_>) -> bool,
}

/// What is found on the way.
pub(super) enum Part<'p> {
    Record(Raw<'p>, RawObject<'p>),
    /// A wrapper, after its records: whatever else it says.
    Wrapper(RawObject<'p>),
    /// Neither object, list, nor a text of one.
    Unreadable(Raw<'p>),
}

pub(super) type Visit<'v> = &'v mut dyn FnMut(Part<'_>) -> Result<(), DecodeError>;

/// Calls `visit` for every part of `raw`, in order. What says nothing is passed over.
pub(super) fn each(
    raw: Raw<'_>,
    packing: &Packing,
    options: &DecodeOptions,
    visit: Visit<'_>,
) -> Result<(), DecodeError> {
    at_level(raw, packing, options, visit, 0)
}

fn at_level(
    raw: Raw<'_>,
    packing: &Packing,
    options: &DecodeOptions,
    visit: Visit<'_>,
    level: usize,
) -> Result<(), DecodeError> {
    if raw.is_blank() {
        return Ok(());
    }
    if level > NESTING_MAX {
        return visit(Part::Unreadable(raw));
    }
    match raw.kind() {
        Kind::List => raw.items().try_for_each(|item| at_level(item, packing, options, visit, level + 1)),
        Kind::Object => {
            let mut object = RawObject::new(raw);
            if (packing.is_record)(&object) {
                return visit(Part::Record(raw, object));
            }
            let mut wrapped = false;
            for key in packing.wrapped_in {
                if let Some(inner) = object.get(key).filter(|inner| inner.is_container()) {
                    wrapped = true;
                    object.take(key);
                    at_level(inner, packing, options, visit, level + 1)?;
                }
            }
            visit(if wrapped { Part::Wrapper(object) } else { Part::Record(raw, object) })
        }
        Kind::Text => match unpack(raw, options).as_deref().map(|text| Raw::parse(text.as_bytes())) {
            Some(Ok(inner)) => at_level(inner, packing, options, visit, level + 1),
            _ => visit(Part::Unreadable(raw)),
        },
        Kind::Number | Kind::Bool | Kind::Null => visit(Part::Unreadable(raw)),
    }
}

/// The text of JSON inside a text, if it looks like some and does not nest too deep.
pub(super) fn unpack(raw: Raw<'_>, options: &DecodeOptions) -> Option<String> {
    let text = raw.embedded()?;
    (!depth::exceeds(text.as_bytes(), options.depth_max)).then(|| text.into_owned())
}
