//! The mark of a server that is running on this file. Whoever finds it at a start learns that the
//! last server did not come to write that it had stopped.

use diesel::prelude::*;

use super::database::Conn;
use super::schema::meta;
use crate::domain::time::UtcMillis;

const KEY: &str = "running_since_ms";

/// Whether it is there.
pub(super) fn is_set(conn: &mut Conn) -> QueryResult<bool> {
    let left: Option<String> = meta::table.find(KEY).select(meta::value).first(conn).optional()?;
    Ok(left.is_some())
}

/// Sets it: from now on reports are taken.
pub(super) fn set(conn: &mut Conn, now: UtcMillis) -> QueryResult<()> {
    diesel::replace_into(meta::table)
        .values((meta::key.eq(KEY), meta::value.eq(now.0.to_string())))
        .execute(conn)
        .map(|_| ())
}

/// Takes it away: all is written, or the file is a copy that nobody runs on.
pub(super) fn clear(conn: &mut Conn) -> QueryResult<()> {
    diesel::delete(meta::table.find(KEY)).execute(conn).map(|_| ())
}

/// Writes 64 KiB that are different each time, so that the disk has to take them.
pub(super) fn probe(conn: &mut Conn) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO meta (key, value) VALUES ('write_probe', hex(randomblob(32768))) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .execute(conn)
    .map(|_| ())
}
