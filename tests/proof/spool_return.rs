//! Back at PostgreSQL after a start without it: the file is compared with PostgreSQL, and what is the same
//! there is neither written again nor handed on to where it came from.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::json;
use testkit::bodies::sos;
use testkit::database::connect_file;
use testkit::process::{admin_token, connect, request_as};
use testkit::truth::File;

use super::spool::{Scene, post, until_mirroring, until_spooling};

const WATCHES: usize = 60;
/// Lines of the log that an emergency, its watch and a start may make.
const LINES_MAX: i64 = 40;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// Lines that the log of the file has ever had.
fn logged(scene: &Scene) -> i64 {
    let mut conn = connect_file(&scene.path().join("standby.db"));
    let query = "SELECT coalesce(max(seq), 0) AS value FROM sqlite_sequence WHERE name = 'spool_log'";
    diesel::sql_query(query).get_result::<Number>(&mut conn).expect("a number").value
}

/// In which transactions owners were written.
fn written(file: &mut File) -> Vec<String> {
    ["customer", "org", "person", "device_binding"]
        .into_iter()
        .flat_map(|table| file.texts(&format!("SELECT xmin::text AS value FROM {table} ORDER BY 1")))
        .collect()
}

#[test]
fn what_postgres_has_is_not_handed_on_to_it_again() {
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    let mut stream = connect(process.addr).expect("a connection");
    for watch in 0..WATCHES {
        let body = json!({"customer_id": "c", "org_id": format!("o{}", watch / 10), "person_id": format!("p{watch}")});
        let head = format!("PUT /api/v1/devices/W{watch}/binding");
        let (status, answer) = request_as(&mut stream, &token, &head, &body.to_string()).expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
    let mut file = File::of(scene.path());
    let before = written(&mut file);
    assert!(before.len() > 2 * WATCHES, "owners are in PostgreSQL");
    process.kill();
    scene.cluster.stop("-INT");
    // It does not know whether the file has everything.
    let process = scene.start();
    until_spooling(&process, true);
    assert_eq!(post(&process, &sos("W0", 0)).0, 200);
    scene.cluster.go_on();
    until_mirroring(&process);
    let lines = logged(&scene);
    assert!((1..=LINES_MAX).contains(&lines), "{lines} lines of the log for one emergency");
    let mut file = scene.settle(process);
    assert_eq!(written(&mut file), before, "owners were not written again");
    assert_eq!(file.number("SELECT count(*) FROM event"), 1);
}
