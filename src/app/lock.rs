//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::AppError;

/// In the data directory.
pub const LOCK_FILE: &str = "watchpost.lock";

/// An advisory lock on `watchpost.lock`; the kernel gives it back when the process ends, however.
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory if need be.
    pub fn take(data_dir: &Path) -> Result<Self, AppError> {
        let path = data_dir.display().to_string();
        let unusable = |source| AppError::DataDir { path: path.clone(), source };
        std::fs::create_dir_all(data_dir).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(data_dir.join(LOCK_FILE)).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(AppError::Locked(path)),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}
