//! Texts of any length, cut to one.

/// The text, with an ellipsis as its last character if it had more than `chars_max`, which is at least 1.
pub fn shortened(text: Box<str>, chars_max: usize) -> Box<str> {
    // Only a text of more bytes has more characters.
    if text.len() <= chars_max || text.chars().nth(chars_max).is_none() {
        return text;
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{kept}\u{2026}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_long_is_cut_and_between_characters() {
        for (text, expected) in
            [("", ""), ("abc", "abc"), ("求救声", "求救声"), ("abcd", "ab…"), ("求救声音", "求救…")]
        {
            assert_eq!(&*shortened(text.into(), 3), expected);
        }
    }
}
