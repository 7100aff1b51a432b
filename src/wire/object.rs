//! A JSON object as a set of keys to be taken: fields take theirs by alias, what nobody takes is
//! kept.

use std::borrow::Cow;

use super::json::{Kind, Raw};
use crate::domain::event::Warning;

/// What a field makes of the value under one of its keys.
pub(super) enum Reading<T> {
    Value(T),
    /// A value that had to be changed to be stored: NUL characters became U+FFFD.
    Repaired(T),
    /// Says nothing: the next alias is tried.
    Blank,
    /// Says something that the field cannot hold: it is kept in `extra`, a warning with this code
    /// is given, the next alias is tried.
    Unusable(&'static str),
}

impl<T> Reading<T> {
    /// Applies a check that may turn a value into nothing or something unusable.
    pub(super) fn and_then<U>(self, check: impl FnOnce(T) -> Reading<U>) -> Reading<U> {
        match self {
            Reading::Value(value) => check(value),
            Reading::Repaired(value) => match check(value) {
                Reading::Value(value) => Reading::Repaired(value),
                other => other,
            },
            Reading::Blank => Reading::Blank,
            Reading::Unusable(code) => Reading::Unusable(code),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Taken,
    /// A later member has the same key and wins.
    Shadowed,
}

#[derive(Debug)]
struct Entry<'a> {
    key: Cow<'a, str>,
    raw_key: Raw<'a>,
    value: Raw<'a>,
    state: State,
}

/// Members of an object in the order sent, which of them have been taken, and what was odd.
#[derive(Debug)]
pub(super) struct RawObject<'a> {
    entries: Vec<Entry<'a>>,
    pub(super) warnings: Vec<Warning>,
    marks: Marks,
}

/// Which keys an object may have, and which more than once. Most aliases that are asked for are not
/// there, and that is told without a look at the members.
#[derive(Debug, Default, Clone, Copy)]
struct Marks {
    once: u128,
    again: u128,
}

impl Marks {
    /// Other keys may have the same.
    fn bit(key: &str) -> u128 {
        let ends = key.as_bytes().first().zip(key.as_bytes().last());
        let (first, last) = ends.map_or((0, 0), |(first, last)| (usize::from(*first), usize::from(*last)));
        1 << ((first ^ (last << 2) ^ (key.len() << 3)) % 128)
    }

    fn set(&mut self, key: &str) {
        let bit = Self::bit(key);
        self.again |= self.once & bit;
        self.once |= bit;
    }

    fn may_have(self, key: &str) -> bool {
        self.once & Self::bit(key) != 0
    }

    fn may_repeat(self, key: &str) -> bool {
        self.again & Self::bit(key) != 0
    }
}

impl<'a> RawObject<'a> {
    /// Members of `raw`; none if it is no object.
    pub(super) fn new(raw: Raw<'a>) -> Self {
        // A health record has 22 keys, an event 10: one allocation for either.
        let mut entries = Vec::with_capacity(24);
        let mut marks = Marks::default();
        for (raw_key, value) in raw.members() {
            // A key that is no Unicode matches no alias and is kept as sent.
            let key = raw_key.unescape().unwrap_or(Cow::Borrowed(raw_key.as_str()));
            marks.set(&key);
            entries.push(Entry { key, raw_key, value, state: State::Open });
        }
        Self { entries, warnings: Vec::new(), marks }
    }

    /// The value under a key; the last one if the key comes twice, as in the library of the watch.
    pub(super) fn get(&self, key: &str) -> Option<Raw<'a>> {
        if !self.marks.may_have(key) {
            return None;
        }
        self.entries.iter().rev().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    pub(super) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.get(key).is_some())
    }

    /// True if every key is one of these or has a blank value.
    pub(super) fn says_only(&self, keys: &[&[&str]]) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.value.is_blank() || keys.iter().any(|names| names.contains(&&*entry.key)))
    }

    /// Marks the value under a key as held by some field.
    pub(super) fn take(&mut self, key: &str) {
        if let Some(index) = self.find(key) {
            self.entries[index].state = State::Taken;
        }
    }

    /// Undoes [`RawObject::take`] for all of these keys: what was taken is kept after all.
    pub(super) fn restore(&mut self, keys: &[&str]) {
        for entry in &mut self.entries {
            if entry.state == State::Taken && !entry.value.is_blank() && keys.contains(&&*entry.key) {
                entry.state = State::Open;
            }
        }
    }

    pub(super) fn warn(&mut self, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.warnings.push(Warning::new(code, detail));
    }

    /// The first usable value under one of the aliases, in the order of the aliases. Taken are the
    /// value, aliases that repeat it literally, and those that say nothing.
    pub(super) fn pick<T>(
        &mut self,
        aliases: &[&str],
        mut read: impl FnMut(Raw<'a>) -> Reading<T>,
    ) -> Option<T> {
        let mut found: Option<(T, Raw<'a>)> = None;
        for alias in aliases {
            let Some(index) = self.find(alias) else { continue };
            let value = self.entries[index].value;
            if let Some((_, chosen)) = &found {
                if value == *chosen || value.is_blank() {
                    self.entries[index].state = State::Taken;
                }
                continue;
            }
            match read(value) {
                Reading::Value(content) => {
                    self.entries[index].state = State::Taken;
                    found = Some((content, value));
                }
                Reading::Repaired(content) => {
                    self.entries[index].state = State::Taken;
                    self.warn("nul_replaced", format!("{alias}: NUL characters became U+FFFD"));
                    found = Some((content, value));
                }
                Reading::Blank => self.entries[index].state = State::Taken,
                Reading::Unusable(code) => self.warn(code, format!("{alias}: {}", value.shortened())),
            }
        }
        found.map(|(content, _)| content)
    }

    /// A text as it is; numbers and booleans as their JSON text. Blank as in [`Raw::is_blank`].
    pub(super) fn text(&mut self, aliases: &[&str]) -> Option<Box<str>> {
        self.pick(aliases, read_text).map(Box::from)
    }

    /// A finite number, from a number or a text that is one.
    pub(super) fn number(&mut self, aliases: &[&str]) -> Option<f64> {
        self.pick(aliases, read_number)
    }

    /// Members that nobody took, as they were sent: `"key":value,"key":value`. Empty if none.
    pub(super) fn leftover(&self) -> String {
        let mut members = String::new();
        for entry in self.entries.iter().filter(|entry| entry.state != State::Taken) {
            if !members.is_empty() {
                members.push(',');
            }
            members.push_str(entry.raw_key.as_str());
            members.push(':');
            members.push_str(entry.value.as_str());
        }
        members
    }

    fn find(&mut self, key: &str) -> Option<usize> {
        if !self.marks.may_have(key) {
            return None;
        }
        let index = self.entries.iter().rposition(|entry| entry.key == key)?;
        if !self.marks.may_repeat(key) {
            return Some(index);
        }
        let mut shadowed = false;
        for entry in &mut self.entries[..index] {
            if entry.key == key && entry.state == State::Open {
                entry.state = State::Shadowed;
                shadowed = true;
            }
        }
        if shadowed {
            self.warn("duplicate_key", format!("{key}: the last value counts"));
        }
        Some(index)
    }
}

/// Puts members into an `extra` object: `{members}`, `{members,"name":nested}`, or `None` if there
/// is nothing to keep.
pub(super) fn extra_of(members: String, name: &str, nested: Option<&str>) -> Option<Box<str>> {
    if members.is_empty() && nested.is_none() {
        return None;
    }
    let mut text = String::with_capacity(members.len() + nested.map_or(0, str::len) + name.len() + 6);
    text.push('{');
    text.push_str(&members);
    if let Some(nested) = nested {
        if !members.is_empty() {
            text.push(',');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        text.push_str(nested);
    }
    text.push('}');
    Some(text.into_boxed_str())
}

/// A text that can be stored: PostgreSQL refuses NUL characters.
fn storable(text: Cow<'_, str>) -> Reading<Cow<'_, str>> {
    if text.contains('\0') {
        Reading::Repaired(Cow::Owned(text.replace('\0', "\u{fffd}")))
    } else {
        Reading::Value(text)
    }
}

pub(super) fn read_text(raw: Raw<'_>) -> Reading<Cow<'_, str>> {
    if raw.is_blank() {
        return Reading::Blank;
    }
    match raw.kind() {
        Kind::Text => raw.unescape().map_or(Reading::Unusable("unusable_text"), storable),
        Kind::Number | Kind::Bool => Reading::Value(Cow::Borrowed(raw.as_str())),
        Kind::Object | Kind::List | Kind::Null => Reading::Unusable("unusable_value"),
    }
}

/// Any JSON value as text: a text as it is, even if empty; others as their JSON text.
pub(super) fn read_any(raw: Raw<'_>) -> Reading<Cow<'_, str>> {
    match raw.kind() {
        Kind::Null => Reading::Blank,
        Kind::Text => raw.unescape().map_or(Reading::Unusable("unusable_text"), storable),
        _ => Reading::Value(Cow::Borrowed(raw.as_str())),
    }
}

pub(super) fn read_number(raw: Raw<'_>) -> Reading<f64> {
    match raw.kind() {
        Kind::Number | Kind::Text => read_text(raw).and_then(|text| match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Reading::Value(number),
            _ => Reading::Unusable("unusable_value"),
        }),
        _ if raw.is_blank() => Reading::Blank,
        _ => Reading::Unusable("unusable_value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> RawObject<'_> {
        RawObject::new(Raw::parse(text.as_bytes()).expect("valid"))
    }

    #[test]
    fn the_first_usable_alias_wins_and_the_rest_is_kept() {
        let mut object = object(r#"{"b":"7","c":7,"a":"many","d":"","x":[ 1 ]}"#);
        assert_eq!(object.number(&["d", "a", "b", "c"]), Some(7.0));
        assert_eq!(object.leftover(), r#""c":7,"a":"many","x":[ 1 ]"#);
        assert_eq!(object.warnings.len(), 1);
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_the_others_are_kept() {
        let mut object = object(r#"{"a":1,"a":2}"#);
        assert_eq!(object.number(&["a"]), Some(2.0));
        assert_eq!(object.leftover(), r#""a":1"#);
        assert_eq!(object.warnings[0].code, "duplicate_key");
    }

    #[test]
    fn numbers_must_be_finite() {
        let mut object = object(r#"{"a":1e999,"b":"NaN","c":"inf","d":true}"#);
        assert_eq!(object.number(&["a", "b", "c", "d"]), None);
        assert_eq!(object.warnings.len(), 4);
    }
}
