//! Which sync a commit is: one that does not make the file system write the log's times as well.

use testkit::preload;
use testkit::process::{Process, connect, request};

#[test]
fn a_commit_syncs_the_bytes_of_the_log_and_not_its_times() {
    let (dir, shims) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let shim = preload::build("tests/proof/disk/fsync.c", shims.path());
    let process = Process::start_adjusted(dir.path(), |command| {
        command.env("LD_PRELOAD", &shim);
    });
    let mut stream = connect(process.addr).expect("a connection");
    let sos = r#"{"eventType":"SOS_EVENT","eventValue":"1","deviceSn":"A"}"#;
    let (status, answer) = request(&mut stream, "POST /upload_common_event", sos).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    process.signal("-TERM");
    let (code, said) = process.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.lines().count() > 0 && said.lines().all(|line| line == "fdatasync"), "{said}");
}
