//! Pages of lists: bounded, and continued from a key, never from a count of rows.

use std::marker::PhantomData;

use diesel::expression::{
    AppearsOnTable, SelectableExpression, TypedExpressionType, ValidGrouping, is_aggregate,
};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Bool, SqlType, Text};
use diesel::sqlite::Sqlite;

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
/// PostgreSQL has no such plus, decides by its statistics, and gets the column as it is.
pub(super) fn filter_only(plus_column: &'static str) -> FilterOnly<Text> {
    FilterOnly { sql: plus_column, sql_type: PhantomData }
}

/// The same for a condition.
pub(super) fn filter_only_if(plus_condition: &'static str) -> FilterOnly<Bool> {
    FilterOnly { sql: plus_condition, sql_type: PhantomData }
}

/// SQL with unary pluses, which only SQLite is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilterOnly<ST> {
    sql: &'static str,
    sql_type: PhantomData<ST>,
}

impl<ST: SqlType + TypedExpressionType> Expression for FilterOnly<ST> {
    type SqlType = ST;
}

impl<ST, QS> SelectableExpression<QS> for FilterOnly<ST> where Self: AppearsOnTable<QS> {}
impl<ST, QS> AppearsOnTable<QS> for FilterOnly<ST> where Self: Expression {}

impl<ST, GB> ValidGrouping<GB> for FilterOnly<ST> {
    type IsAggregate = is_aggregate::Never;
}

impl<ST> QueryId for FilterOnly<ST> {
    type QueryId = ();
    // The text differs from one to the next.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> QueryFragment<Sqlite> for FilterOnly<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.sql);
        Ok(())
    }
}

#[cfg(feature = "postgres")]
impl<ST> QueryFragment<diesel::pg::Pg> for FilterOnly<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, diesel::pg::Pg>) -> QueryResult<()> {
        out.push_sql(&self.sql.replace('+', ""));
        Ok(())
    }
}

#[cfg(feature = "postgres")]
impl<ST> QueryFragment<super::conn::Db> for FilterOnly<ST> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, super::conn::Db>) -> QueryResult<()> {
        super::conn::Db::walk_variant_ast(self, out)
    }
}
