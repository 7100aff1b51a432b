//! A server under load with a dashboard, and what must hold of it after every fault.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use testkit::truth::File;
use testkit::{TestApp, eventually};

use super::dashboard::Dashboard;
use super::load::{Load, SHARDS};

pub struct Stage {
    pub app: TestApp,
    pub load: Load,
    pub dashboard: Dashboard,
    file: File,
    /// Frames of the dashboard that were compared with the file already.
    compared: usize,
    /// Its last task, which a test without a runner's process per test must outlive.
    _scenario: fail::FailScenario<'static>,
}

/// One row of the log.
struct Row {
    offset: i64,
    transition: String,
    must_be_pushed: bool,
    body: Value,
}

/// A server whose writer has to be woken up for each report.
pub async fn without_linger() -> TestApp {
    TestApp::start_with(|config| config.writer.linger_ms = 0).await
}

impl Stage {
    pub async fn set() -> Self {
        let scenario = fail::FailScenario::setup();
        let app = TestApp::start_with(|config| {
            config.device.shards = SHARDS;
            config.storage.checkpoint_interval_ms = 100;
            config.device.load_retry_ms = 20;
            config.writer.retry_pause_ms = 10;
        })
        .await;
        let dashboard = Dashboard::start(&app);
        // From the first change on: nothing is pushed before it listens.
        eventually("a first connection", || async { (dashboard.connections() > 0).then_some(()) }).await;
        let load = Load::start(&app).await;
        let file = File::open(&app.database());
        load.progress(30).await;
        Self { app, load, dashboard, file, compared: 0, _scenario: scenario }
    }

    /// Restarts of the actors whose name begins so.
    pub fn restarts(&self, prefix: &str) -> u64 {
        let all = self.app.state.board.all();
        all.iter().filter(|health| health.name.starts_with(prefix)).map(|health| health.restarts()).sum()
    }

    /// Every promise, with the load at rest; then the load goes on.
    pub async fn check(&mut self) {
        self.load.pause().await;
        let state = &self.app.state;
        eventually("every permit is back", || async { (state.admission.pool.used_kib() == 0).then_some(()) })
            .await;
        eventually("every actor runs", || async { state.board.all_running().then_some(()) }).await;
        self.check_answers();
        self.check_pushes().await;
        self.load.resume();
    }

    /// What was answered 200 is in the file.
    fn check_answers(&mut self) {
        let answered = self.load.answered();
        self.file.assert_holds(&answered.events);
        let vitals = self.file.texts("SELECT device_sn || ' ' || measured_ms AS value FROM vitals");
        assert_all("vital signs", &answered.vitals, vitals);
        let actions = self.file.texts("SELECT cause AS value FROM alert_change WHERE cause LIKE 'action:%'");
        assert_all("operators' actions", &answered.actions, actions);
    }

    /// What is stored and not quiet was pushed, once, in order; what was pushed is stored.
    async fn check_pushes(&mut self) {
        let rows = self.rows();
        let offsets: Vec<i64> = rows.iter().map(|row| row.offset).collect();
        assert_eq!(offsets, (1..=rows.len() as i64).collect::<Vec<_>>(), "offsets without a gap");
        let due: Vec<i64> = rows.iter().filter(|row| row.must_be_pushed).map(|row| row.offset).collect();
        let covered = self.dashboard.snapshot_after_gap();
        let dashboard = &self.dashboard;
        eventually("everything that is due has been pushed", || async {
            let had: HashSet<i64> = dashboard.pushed().iter().map(|pushed| pushed.offset).collect();
            due.iter().all(|offset| *offset <= covered || had.contains(offset)).then_some(())
        })
        .await;
        let by_offset: HashMap<i64, &Row> = rows.iter().map(|row| (row.offset, row)).collect();
        let pushed = self.dashboard.pushed();
        for frame in &pushed[self.compared..] {
            let row = by_offset.get(&frame.offset).expect("what was pushed is stored");
            assert_eq!((&frame.transition, &frame.alert), (&row.transition, &row.body));
        }
        let count = pushed.len();
        drop(pushed);
        self.compared = count;
    }

    fn rows(&mut self) -> Vec<Row> {
        let rows = self.file.texts(
            "SELECT change_offset || ' ' || transition || ' ' || (NOT quiet) || ' ' || body AS value \
             FROM alert_change ORDER BY change_offset",
        );
        let parse = |row: &String| {
            let mut parts = row.splitn(4, ' ');
            let mut next = || parts.next().expect("four parts");
            Row {
                offset: next().parse().expect("a number"),
                transition: next().to_owned(),
                must_be_pushed: next() == "1",
                body: serde_json::from_str(next()).expect("JSON"),
            }
        };
        rows.iter().map(parse).collect()
    }

    /// The whole file, and an orderly end.
    pub async fn strike(mut self) {
        self.check().await;
        self.load.pause().await;
        self.file.assert_consistent();
        let counted = (self.load.answered().events.len(), self.load.refused(), self.dashboard.gaps());
        println!("{counted:?} events answered 200, other answers, gaps");
        drop((self.load, self.dashboard));
        self.app.stop().await;
    }
}

fn assert_all(what: &str, answered: &[String], stored: Vec<String>) {
    let stored: HashSet<String> = stored.into_iter().collect();
    let lost: Vec<&String> = answered.iter().filter(|one| !stored.contains(*one)).collect();
    assert!(lost.is_empty(), "{what} that were answered 200 and are lost: {lost:?}");
}
