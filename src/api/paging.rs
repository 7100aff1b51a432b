//! How lists are asked for and answered: `limit`, `cursor`, `{"items":[...],"next":...}`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::error::Problem;
use super::state::ApiState;
use crate::storage::page::{PAGE_MAX, Page, PageLimit};

/// Of a list that has no filters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    pub limit: Option<u16>,
    pub cursor: Option<String>,
}

#[derive(Serialize)]
struct ListBody<'a, T> {
    items: &'a [T],
    next: Option<String>,
    /// Only if true: the database is away, and there may be more than is known here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

pub fn limit(limit: Option<u16>) -> Result<PageLimit, Problem> {
    match limit {
        None => Ok(PageLimit::default()),
        Some(limit) => PageLimit::new(limit)
            .ok_or_else(|| Problem::invalid(format!("limit must be 1 to {PAGE_MAX}, not {limit}"))),
    }
}

/// Reads a cursor that [`answer`] gave out. Its text is nobody else's business.
pub fn cursor<K>(cursor: Option<&str>, parse: impl FnOnce(&str) -> Option<K>) -> Result<Option<K>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let text = unhex(cursor).and_then(|bytes| String::from_utf8(bytes).ok());
    let key = text.as_deref().and_then(parse);
    key.map(Some).ok_or_else(|| Problem::invalid("cursor is not one of this list; start without it"))
}

/// The answer to a list. `key` writes the key that [`cursor`] reads back.
pub fn answer<T: Serialize, K>(
    state: &ApiState,
    page: &Page<T, K>,
    key: impl FnOnce(&K) -> String,
) -> HttpResponse {
    let next = page.next.as_ref().map(|next| hex(key(next).as_bytes()));
    HttpResponse::Ok().json(ListBody { items: &page.items, next, incomplete: state.readers.is_incomplete() })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_anything_else_is_refused() {
        let text = "SN 1/ä";
        let read = cursor(Some(&hex(text.as_bytes())), |key| Some(key.to_owned()));
        assert_eq!(read.expect("a cursor").as_deref(), Some(text));
        for wrong in ["x", "zz", "é1", "ff"] {
            assert!(cursor(Some(wrong), |key| Some(key.to_owned())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_1_to_500() {
        assert!(limit(Some(1)).is_ok() && limit(Some(500)).is_ok() && limit(None).is_ok());
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err());
    }
}
