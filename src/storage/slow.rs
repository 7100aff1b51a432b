//! Statements that take too long: counted, and logged with how SQLite carries them out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::database::Conn;

/// Statements kept of one piece of work; the rest is only counted.
const KEPT_MAX: usize = 4;

/// A statement beyond the limit, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlowStatement {
    sql: String,
    took: Duration,
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    kept: Vec<SlowStatement>,
}

/// Times every statement of a connection while it is set there.
struct StatementClock {
    limit: Duration,
    began: Option<Instant>,
    found: Arc<Mutex<Found>>,
}

impl Instrumentation for StatementClock {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.began = Some(Instant::now()),
            InstrumentationEvent::FinishQuery { query, .. } => {
                let Some(took) = self.began.take().map(|began| began.elapsed()) else { return };
                if took >= self.limit {
                    let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.count += 1;
                    if found.kept.len() < KEPT_MAX {
                        // What is bound may be about a person.
                        let text = query.to_string();
                        let sql = text.split(" -- binds").next().unwrap_or_default().to_owned();
                        found.kept.push(SlowStatement { sql, took });
                    }
                }
            }
            _ => {}
        }
    }
}

/// Runs `work` and logs its statements that took `limit` or longer. Answers what it answered, and
/// how many there were. A limit of zero watches nothing.
pub(super) fn watched<T>(conn: &mut Conn, limit: Duration, work: impl FnOnce(&mut Conn) -> T) -> (T, u64) {
    if limit.is_zero() {
        return (work(conn), 0);
    }
    let found = Arc::new(Mutex::new(Found::default()));
    conn.set_instrumentation(StatementClock { limit, began: None, found: found.clone() });
    let result = work(conn);
    conn.set_instrumentation(None::<StatementClock>);
    let Found { count, kept } = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    for SlowStatement { sql, took } in kept {
        let (took_ms, plan) = (took.as_millis() as u64, plan(conn, &sql));
        tracing::warn!(took_ms, plan, "slow statement: {sql}");
    }
    (result, count)
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// How SQLite carries a statement out, step by step; empty if it does not say, and for PostgreSQL,
/// which plans no statement without its values.
fn plan(conn: &mut Conn, sql: &str) -> String {
    #[cfg(feature = "postgres")]
    if matches!(conn, Conn::Postgres(_)) {
        return String::new();
    }
    // BEGIN, COMMIT and PRAGMA have none.
    let steps = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load::<Step>(conn).unwrap_or_default();
    steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: &str = "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                        WHERE i < 200000) SELECT i FROM n), (SELECT name FROM sqlite_schema WHERE name = ? LIMIT 1)";

    fn conn() -> Conn {
        Conn::establish(":memory:").expect("a database")
    }

    #[test]
    fn only_what_takes_longer_than_the_limit_is_found() {
        let work = |conn: &mut Conn| {
            diesel::sql_query(SLOW).bind::<Text, _>("a secret").execute(conn).expect("a query");
            diesel::sql_query("SELECT 1").execute(conn).expect("a query")
        };
        let (_, found) = watched(&mut conn(), Duration::from_nanos(1), work);
        assert_eq!(found, 2);
        let (_, found) = watched(&mut conn(), Duration::from_secs(3_600), work);
        assert_eq!(found, 0);
        let (_, found) = watched(&mut conn(), Duration::ZERO, work);
        assert_eq!(found, 0, "switched off");
    }

    #[test]
    fn a_plan_needs_no_values() {
        assert!(plan(&mut conn(), SLOW).contains("SCAN"), "{}", plan(&mut conn(), SLOW));
        assert_eq!(plan(&mut conn(), "COMMIT"), "");
    }
}
