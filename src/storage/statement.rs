//! The statements of the write path, as ones that diesel keeps prepared under a static id.
//!
//! diesel 2.3 parses every UPDATE and upsert anew, and builds the text of an INSERT with ON CONFLICT
//! each time to look it up. Measured, that was most of a transaction's time.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types;

use super::conn::{Conn, Db};

/// A value for one `?`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bind<'a> {
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Bytes(&'a [u8]),
    OptionalBytes(Option<&'a [u8]>),
    BigInt(i64),
    OptionalBigInt(Option<i64>),
    Integer(i32),
    OptionalInteger(Option<i32>),
    Bool(bool),
    OptionalBool(Option<bool>),
    OptionalDouble(Option<f64>),
}

/// Text and values of one execution. `Name` is a type of its own for each statement text: the
/// cache goes by it.
pub(super) struct Statement<'a, Name> {
    sql: &'static str,
    binds: &'a [Bind<'a>],
    name: PhantomData<Name>,
}

impl<'a, Name> Statement<'a, Name> {
    /// `sql` is always the same for `Name`, with as many `?` as there are binds, and no other `?`.
    pub fn new(sql: &'static str, binds: &'a [Bind<'a>]) -> Self {
        debug_assert_eq!(sql.matches('?').count(), binds.len());
        Self { sql, binds, name: PhantomData }
    }
}

impl<Name: 'static> QueryId for Statement<'_, Name> {
    type QueryId = Statement<'static, Name>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Name> RunQueryDsl<Conn> for Statement<'_, Name> {}

impl<Name> QueryFragment<Db> for Statement<'_, Name> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        use sql_types::Nullable;
        let mut binds = self.binds.iter();
        // Walked twice for each execution: `str::split` took as long as binding the values.
        let places = memchr::memchr_iter(b'?', self.sql.as_bytes()).map(Some).chain([None]);
        let mut from = 0;
        for place in places {
            let part = &self.sql[from..place.unwrap_or(self.sql.len())];
            if from > 0 {
                match binds.next() {
                    Some(Bind::Text(value)) => out.push_bind_param::<sql_types::Text, str>(value)?,
                    Some(Bind::OptionalText(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Text>, Option<&str>>(value)?;
                    }
                    Some(Bind::Bytes(value)) => out.push_bind_param::<sql_types::Binary, [u8]>(value)?,
                    Some(Bind::OptionalBytes(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Binary>, Option<&[u8]>>(value)?;
                    }
                    Some(Bind::OptionalBigInt(value)) => {
                        out.push_bind_param::<Nullable<sql_types::BigInt>, Option<i64>>(value)?;
                    }
                    Some(Bind::BigInt(value)) => out.push_bind_param::<sql_types::BigInt, i64>(value)?,
                    Some(Bind::Integer(value)) => out.push_bind_param::<sql_types::Integer, i32>(value)?,
                    Some(Bind::OptionalInteger(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Integer>, Option<i32>>(value)?;
                    }
                    Some(Bind::Bool(value)) => out.push_bind_param::<sql_types::Bool, bool>(value)?,
                    Some(Bind::OptionalBool(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Bool>, Option<bool>>(value)?;
                    }
                    Some(Bind::OptionalDouble(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Double>, Option<f64>>(value)?;
                    }
                    None => {
                        let short = "a statement has fewer values than places".into();
                        return Err(diesel::result::Error::QueryBuilderError(short));
                    }
                }
            }
            out.push_sql(part);
            from = place.map_or(from, |at| at + 1);
        }
        Ok(())
    }
}

/// A query whose length depends on how many texts are asked for, so its text is made each time.
pub(super) struct TextsQuery<'a> {
    sql: String,
    texts: &'a [&'a str],
}

impl<'a> TextsQuery<'a> {
    /// `sql` has a `?` for each of `texts`, in order, and no other `?`.
    pub fn new(sql: String, texts: &'a [&'a str]) -> Self {
        debug_assert_eq!(sql.matches('?').count(), texts.len());
        Self { sql, texts }
    }
}

impl Query for TextsQuery<'_> {
    type SqlType = sql_types::Untyped;
}

impl QueryId for TextsQuery<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<Conn> for TextsQuery<'_> {}

impl QueryFragment<Db> for TextsQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        // As many texts as there are combinations of devices: none of them is kept prepared.
        out.unsafe_to_cache_prepared();
        for (index, part) in self.sql.split('?').enumerate() {
            if index > 0 {
                let text = self.texts.get(index - 1).ok_or_else(|| {
                    diesel::result::Error::QueryBuilderError("a query has fewer texts than places".into())
                })?;
                out.push_bind_param::<sql_types::Text, str>(text)?;
            }
            out.push_sql(part);
        }
        Ok(())
    }
}
