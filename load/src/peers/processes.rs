//! What a peer costs: CPU and memory of a process and of all that it has started, and the
//! connections to its database file.

use std::path::Path;

use anyhow::Context;

use crate::machine;

/// The process and its descendants.
pub fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        // Each thread has its own children.
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    pids
}

/// CPU seconds so far, of living processes.
pub fn cpu_seconds(pids: &[u32]) -> anyhow::Result<f64> {
    pids.iter().map(|pid| machine::cpu_seconds(*pid)).sum()
}

/// Resident memory now, KiB. What processes share counts once.
pub fn resident_kib(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| proportional_kib(*pid)).sum()
}

fn proportional_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = value.and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok());
    kib.with_context(|| format!("{path} has no Pss"))
}

/// How often a process has a file open: for SQLite, its connections.
pub fn times_open(pid: u32, file: &Path) -> usize {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == file)).count()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_family_is_found_and_measured() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & read line; kill $!"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while family(shell.id()).len() < 2 {
            assert!(std::time::Instant::now() < until, "no child: {:?}", family(shell.id()));
            std::thread::yield_now();
        }
        let pids = family(shell.id());
        assert!(resident_kib(&pids).expect("memory") > 0);
        assert!(cpu_seconds(&pids).expect("seconds") >= 0.0);
        drop(shell.stdin.take());
        shell.wait().expect("an end");
    }

    #[test]
    fn open_files_are_counted() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let again = std::fs::File::open(file.path()).expect("opened again");
        assert_eq!(times_open(std::process::id(), file.path()), 2);
        drop(again);
        assert_eq!(times_open(std::process::id(), file.path()), 1);
    }
}
