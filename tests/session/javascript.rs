//! The JavaScript client of the stream, in Node. Its cases are in `stream_client.test.mjs`.

use std::path::Path;
use std::process::Command;

/// Copies the module and its test into a package of their own: without one, older versions of Node take
/// a `.js` file for something else than a module.
#[test]
fn the_client_module_misses_nothing_and_gives_nothing_twice() {
    const MODULE: &str = "src/dashboard/stream-client.js";
    const CASES: &str = "tests/session/stream_client.test.mjs";
    let dir = tempfile::tempdir().unwrap();
    for path in [MODULE, CASES] {
        let copy = dir.path().join(path);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), copy).unwrap();
    }
    std::fs::write(dir.path().join("package.json"), r#"{"type":"module"}"#).unwrap();
    let ran = Command::new("node").args(["--test", CASES]).current_dir(dir.path()).output();
    let ran = ran.expect("node, from Debian's package nodejs; ./tests/run installs it");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.contains("# pass 19"), "{printed}");
}
