//! Where a demonstration keeps its data: a directory that it deletes, or one that was named.

use std::path::{Path, PathBuf};

use super::DemoError;
use crate::api::credentials::random_hex;

/// Deleted when dropped, unless it was named.
pub struct DataDir {
    path: PathBuf,
    is_kept: bool,
}

impl DataDir {
    pub fn new(named: Option<PathBuf>) -> Result<Self, DemoError> {
        if let Some(path) = named {
            return Ok(Self { path, is_kept: true });
        }
        let path = std::env::temp_dir().join(format!("watchpost-demo-{}", random_hex::<8>()?));
        let mut builder = std::fs::DirBuilder::new();
        // It holds a token. An existing directory of somebody else is an error.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|source| DemoError::Directory { path: path.clone(), source })?;
        Ok(Self { path, is_kept: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn says_what_becomes_of_it(&self) -> String {
        match self.is_kept {
            true => format!("their data stays in {}", self.path.display()),
            false => format!("{} is deleted at the end", self.path.display()),
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(err) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!("{} could not be deleted: {err}", self.path.display());
        }
    }
}
