//! The one writer: what has piled up while a transaction ran is the next one.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::oneshot;
use watchpost::config::WriterConfig;
use watchpost::domain::event::DeviceReport;

use super::rows::{self, Alerts};

/// A report on its way, and who waits for its commit. It comes back, for the answer.
struct Job {
    report: DeviceReport,
    stored: oneshot::Sender<DeviceReport>,
}

pub struct Writer {
    jobs: Sender<Job>,
}

impl Writer {
    /// Makes the tables in a new file and starts the thread, which ends with the process.
    pub fn start(database: &Path, bare_tables: bool, alerts: Option<Alerts>) -> anyhow::Result<Self> {
        let conn = rows::create(database, bare_tables)?;
        let (jobs, queue) = channel();
        std::thread::Builder::new().name("writer".into()).spawn(move || {
            if let Err(err) = write(conn, &queue, alerts) {
                // Whoever waits gets 503, and so does everybody after that.
                eprintln!("prototype: {err:#}");
            }
        })?;
        Ok(Self { jobs })
    }

    /// `None` if it is not stored.
    pub async fn store(&self, report: DeviceReport) -> Option<DeviceReport> {
        let (stored, answer) = oneshot::channel();
        self.jobs.send(Job { report, stored }).ok()?;
        answer.await.ok()
    }
}

fn write(mut conn: Connection, queue: &Receiver<Job>, mut alerts: Option<Alerts>) -> anyhow::Result<()> {
    let batch_rows = WriterConfig::default().batch_rows;
    let mut jobs: Vec<Job> = Vec::with_capacity(batch_rows);
    while let Ok(first) = queue.recv() {
        jobs.push(first);
        jobs.extend(queue.try_iter().take(batch_rows - 1));
        let transaction = conn.transaction().context("begin")?;
        for job in &jobs {
            rows::insert(&transaction, &job.report, alerts.as_mut()).context("insert")?;
        }
        transaction.commit().context("commit")?;
        for job in jobs.drain(..) {
            // Whoever has gone away needs no answer.
            let _ = job.stored.send(job.report);
        }
    }
    Ok(())
}
