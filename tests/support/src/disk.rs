//! The C library's calls to the disk, recorded and made to fail: see `tests/proof/disk/shim.c`.

use std::path::{Path, PathBuf};

use crate::preload;
use crate::process::Process;

/// A disk that fails when told to.
pub struct Disk {
    dir: tempfile::TempDir,
    shim: PathBuf,
    database: &'static str,
}

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing can be written.
    Full,
    /// An fsync fails.
    Eio,
}

impl Fault {
    fn file(self) -> &'static str {
        match self {
            Fault::Full => "full",
            Fault::Eio => "eio",
        }
    }
}

impl Disk {
    /// Compiles the shim. Only this file, and its log, are watched.
    pub fn below(database: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let shim = preload::build("tests/proof/disk/shim.c", dir.path());
        Self { dir, shim, database }
    }

    /// A server on this disk. Small logs, so that all that happens to them happens often.
    pub fn start(&self, data_dir: &Path, settings: &[&str]) -> Process {
        Process::start_adjusted(data_dir, |command| {
            command
                .env("LD_PRELOAD", &self.shim)
                .env("SHIM_DISK_FAULTS", self.dir.path())
                .env("SHIM_DISK_LOG", self.recording())
                .env("SHIM_DISK_NAME", self.database)
                .args([
                    "--set",
                    "storage.checkpoint_pages=300",
                    "--set",
                    "storage.checkpoint_interval_ms=20",
                ]);
            for setting in settings {
                command.args(["--set", setting]);
            }
        })
    }

    /// Where everything is written down.
    pub fn recording(&self) -> PathBuf {
        self.dir.path().join("recording")
    }

    /// How much has been written down.
    pub fn recorded(&self) -> u64 {
        std::fs::metadata(self.recording()).map_or(0, |file| file.len())
    }

    pub fn begin(&self, fault: Fault) {
        std::fs::write(self.dir.path().join(fault.file()), "").expect("a file");
    }

    pub fn end(&self, fault: Fault) {
        std::fs::remove_file(self.dir.path().join(fault.file())).expect("the file");
    }
}
