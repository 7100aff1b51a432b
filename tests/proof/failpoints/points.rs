//! Every fail point, with what a panic there costs and how to get there.

/// How a point is reached when the ordinary load does not reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The load passes it all the time.
    Load,
    /// A client of the stream comes or goes.
    Reconnect,
    /// An actor restarts, after a panic at this point.
    Restart(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub name: &'static str,
    /// Names of the actors that a panic there restarts begin so; empty if it restarts none.
    pub restarts: &'static str,
    /// It also has the form `return`: an error, or something that is lost.
    pub returns: bool,
    pub reached: Reached,
}

const fn panics(name: &'static str, restarts: &'static str) -> Point {
    Point { name, restarts, returns: false, reached: Reached::Load }
}

impl Point {
    const fn returns(mut self) -> Self {
        self.returns = true;
        self
    }

    const fn reached(mut self, reached: Reached) -> Self {
        self.reached = reached;
        self
    }
}

const SHARD: &str = "device-shard";
const WRITER: &str = "batch-writer";
const RULES: &str = "rule-cache";
const REGISTRY: &str = "session-registry";
/// A request, a blocking call, a socket or its task: whoever asked sees an error.
const NOBODY: &str = "";

pub const DOORS: &[Point] = &[
    panics("api::submit", NOBODY),
    panics("api::answer", NOBODY),
    panics("admission::hand_on", NOBODY),
    panics("router::ingest", NOBODY).returns(),
    panics("router::act", NOBODY).returns(),
];

pub const SHARDS: &[Point] = &[
    panics("shard::ingest", SHARD),
    panics("shard::ingest_unguarded", SHARD),
    panics("shard::turn", SHARD),
    panics("shard::act", SHARD),
    panics("shard::timer", SHARD),
    panics("shard::load", NOBODY).returns(),
    panics("shard::loaded", SHARD),
    panics("shard::ask", NOBODY).returns(),
    panics("shard::answered", SHARD),
    panics("shard::effects", SHARD),
    panics("shard::notice", SHARD),
    panics("shard::notice_unguarded", SHARD),
];

pub const WRITERS: &[Point] = &[
    panics("writer::write", WRITER),
    panics("writer::write_unguarded", WRITER),
    panics("writer::barrier", WRITER).reached(Reached::Restart("shard::turn")),
    panics("writer::barrier_unguarded", WRITER).reached(Reached::Restart("shard::turn")),
    panics("writer::administer", WRITER),
    panics("writer::shown", WRITER),
    panics("writer::record_shown", WRITER),
    panics("writer::proceed", WRITER),
    panics("writer::finished", WRITER),
    panics("writer::taken_over", WRITER).reached(Reached::Restart("writer::write")),
    panics("writer::checkpoint", WRITER),
    panics("writer::checkpointing", NOBODY),
];

/// On the blocking thread, in their order.
pub const JOBS: &[Point] = &[
    panics("writer::job", NOBODY),
    panics("storage::begin", NOBODY).returns(),
    panics("storage::transaction", NOBODY).returns(),
    panics("storage::commit", NOBODY).returns(),
    panics("storage::committed", NOBODY).returns(),
    panics("storage::command", NOBODY),
    panics("writer::committed", NOBODY),
    panics("writer::announce", NOBODY),
    panics("writer::publish", NOBODY).returns(),
    panics("writer::receipts", NOBODY),
    panics("writer::receipt", NOBODY),
    panics("writer::notices", NOBODY),
];

pub const RULE_CACHE: &[Point] = &[
    panics("rules::change", RULES),
    panics("rules::change_unguarded", RULES),
    panics("rules::load", NOBODY).returns().reached(Reached::Restart("rules::change")),
    panics("rules::loaded", RULES).reached(Reached::Restart("rules::change")),
    panics("rules::publish", RULES),
    panics("rules::stored", RULES),
];

pub const SESSIONS: &[Point] = &[
    panics("registry::publish", REGISTRY),
    panics("registry::publish_unguarded", REGISTRY),
    panics("registry::timer", REGISTRY),
    panics("registry::load", NOBODY).returns().reached(Reached::Restart("registry::publish")),
    panics("registry::loaded", REGISTRY).reached(Reached::Restart("registry::publish")),
    panics("registry::join", REGISTRY).reached(Reached::Reconnect),
    panics("registry::enter", REGISTRY).reached(Reached::Reconnect),
    panics("registry::subscribe", REGISTRY).reached(Reached::Reconnect),
    panics("registry::pull", REGISTRY),
    panics("registry::leave", REGISTRY).reached(Reached::Reconnect),
    panics("session::frame", NOBODY),
    panics("session::message", NOBODY),
    panics("session::timer", NOBODY),
    panics("session::written", NOBODY),
    panics("session::write", NOBODY).returns(),
];

/// Beside PostgreSQL: `proof::spool` strikes them.
pub const STANDBY: &[Point] = &[
    panics("standby::commit", NOBODY),
    panics("standby::mirror", NOBODY),
    panics("standby::spool", NOBODY).returns(),
    panics("standby::hand_on", NOBODY).returns(),
    panics("standby::handed_on", NOBODY),
];

/// A panic here ends the process, so only processes of their own meet it.
pub const FATAL: &[Point] = &[panics("root::died", NOBODY)];

pub const ALL: [&[Point]; 8] = [DOORS, SHARDS, WRITERS, JOBS, RULE_CACHE, SESSIONS, STANDBY, FATAL];

/// Names in the code, each as often as it is there.
fn in_the_code(folder: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            in_the_code(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let calls =
                text.match_indices("crate::fail_point!(\"").map(|(at, call)| &text[at + call.len()..]);
            found.extend(calls.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_fail_point_of_the_code_is_in_the_list_and_the_other_way_round() {
    let mut code = Vec::new();
    in_the_code(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    code.sort();
    let mut listed: Vec<&str> = ALL.iter().flat_map(|group| group.iter().map(|point| point.name)).collect();
    listed.sort_unstable();
    assert_eq!(code, listed);
}
