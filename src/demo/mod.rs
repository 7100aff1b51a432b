//! `watchpost demo`: a server and a fleet of simulated watches in one process, to look at.
//!
//! The watches are those of the load lab and speak to the server over HTTP like any others. Nothing
//! of this is part of serving: it stands above everything and nothing uses it.

mod directory;
mod fleet;
mod people;

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::api::credentials::{self, ADMIN_TOKEN_FILE, CredentialError};
use crate::app::{App, AppError};
use crate::cli::client::{CliError, Client, ServerArgs};
use crate::config::Config;
use directory::DataDir;
use fleet::Fleet;

/// Watches of one demonstration: as many as one import of bindings takes, and what one thread can
/// wear.
pub const WATCHES_MAX: u32 = 2_000;
/// Sockets of one watch, at both ends: it keeps a few connections.
const FILES_PER_WATCH: u64 = 8;
/// Sockets and files of everything else.
const FILES_BESIDE: u64 = 512;
/// Seconds between uploads of a watch. A demonstration is looked at for minutes.
const HEALTH_INTERVAL_S: u32 = 10;
const DEVICE_INTERVAL_S: u32 = 60;

#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Simulated watches
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(WATCHES_MAX)))]
    pub watches: u32,
    /// Port on 127.0.0.1; 0 is a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Keep the data here [default: a directory that is deleted at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Why there is no demonstration. One line each.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("make {}: {source}; choose another --data-dir", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error("the watches could not be set up: {0}")]
    Fleet(#[from] CliError),
    #[error("print: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs until `stop` ends. Prints where the server listens, a sign-in link, and what there is to see.
pub async fn run(args: &DemoArgs, stop: impl Future<Output = ()>) -> Result<(), DemoError> {
    raise_open_files(args.watches);
    let home = DataDir::new(args.data_dir.clone())?;
    let app = App::build(config(args, &home)).await?;
    let (addr, state) = (app.addr(), app.state());
    let code = credentials::create_login_code(&state.writer, &state.clock, None).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "watchpost listening on http://{addr}")?;
    writeln!(out, "sign in within ten minutes: http://{addr}/{}", code.fragment())?;
    writeln!(
        out,
        "{} simulated watches of made-up people; {}; Ctrl-C ends it",
        args.watches,
        home.says_what_becomes_of_it()
    )?;
    out.flush()?;
    drop(out);

    let token_file = home.path().join(ADMIN_TOKEN_FILE);
    let token = std::fs::read_to_string(&token_file)
        .map_err(|source| CredentialError::File { path: token_file, source })?;
    let server = ServerArgs { url: Some(format!("http://{addr}")), token: Some(token), data_dir: None };
    let client = Client::connect(&server, |_| None)?;
    let mut outcome = Ok(());
    let shown = async {
        // Dropped at the end of the block: no watch outlives what there is to see.
        let mut fleet = Fleet::new(args.watches, state.clock.now());
        let lives = async {
            match fleet.live(&client, addr).await {
                Ok(()) => std::future::pending().await,
                Err(err) => Err(err),
            }
        };
        outcome = tokio::select! {
            () = stop => Ok(()),
            failed = lives => failed,
        };
    };
    app.run_until(shown).await?;
    Ok(outcome?)
}

fn config(args: &DemoArgs, home: &DataDir) -> Config {
    let mut config = Config::default();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], args.port));
    config.storage.data_dir = home.path().to_path_buf();
    config.watch.customer_name = "Watchpost demo".into();
    config.watch.upload_health_interval_s = HEALTH_INTERVAL_S;
    config.watch.upload_device_interval_s = DEVICE_INTERVAL_S;
    config
}

/// Both ends of every connection are in this process. If the system does not allow as many as it
/// would take, some watches will find no server now and then, as real ones do.
fn raise_open_files(watches: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = FILES_BESIDE + FILES_PER_WATCH * u64::from(watches);
    if limit.current.is_some_and(|current| current < needed) {
        let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        let raised = Rlimit { current: Some(current), maximum: limit.maximum };
        if let Err(err) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("this process may open few files: {err}");
        }
    }
}
