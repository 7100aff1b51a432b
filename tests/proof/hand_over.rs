//! A new server takes over from the old on the same data directory, under load: never two at once,
//! nothing that was accepted is lost, nothing happens twice, screens resume.

use std::time::{Duration, Instant};

use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::process::{Process, admin_token, command, refusal, server_args};
use testkit::scale::{count, figure};
use testkit::traffic::Traffic;
use testkit::truth::File;

#[test]
fn a_new_server_takes_over_under_load_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = Process::start(dir.path());
    let token = admin_token(dir.path());
    let (traffic, dashboard) = (Traffic::default(), Dashboard::start(&token));
    let hand_overs = count(5, 200);
    let (mut away, mut epochs) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let traffic = &traffic;
        for name in ["W0", "W1", "W2", "W3"] {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", &token));
        for _ in 0..hand_overs {
            traffic.point_to(Some(process.addr));
            dashboard.point_to(Some(process.addr));
            traffic.until(50);
            // A second one beside it is refused, and does no harm.
            let args = server_args(dir.path());
            let line = refusal(command(&args.iter().map(String::as_str).collect::<Vec<_>>()));
            assert!(line.contains("in use"), "{line}");
            let begun = Instant::now();
            process.signal("-TERM");
            let (code, said) = process.wait();
            assert_eq!((code, said.as_str()), (Some(0), ""), "nothing was left undone");
            process = Process::start(dir.path());
            away.push(begun.elapsed());
            epochs.push(File::of(dir.path()).texts("SELECT value FROM meta WHERE key = 'epoch'"));
        }
        traffic.point_to(Some(process.addr));
        dashboard.point_to(Some(process.addr));
        traffic.until(50);
        traffic.stop();
        let last = File::of(dir.path()).number("SELECT max(change_offset) FROM alert_change");
        dashboard.until(last);
        process.signal("-TERM");
        assert_eq!(process.wait(), (Some(0), String::new()));
    });
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "screens go on where they were");
    let record = traffic.record().clone();
    let mut file = File::of(dir.path());
    record.assert_stored(&mut file);
    file.assert_consistent();
    let told = assert_told_the_log(&dashboard.finish(), &mut file);
    assert_eq!(told.gaps, 0);
    away.sort_unstable();
    figure("hand-over: servers, items answered 200, of these lost", {
        format!("{hand_overs}, {}, 0", traffic.answered())
    });
    figure(
        "hand-over: requests without an answer, refused",
        format!("{}, {}", record.unanswered, record.refused),
    );
    figure("hand-over: SIGTERM to the next one listening, p50 and max, ms", {
        let of = |at: usize| away.get(at).map_or(0, Duration::as_millis);
        format!("{}, {}", of(away.len() / 2), of(away.len() - 1))
    });
}
