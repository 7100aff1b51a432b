//! What callgrind wrote: all instructions, and those of each function without what it calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

const ANNOTATE: &str = "/usr/bin/callgrind_annotate";

/// Instructions of one run.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    pub total: u64,
    /// By source file and function.
    pub functions: BTreeMap<String, u64>,
}

pub async fn read(out: &Path) -> anyhow::Result<Profile> {
    let mut command = Command::new(ANNOTATE);
    command.args(["--threshold=100", "--show-percs=no", "--auto=no"]).arg(out).stdin(Stdio::null());
    let output = command.kill_on_drop(true).output().await.context("run callgrind_annotate")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "callgrind_annotate: {}", String::from_utf8_lossy(&output.stderr));
    parse(&text).context("callgrind_annotate printed no totals")
}

/// `None` if there is no line of totals.
fn parse(text: &str) -> Option<Profile> {
    let mut profile = Profile::default();
    let mut lines = text.lines();
    profile.total = lines.find_map(|line| count(line).filter(|(_, name)| name.contains("PROGRAM TOTALS")))?.0;
    for (instructions, name) in lines.filter_map(count) {
        *profile.functions.entry(tidy(name)).or_default() += instructions;
    }
    Some(profile)
}

/// A count at the beginning of a line, and what follows.
fn count(line: &str) -> Option<(u64, &str)> {
    let line = line.trim_start();
    let end = line.find(|letter: char| !letter.is_ascii_digit() && letter != ',')?;
    let count = line[..end].replace(',', "").parse().ok()?;
    Some((count, line[end..].trim()))
}

/// `FILE:FUNCTION [OBJECT]` with the file's name alone, and without the hash that the compiler adds.
fn tidy(name: &str) -> String {
    let name = name.rsplit_once(" [").map_or(name, |(name, _)| name);
    // A path has no colon; a function's name has pairs of them.
    let (file, function) = name.split_once(':').unwrap_or(("???", name));
    let file = file.rsplit('/').next().unwrap_or(file);
    let hash = function.rfind("::h").filter(|at| {
        let hash = &function[at + 3..];
        hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    format!("{file}:{}", &function[..hash.unwrap_or(function.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
--------------------------------------------------------------------------------
Profile data file 'callgrind.out' (creator: callgrind-3.19.0)
--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
1,234,567  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir       file:function
--------------------------------------------------------------------------------
  400,000  /build/sqlite3.c:sqlite3VdbeExec'2 [/target/release/watchpost]
   90,001  /src/wire/mod.rs:watchpost::wire::decode::h0123456789abcdef [/target/release/watchpost]
       99  /src/wire/mod.rs:watchpost::wire::decode::hfedcba9876543210 [/target/release/watchpost]
    1,000  ???:__memcpy_avx_unaligned_erms [/usr/lib/libc.so.6]
";

    #[test]
    fn totals_and_functions_are_read() {
        let profile = parse(TEXT).expect("totals");
        assert_eq!(profile.total, 1_234_567);
        let functions: Vec<(&str, u64)> =
            profile.functions.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        let expected = [
            ("???:__memcpy_avx_unaligned_erms", 1_000),
            ("mod.rs:watchpost::wire::decode", 90_100),
            ("sqlite3.c:sqlite3VdbeExec'2", 400_000),
        ];
        assert_eq!(functions, expected);
        assert!(parse("no such thing").is_none());
    }
}
