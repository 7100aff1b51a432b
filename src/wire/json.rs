//! JSON values as slices of the request: checked once as a whole, then only cut into pieces.
//!
//! serde_json checks the text (without recursion), this module finds where values begin and end.
//! Nothing is copied until a field wants it, numbers keep all their digits, and what no field
//! wants can be kept exactly as it was sent.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// One complete JSON value, without surrounding white space. Only made from checked JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw<'a>(&'a str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    Bool,
    Null,
}

impl<'a> Raw<'a> {
    /// Checks `bytes` as exactly one JSON value in UTF-8.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<&RawValue>(bytes).map(|value| Raw(value.get()))
    }

    /// The value as it was sent.
    pub(super) fn as_str(self) -> &'a str {
        self.0
    }

    pub(super) fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::Text,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// What is between the first and the last character: quotes, braces or brackets.
    fn inside(self) -> &'a str {
        self.0.get(1..self.0.len().saturating_sub(1)).unwrap_or("")
    }

    /// True for what says nothing: `null`, `{}`, `[]`, an empty text and the text `null`, which
    /// watches send for a parameter that they do not have.
    pub(super) fn is_blank(self) -> bool {
        match self.kind() {
            Kind::Null => true,
            Kind::Object | Kind::List => self.inside().trim_ascii().is_empty(),
            Kind::Text => {
                let inside = self.inside().trim_ascii();
                inside.is_empty() || inside.eq_ignore_ascii_case("null")
            }
            Kind::Number | Kind::Bool => false,
        }
    }

    /// The content of a text; borrowed unless it has escapes. `None` for anything but a text, and
    /// for a text that is no Unicode (half of a surrogate pair).
    pub(super) fn unescape(self) -> Option<Cow<'a, str>> {
        if self.kind() != Kind::Text {
            return None;
        }
        let inside = self.inside();
        if !inside.as_bytes().contains(&b'\\') {
            return Some(Cow::Borrowed(inside));
        }
        serde_json::from_str::<String>(self.0).ok().map(Cow::Owned)
    }

    /// The JSON object or list that a text holds, unescaped and not yet checked. `None` if the
    /// value is no text or the text does not look like one.
    pub(super) fn embedded(self) -> Option<Cow<'a, str>> {
        let text = self.unescape()?;
        text.trim_ascii_start().starts_with(['{', '[']).then_some(text)
    }

    /// True if other values may be in it: an object, a list, or either as text.
    pub(super) fn is_container(self) -> bool {
        match self.kind() {
            Kind::Object | Kind::List => true,
            Kind::Text => self.is_blank() || self.embedded().is_some(),
            _ => false,
        }
    }

    /// Values of a list; nothing for anything else.
    pub(super) fn items(self) -> impl Iterator<Item = Raw<'a>> {
        let text = if self.kind() == Kind::List { self.inside() } else { "" };
        let mut scan = Scan { text, at: 0 };
        std::iter::from_fn(move || scan.value())
    }

    /// Keys (as sent, with their quotes) and values of an object; nothing for anything else.
    pub(super) fn members(self) -> impl Iterator<Item = (Raw<'a>, Raw<'a>)> {
        let text = if self.kind() == Kind::Object { self.inside() } else { "" };
        let mut scan = Scan { text, at: 0 };
        std::iter::from_fn(move || Some((scan.value()?, scan.value()?)))
    }

    /// The value for a person, cut to a length that fits a log line.
    pub(super) fn shortened(self) -> String {
        shorten(self.0)
    }
}

/// At most the first 60 characters of a text.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}

/// What ends a run of plain bytes inside an object or a list.
static SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let of = b"\"{}[]";
    let mut at = 0;
    while at < of.len() {
        special[of[at] as usize] = true;
        at += 1;
    }
    special
};

/// Cuts the inside of a checked object or list into values. Commas and colons need no attention:
/// they are known to be where they belong.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn value(&mut self) -> Option<Raw<'a>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at)?, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
            self.at += 1;
        }
        let start = self.at;
        match bytes.get(start)? {
            b'"' => self.skip_text(),
            b'{' | b'[' => self.skip_nested(),
            _ => {
                while let Some(byte) = bytes.get(self.at)
                    && !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':')
                {
                    self.at += 1;
                }
            }
        }
        self.text.get(start..self.at.min(self.text.len())).map(Raw)
    }

    /// From an opening quote to behind the closing one.
    fn skip_text(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// From an opening brace or bracket to behind its closing one.
    fn skip_nested(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        while let Some(plain) =
            bytes.get(self.at..).and_then(|rest| rest.iter().position(|byte| SPECIAL[usize::from(*byte)]))
        {
            self.at += plain;
            match bytes[self.at] {
                b'"' => {
                    self.skip_text();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_cut_at_the_right_places() {
        let text = r#" { "a" : [1, {"b":"}\"]"}] ,"c":-1.5e3, "d\"":"x" , "e": null,"f":{} } "#;
        let found: Vec<_> = Raw::parse(text.as_bytes())
            .expect("valid")
            .members()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let expected = [
            (r#""a""#, r#"[1, {"b":"}\"]"}]"#),
            (r#""c""#, "-1.5e3"),
            (r#""d\"""#, r#""x""#),
            (r#""e""#, "null"),
            (r#""f""#, "{}"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn half_a_surrogate_pair_is_json_but_no_text() {
        let raw = Raw::parse(br#""\ud83d""#).expect("valid JSON");
        assert_eq!(raw.unescape(), None);
    }

    #[test]
    fn what_says_nothing_is_blank() {
        for text in ["null", "{ }", "[]", "\"\"", "\" null \""] {
            assert!(Raw::parse(text.as_bytes()).expect("valid").is_blank(), "{text}");
        }
        for text in ["0", "false", "\"0\"", "[null]"] {
            assert!(!Raw::parse(text.as_bytes()).expect("valid").is_blank(), "{text}");
        }
    }
}
