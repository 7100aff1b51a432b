//! Statements that diesel 2.3 would parse anew each time (UPDATE and upsert), as ones that it
//! keeps prepared. Measured: parsing took most of a transaction's time before.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types;
use diesel::sqlite::Sqlite;

use super::database::Conn;

/// A value for one `?`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bind<'a> {
    Text(&'a str),
    OptionalText(Option<&'a str>),
    BigInt(i64),
    Integer(i32),
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

impl<Name> QueryFragment<Sqlite> for Statement<'_, Name> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        use sql_types::Nullable;
        let mut binds = self.binds.iter();
        for (index, part) in self.sql.split('?').enumerate() {
            if index > 0 {
                match binds.next() {
                    Some(Bind::Text(value)) => out.push_bind_param::<sql_types::Text, str>(value)?,
                    Some(Bind::OptionalText(value)) => {
                        out.push_bind_param::<Nullable<sql_types::Text>, Option<&str>>(value)?;
                    }
                    Some(Bind::BigInt(value)) => out.push_bind_param::<sql_types::BigInt, i64>(value)?,
                    Some(Bind::Integer(value)) => out.push_bind_param::<sql_types::Integer, i32>(value)?,
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
        }
        Ok(())
    }
}
