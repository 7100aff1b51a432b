//! The mark of a server that is running on this file. Whoever finds it at a start learns that the
//! last server did not come to write that it had stopped.

use diesel::prelude::*;

use super::conn::is_postgres;
use super::database::Conn;
use super::schema::meta;
use super::statement::{Bind, Statement};
use crate::domain::time::UtcMillis;

const KEY: &str = "running_since_ms";

/// Whether it is there.
pub(super) fn is_set(conn: &mut Conn) -> QueryResult<bool> {
    let left: Option<String> = meta::table.find(KEY).select(meta::value).first(conn).optional()?;
    Ok(left.is_some())
}

/// Sets it: from now on reports are taken.
pub(super) fn set(conn: &mut Conn, now: UtcMillis) -> QueryResult<()> {
    struct PutMark;
    const SQL: &str =
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let now = now.0.to_string();
    Statement::<PutMark>::new(SQL, &[Bind::Text(KEY), Bind::Text(&now)]).execute(conn).map(|_| ())
}

/// Takes it away: all is written, or the file is a copy that nobody runs on.
pub(super) fn clear(conn: &mut Conn) -> QueryResult<()> {
    diesel::delete(meta::table.find(KEY)).execute(conn).map(|_| ())
}

/// Writes 64 KiB that are different each time, so that the disk has to take them.
pub(super) fn probe(conn: &mut Conn) -> QueryResult<()> {
    // PostgreSQL looks after its own disk; what it takes is a commit.
    let different = match is_postgres(conn) {
        true => "md5(random()::text)",
        false => "hex(randomblob(32768))",
    };
    diesel::sql_query(format!(
        "INSERT INTO meta (key, value) VALUES ('write_probe', {different}) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    ))
    .execute(conn)
    .map(|_| ())
}
