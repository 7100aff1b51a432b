//! Libraries that come before a server's C library.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C file of the repository into `dir`; what to set `LD_PRELOAD` to.
pub fn build(source: &str, dir: &Path) -> PathBuf {
    let library = dir.join("shim.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(source)])
        .arg("-ldl")
        .output()
        .expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}
