//! What the system says about this process, its files and their disk. What it does not say is
//! `None`.

use std::path::Path;
use std::time::Duration;

/// One look. Cumulative figures count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessReading {
    pub resident_bytes: Option<u64>,
    pub cpu: Option<Duration>,
    pub disk_read_bytes: Option<u64>,
    pub disk_written_bytes: Option<u64>,
    /// Of the data directory, for anybody but root.
    pub disk_free_bytes: Option<u64>,
    pub database_bytes: Option<u64>,
    pub wal_bytes: Option<u64>,
}

impl ProcessReading {
    /// Reads a few small files. Blocking.
    pub fn take(database: &Path, data_dir: &Path) -> Self {
        let mut wal = database.as_os_str().to_owned();
        wal.push("-wal");
        let size = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
        let io = std::fs::read_to_string("/proc/self/io").ok();
        let of_io = |key: &str| line_value(io.as_deref()?, key);
        Self {
            resident_bytes: resident_bytes(),
            cpu: cpu(),
            disk_read_bytes: of_io("read_bytes:"),
            disk_written_bytes: of_io("write_bytes:"),
            disk_free_bytes: disk_free_bytes(data_dir),
            database_bytes: size(database),
            wal_bytes: size(wal.as_ref()),
        }
    }
}

/// The number behind `key` in a file of lines `key value [unit]`.
fn line_value(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(line_value(&status, "VmRSS:")? * 1024)
}

#[cfg(unix)]
fn cpu() -> Option<Duration> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(used.tv_sec).ok()?, u32::try_from(used.tv_nsec).ok()?))
}

#[cfg(unix)]
fn disk_free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

#[cfg(not(unix))]
fn cpu() -> Option<Duration> {
    None
}

#[cfg(not(unix))]
fn disk_free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_key() {
        let io = "rchar: 1\nread_bytes: 20480\nwrite_bytes: 0\ncancelled_write_bytes: 3\n";
        assert_eq!(line_value(io, "read_bytes:"), Some(20_480));
        assert_eq!(line_value(io, "write_bytes:"), Some(0));
        assert_eq!(line_value("VmRSS:\t  5120 kB\n", "VmRSS:"), Some(5120));
        assert_eq!(line_value(io, "VmRSS:"), None);
        assert_eq!(line_value("read_bytes: many\n", "read_bytes:"), None);
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        let dir = tempfile::tempdir().expect("a directory");
        let reading = ProcessReading::take(&dir.path().join("no.db"), &dir.path().join("no-such-directory"));
        assert_eq!((reading.database_bytes, reading.wal_bytes, reading.disk_free_bytes), (None, None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_everything() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.db");
        std::fs::write(&file, [0u8; 100]).expect("a file");
        let reading = ProcessReading::take(&file, dir.path());
        assert_eq!(reading.database_bytes, Some(100));
        assert_eq!(reading.wal_bytes, None);
        assert!(reading.resident_bytes > Some(1 << 20) && reading.cpu > Some(Duration::ZERO));
        assert!(reading.disk_free_bytes.is_some() && reading.disk_written_bytes.is_some());
    }
}
