//! The truth: the database itself, read with queries of the tests' own and not through the server.

use std::collections::HashSet;
use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;
use watchpost::storage::database::Conn;

use crate::database;

/// Every transition of an alert that counts as "it happened".
const HAPPENED: &str = "transition IN ('raised', 'repeated')";

/// The database file of a data directory. The server may be running or not.
pub struct File {
    conn: Conn,
    postgres: bool,
}

impl File {
    pub fn of(data_dir: &Path) -> Self {
        Self { conn: database::connect_in(data_dir), postgres: database::is_postgres(data_dir) }
    }

    pub fn open(path: &Path) -> Self {
        Self { conn: database::connect_file(path), postgres: false }
    }

    pub fn execute(&mut self, statement: &str) {
        diesel::sql_query(statement).execute(&mut self.conn).expect("a statement");
    }

    /// The column `value` of a query, as text.
    pub fn texts(&mut self, query: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            value: String,
        }
        let query = database::texts_query(query, self.postgres);
        let rows: Vec<Row> = diesel::sql_query(query).load(&mut self.conn).expect("rows");
        rows.into_iter().map(|row| row.value).collect()
    }

    /// A query of one number.
    pub fn number(&mut self, query: &str) -> i64 {
        let texts = self.texts(&format!("SELECT ({query}) AS value"));
        texts[0].parse().expect("a number")
    }

    /// Every event id as the API writes it, in order.
    pub fn event_ids(&mut self) -> Vec<String> {
        self.event_ids_where("1 = 1")
    }

    pub fn event_ids_where(&mut self, condition: &str) -> Vec<String> {
        self.event_ids_in_order(condition, "event_id")
    }

    /// In the order of an expression.
    pub fn event_ids_in_order(&mut self, condition: &str, order: &str) -> Vec<String> {
        let query =
            format!("SELECT lower(hex(event_id)) AS value FROM event WHERE {condition} ORDER BY {order}");
        let parse = |hex: &String| uuid::Uuid::parse_str(hex).expect("an id").to_string();
        self.texts(&query).iter().map(parse).collect()
    }

    /// Every event that was answered 200 is here.
    pub fn assert_holds(&mut self, answered: &[String]) {
        let known: HashSet<String> = self.event_ids().into_iter().collect();
        let missing: Vec<&String> = answered.iter().filter(|id| !known.contains(*id)).collect();
        assert!(
            missing.is_empty(),
            "{} of {} were answered 200 and are lost, the first of them {:?}",
            missing.len(),
            answered.len(),
            &missing[..missing.len().min(10)]
        );
    }

    /// What must hold of every file at every instant, whatever has happened to its servers.
    pub fn assert_consistent(&mut self) {
        if self.postgres {
            // One state of it, although others write.
            self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
            self.assert_rows_agree();
            self.execute("COMMIT");
        } else {
            self.none(
                "the file is sound",
                "SELECT integrity_check AS value FROM pragma_integrity_check WHERE integrity_check != 'ok'",
            );
            self.assert_rows_agree();
        }
    }

    fn assert_rows_agree(&mut self) {
        let offsets = self.texts(
            "SELECT count(*) || ' ' || coalesce(max(change_offset), 0) || ' ' || coalesce(min(change_offset), 1) \
             AS value FROM alert_change",
        );
        let parts: Vec<&str> = offsets[0].split(' ').collect();
        assert!(parts[0] == parts[1] && parts[2] == "1", "offsets without a gap: {parts:?}");
        self.none(
            "no event twice",
            "SELECT device_sn || ' ' || type_key || ' ' || occurred_ms AS value FROM event \
             WHERE time_source = 'device' \
             GROUP BY device_sn, type_key, value, occurred_ms, client_event_id HAVING count(*) > 1",
        );
        self.none(
            "one open alert per device, rule and binding",
            "SELECT device_sn || ' ' || rule_id AS value FROM alert WHERE is_open \
             GROUP BY device_sn, rule_id, binding_id HAVING count(*) > 1",
        );
        self.none(
            "each cause once per alert",
            "SELECT alert_id || ' ' || cause AS value FROM alert_change \
             GROUP BY alert_id, cause, transition HAVING count(*) > 1",
        );
        self.none(
            "an alert is what its last change says",
            "SELECT alert_id AS value FROM alert a WHERE last_offset IS DISTINCT FROM \
             (SELECT max(change_offset) FROM alert_change c WHERE c.alert_id = a.alert_id) \
             OR body IS DISTINCT FROM (SELECT body FROM alert_change c WHERE c.change_offset = a.last_offset)",
        );
        self.none(
            "an alert counts what has happened",
            &format!(
                "SELECT alert_id AS value FROM alert a WHERE count != \
                 (SELECT count(*) FROM alert_change c WHERE c.alert_id = a.alert_id AND {HAPPENED})"
            ),
        );
        self.none(
            "a change belongs to an alert",
            "SELECT change_offset AS value FROM alert_change WHERE alert_id NOT IN (SELECT alert_id FROM alert)",
        );
        self.none(
            "each SOS of a device that has a place of its own is in the log once",
            &format!(
                // A join of two sets: event by event it would take hours after a long proof.
                "SELECT id AS value FROM \
                 (SELECT device_sn, lower(hex(event_id)) AS id FROM event \
                  WHERE type_key = 'sos_event' AND device_sn IN (SELECT device_sn FROM device)) AS e \
                 LEFT JOIN (SELECT device_sn, replace(cause, '-', '') AS cause, count(*) AS times \
                  FROM alert_change c WHERE {HAPPENED} GROUP BY device_sn, replace(cause, '-', '')) AS told \
                 ON told.device_sn = e.device_sn AND told.cause = 'event:' || e.id \
                 WHERE times IS NULL OR times != 1"
            ),
        );
    }

    fn none(&mut self, what: &str, query: &str) {
        let found = self.texts(query);
        assert!(found.is_empty(), "{what}, but for {}: {:?}", found.len(), &found[..found.len().min(10)]);
    }
}
