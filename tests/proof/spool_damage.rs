//! The file that stands in for PostgreSQL is damaged while nobody looks: that is noticed, the file is kept,
//! and what can be read of what it held alone is stored.

use std::path::Path;

use diesel::{Connection, RunQueryDsl};
use testkit::bodies::event;
use testkit::scale::{Random, count, figure};
use testkit::truth::File;
use watchpost::config::StorageConfig;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::command::Command;
use watchpost::storage::commit::WriteToken;
use watchpost::storage::database::{Conn, Database};
use watchpost::storage::migrate;

use super::spool::{Scene, post};
use super::spool_salvage::spool_owners;

/// Reports that only the file has.
const SPOOLED: i64 = 60;
/// Turns of the writer within which a spool of that size is handed on.
const TURNS: usize = 4_000;

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in ["standby.db", "standby.db-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).expect("a copy");
        }
    }
}

/// A copy of a data directory with a copy of the database of its own.
pub fn copy_of(scene: &Scene, from: &Path, name: &str) -> (StorageConfig, tempfile::TempDir) {
    let mut admin = Conn::establish(&scene.cluster.url("template1")).expect("a connection");
    diesel::sql_query(format!("CREATE DATABASE {name} TEMPLATE postgres"))
        .execute(&mut admin)
        .expect("a database");
    let dir = tempfile::tempdir().expect("a directory");
    copy_dir(from, dir.path());
    testkit::database::note_url(dir.path(), &scene.cluster.url(name));
    let config = StorageConfig {
        data_dir: dir.path().into(),
        database_url: scene.cluster.url(name),
        postgres_commit_limit_ms: 10_000,
        ..StorageConfig::default()
    };
    (config, dir)
}

/// Starts with a database that is not there.
pub fn start_alone(config: &StorageConfig) -> Result<Database, String> {
    let nowhere = StorageConfig {
        // Nobody listens on the first port.
        database_url: "postgres://nobody@127.0.0.1:1/nothing".into(),
        ..config.clone()
    };
    let now = UtcMillis(chrono::Utc::now().timestamp_millis());
    let started = migrate::prepare_server(&nowhere, &[], now);
    started.map(|(database, _)| database).map_err(|err| err.to_string())
}

/// Starts on a damaged file with PostgreSQL there, and hands on what there is.
pub fn hand_on(config: &StorageConfig) -> Result<(), String> {
    let now = UtcMillis(chrono::Utc::now().timestamp_millis());
    let (database, _) = migrate::prepare_server(config, &[], now).map_err(|err| err.to_string())?;
    let mut token = WriteToken::open(&database).map_err(|err| err.to_string())?;
    for _ in 0..TURNS {
        token.execute(Command::Probe, now).map_err(|err| err.to_string())?;
        if database.standby().is_some_and(|standby| !standby.is_incomplete()) {
            return Ok(());
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    Err("it is handed on some time".into())
}

#[test]
fn a_damaged_spool_is_noticed_and_what_can_be_read_of_it_is_kept() {
    let images = count(12, 400);
    let mut random = Random::from_environment();
    let mut scene = Scene::new();
    let process = scene.start();
    for number in 0..20 {
        assert_eq!(post(&process, &event("before", "CALL_STATE", &number.to_string(), number)).0, 200);
    }
    spool_owners(&mut scene, &process);
    for number in 0..SPOOLED {
        assert_eq!(post(&process, &event("spooled", "CALL_STATE", &number.to_string(), number)).0, 200);
    }
    process.kill();
    scene.cluster.go_on();
    let (mut aside, mut whole, mut stored) = (0, 0, 0);
    for image in 0..images {
        let (config, dir) = copy_of(&scene, scene.path(), &format!("image_{image}"));
        let victim = match image % 3 {
            0 => "standby.db",
            _ => "standby.db-wal",
        };
        let path = dir.path().join(victim);
        let mut bytes = std::fs::read(&path).expect("a file");
        assert!(bytes.len() > 4_096, "{victim} holds something");
        let what = match image % 3 {
            // The end of the log is cut, anywhere in its last part.
            2 => {
                let cut = 1 + (random.number() % (bytes.len() as u64 / 2)) as usize;
                bytes.truncate(bytes.len() - cut);
                format!("{victim} cut by {cut}")
            }
            _ => {
                let at = (random.number() % bytes.len() as u64) as usize;
                bytes[at] ^= 1 << (random.number() % 8);
                format!("{victim} flipped at {at}")
            }
        };
        let length = bytes.len();
        std::fs::write(&path, bytes).expect("a damaged file");
        hand_on(&config).unwrap_or_else(|err| panic!("image {image}, {what}: {err}"));
        let mut file = File::of(dir.path());
        file.assert_consistent();
        assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'before'"), 21, "{what}");
        let kept = file.number("SELECT count(*) FROM event WHERE device_sn = 'spooled'");
        assert!(kept <= SPOOLED, "{what}");
        let names = std::fs::read_dir(dir.path()).expect("a directory");
        let damaged = names
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains(".damaged-"));
        // A bit in a row that is readable all the same may make another row of it.
        let boundary = image % 3 == 2 && length.saturating_sub(32).is_multiple_of(4_120);
        assert!(damaged || boundary || kept + 1 >= SPOOLED, "{what}: {kept} kept, and nobody was told");
        (aside, whole, stored) =
            (aside + usize::from(damaged), whole + usize::from(kept == SPOOLED), stored + kept);
    }
    figure("damaged spools: images, set aside, with nothing lost, rows kept of all", {
        format!("{images}, {aside}, {whole}, {stored} of {}", SPOOLED * images as i64)
    });
}
