//! How deep a JSON text nests, found in one pass over the bytes before anything else reads them.

/// True if objects and lists in `bytes` nest deeper than `depth_max`.
///
/// Works on bytes that may not be JSON at all: the answer then means nothing, but it comes in
/// linear time and constant memory. That is the point: a megabyte of `[` is refused before any
/// parser sees it.
pub(super) fn exceeds(bytes: &[u8], depth_max: usize) -> bool {
    // Nearly every body opens fewer in all.
    if memchr::memchr2_iter(b'{', b'[', bytes).nth(depth_max).is_none() {
        return false;
    }
    let mut depth = 0usize;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'\\' => {
                            rest.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::exceeds;

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        assert!(!exceeds(b"[[{\"a\":[1]}]]", 4));
        assert!(exceeds(b"[[{\"a\":[1]}]]", 3));
    }

    #[test]
    fn brackets_inside_texts_do_not_count() {
        assert!(!exceeds(br#"["[[[[\"[[["]"#, 1));
    }

    #[test]
    fn garbage_is_survived() {
        assert!(!exceeds(b"]]]]\"\\", 1));
        assert!(exceeds(&vec![b'['; 1 << 20], 32));
    }
}
