//! Many rows in one statement: each column travels as an array. The text of the statement does not
//! depend on how many rows there are, so it is kept prepared.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, Nullable};

use super::super::statement::Bind;

/// One column of all rows.
enum Column<'a> {
    Text(Vec<Option<&'a str>>),
    Bytes(Vec<Option<&'a [u8]>>),
    BigInt(Vec<Option<i64>>),
    Integer(Vec<Option<i32>>),
    Bool(Vec<Option<bool>>),
    Double(Vec<Option<f64>>),
}

impl<'a> Column<'a> {
    /// Empty, of the kind of `bind`.
    fn like(bind: &Bind<'a>) -> Self {
        match bind {
            Bind::Text(_) | Bind::OptionalText(_) => Column::Text(Vec::new()),
            Bind::Bytes(_) | Bind::OptionalBytes(_) => Column::Bytes(Vec::new()),
            Bind::BigInt(_) | Bind::OptionalBigInt(_) => Column::BigInt(Vec::new()),
            Bind::Integer(_) | Bind::OptionalInteger(_) => Column::Integer(Vec::new()),
            Bind::Bool(_) | Bind::OptionalBool(_) => Column::Bool(Vec::new()),
            Bind::OptionalDouble(_) => Column::Double(Vec::new()),
        }
    }

    fn push(&mut self, bind: &Bind<'a>) -> QueryResult<()> {
        match (self, *bind) {
            (Column::Text(column), Bind::Text(value)) => column.push(Some(value)),
            (Column::Text(column), Bind::OptionalText(value)) => column.push(value),
            (Column::Bytes(column), Bind::Bytes(value)) => column.push(Some(value)),
            (Column::Bytes(column), Bind::OptionalBytes(value)) => column.push(value),
            (Column::BigInt(column), Bind::BigInt(value)) => column.push(Some(value)),
            (Column::BigInt(column), Bind::OptionalBigInt(value)) => column.push(value),
            (Column::Integer(column), Bind::Integer(value)) => column.push(Some(value)),
            (Column::Integer(column), Bind::OptionalInteger(value)) => column.push(value),
            (Column::Bool(column), Bind::Bool(value)) => column.push(Some(value)),
            (Column::Bool(column), Bind::OptionalBool(value)) => column.push(value),
            (Column::Double(column), Bind::OptionalDouble(value)) => column.push(value),
            _ => {
                let mixed = "rows of one statement differ in their types".into();
                return Err(diesel::result::Error::QueryBuilderError(mixed));
            }
        }
        Ok(())
    }
}

/// A statement over the columns of many rows. `Name` is a type of its own for each text.
struct OverColumns<'a, Name> {
    sql: &'static str,
    columns: Vec<Column<'a>>,
    name: PhantomData<Name>,
}

impl<Name: 'static> QueryId for OverColumns<'_, Name> {
    type QueryId = OverColumns<'static, Name>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Name> RunQueryDsl<PgConnection> for OverColumns<'_, Name> {}

impl<Name> QueryFragment<Pg> for OverColumns<'_, Name> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut parts = self.sql.split("{}");
        out.push_sql(parts.next().unwrap_or_default());
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push_sql(", ");
            }
            match column {
                Column::Text(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::Text>>, Vec<Option<&str>>>(column)?;
                }
                Column::Bytes(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::Binary>>, Vec<Option<&[u8]>>>(column)?;
                }
                Column::BigInt(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::BigInt>>, Vec<Option<i64>>>(column)?;
                }
                Column::Integer(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::Integer>>, Vec<Option<i32>>>(column)?;
                }
                Column::Bool(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::Bool>>, Vec<Option<bool>>>(column)?;
                }
                Column::Double(column) => {
                    out.push_bind_param::<Array<Nullable<sql_types::Double>>, Vec<Option<f64>>>(column)?;
                }
            }
        }
        out.push_sql(parts.next().unwrap_or_default());
        Ok(())
    }
}

/// Runs `sql` once for all of `rows`, each with the same kinds of values; `{}` in it is where the
/// columns go. Nothing for no rows.
pub fn execute<'a, Name: 'static>(
    conn: &mut PgConnection,
    sql: &'static str,
    rows: impl IntoIterator<Item = impl AsRef<[Bind<'a>]>>,
) -> QueryResult<usize> {
    let mut columns: Vec<Column<'a>> = Vec::new();
    for row in rows {
        let row = row.as_ref();
        if columns.is_empty() {
            columns = row.iter().map(Column::like).collect();
        }
        for (column, bind) in columns.iter_mut().zip(row) {
            column.push(bind)?;
        }
    }
    if columns.is_empty() {
        return Ok(0);
    }
    OverColumns::<Name> { sql, columns, name: PhantomData }.execute(conn)
}
