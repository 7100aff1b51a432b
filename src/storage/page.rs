//! Pages of lists: bounded, and continued from a key, never from a count of rows.

use diesel::expression::SqlLiteral;
use diesel::sql_types::{Bool, Text};

/// Most items of one page.
pub const PAGE_MAX: u16 = 500;
/// Items of a page if the caller does not say.
pub const PAGE_DEFAULT: u16 = 50;

/// How many items a page may have: 1 to [`PAGE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// `None` outside the range.
    pub fn new(limit: u16) -> Option<Self> {
        (1..=PAGE_MAX).contains(&limit).then_some(Self(limit))
    }

    /// Rows to ask for: one more shows whether there is a next page.
    pub(super) fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(PAGE_DEFAULT)
    }
}

/// Items of one page, and the key after which the next begins.
#[derive(Debug, Clone)]
pub struct Page<T, K> {
    pub items: Vec<T>,
    /// `None` on the last page.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    pub(super) fn empty() -> Self {
        Self { items: Vec::new(), next: None }
    }

    /// From up to [`PageLimit::rows`] rows.
    pub(super) fn cut(mut rows: Vec<T>, limit: PageLimit, key: impl Fn(&T) -> K) -> Self {
        let more = rows.len() > usize::from(limit.0);
        rows.truncate(usize::from(limit.0));
        let next = if more { rows.last().map(key) } else { None };
        Self { items: rows, next }
    }

    pub(super) fn try_map<U, E>(self, map: impl FnMut(T) -> Result<U, E>) -> Result<Page<U, K>, E> {
        let items = self.items.into_iter().map(map).collect::<Result<_, _>>()?;
        Ok(Page { items, next: self.next })
    }
}

/// A text column that only filters. SQLite picks no index for an operand with a unary plus, so
/// the rows still come in the order of the one index that the query means to walk: no sort.
pub(super) fn filter_only(plus_column: &'static str) -> SqlLiteral<Text> {
    diesel::dsl::sql(plus_column)
}

/// The same for a condition.
pub(super) fn filter_only_if(plus_condition: &'static str) -> SqlLiteral<Bool> {
    diesel::dsl::sql(plus_condition)
}
