//! What ARCHITECTURE.md and the documents promise, checked against the sources.

mod documents;
mod figures;
mod layers;
mod licences;
mod style;

use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|err| panic!("read {}: {err}", path.display()))
}

/// A text file of the repository.
struct Source {
    /// From the top of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The code without comment lines and without unit tests, which stand at the end of a file.
    fn code(&self) -> String {
        let end = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The top module that a file of `src` belongs to.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").expect("a file of src");
        inner.split('/').next().map(|name| name.trim_end_matches(".rs")).unwrap_or(inner)
    }
}

/// All files below `dir` whose names end with `ending`.
fn sources(dir: &str, ending: &str) -> Vec<Source> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).expect("below the top");
                found.push(Source { path: name.to_string_lossy().replace('\\', "/"), text: read(&path) });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Fails with all faults, one a line.
fn none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}
