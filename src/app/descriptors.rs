//! How many files and connections the process may have open. Many systems start services with 1,024,
//! less than the streams that the configuration allows, and let them ask for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asks for as many as the system allows. What it refuses is only worth a line in the log.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "more open files allowed"),
        Err(err) => tracing::warn!(?current, ?maximum, "the limit of open files stays as it is: {err}"),
    }
}
