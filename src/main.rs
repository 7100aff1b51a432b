//! The command line: `watchpost [serve]` runs the server, the other commands speak to one or look at
//! its database.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use watchpost::api::credentials;
use watchpost::app::{App, databases, maintenance};
use watchpost::cli::client::{Client, ServerArgs};
use watchpost::cli::{bindings, login_link, quarantine, token, watch};
use watchpost::config::{Config, LogFormat, TelemetryConfig};
use watchpost::demo;
use watchpost::telemetry;

/// Reports are made on one thread and freed on another, which the C library's allocator pays for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes in what smart-watches send, decides by rule which of it is an alert, stores it, and puts
/// it on the right screens
#[derive(Debug, Parser)]
#[command(name = "watchpost", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve(ServeArgs),
    /// Run a server with simulated watches, to look at
    Demo(demo::DemoArgs),
    /// Print the effective configuration as TOML, secrets masked
    Config(ServeArgs),
    /// Show the stream of alerts in this terminal
    Watch(WatchArgs),
    /// Print a one-time link that signs a browser in
    LoginLink(login_link::LoginLinkArgs),
    /// Who wears which device
    #[command(subcommand)]
    Bindings(bindings::BindingsCommand),
    /// Bodies that could not be read
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Tokens of programs and people
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Copy the database into FILE and check the copy, whether a server runs on it or not
    Backup(FileArgs),
    /// Put a backup in the place of the database; the old one is kept beside it
    Restore(FileArgs),
    /// Look for faults in the database, whether a server runs on it or not
    Check(DataArgs),
    /// Make the database, or bring it to this version's schema, without starting a server
    Migrate(ServeArgs),
    /// Copy an SQLite file into an empty PostgreSQL database; an interrupted copy goes on
    #[cfg(feature = "postgres")]
    Copy(CopyArgs),
    /// Drop whole months of events and vital signs from a PostgreSQL database
    #[cfg(feature = "postgres")]
    DropMonths(DropMonthsArgs),
}

#[cfg(feature = "postgres")]
#[derive(Debug, clap::Args)]
struct CopyArgs {
    /// For example sqlite:/var/lib/watchpost/watchpost.db; no server may run on it
    #[arg(long, value_name = "URL")]
    from: String,
    /// For example postgres://watchpost@db.example/watchpost
    #[arg(long, value_name = "URL")]
    to: String,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[cfg(feature = "postgres")]
#[derive(Debug, clap::Args)]
struct DropMonthsArgs {
    /// What is older goes, month by month: YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    before: chrono::NaiveDate,
    /// The database
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A line that is written over by the next one on a terminal.
#[cfg(feature = "postgres")]
fn show_progress(line: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

#[derive(Debug, clap::Args)]
struct WatchArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    options: watch::WatchOptions,
}

/// Where the database is, as the server is told.
#[derive(Debug, Clone, Default, clap::Args)]
struct DataArgs {
    /// Where the database is [default: ./watchpost-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// For example sqlite:/var/lib/watchpost/watchpost.db
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

impl DataArgs {
    fn load(self) -> anyhow::Result<Config> {
        let DataArgs { data_dir, database_url, config } = self;
        ServeArgs { data_dir, database_url, config, ..ServeArgs::default() }.load()
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
struct ServeArgs {
    /// Address and port of every interface [default: 127.0.0.1:5001]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the database and the admin token are [default: ./watchpost-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// For example sqlite:/var/lib/watchpost/watchpost.db
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Let anybody who can reach a public address post as any watch
    #[arg(long)]
    allow_open_ingest: bool,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any key of the configuration, for example writer.batch_rows=500; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl ServeArgs {
    fn load(&self) -> anyhow::Result<Config> {
        let mut overrides = Vec::new();
        for entry in &self.set {
            let (key, value) = entry
                .split_once('=')
                .ok_or_else(|| anyhow::anyhow!("--set {entry}: write it as section.key=value"))?;
            overrides.push((key.to_owned(), value.to_owned()));
        }
        let flags = [
            ("server.listen", &self.listen),
            ("storage.data_dir", &self.data_dir),
            ("storage.database_url", &self.database_url),
        ];
        for (key, value) in flags {
            overrides.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        if self.allow_open_ingest {
            overrides.push(("watch.allow_open_ingest".into(), "true".into()));
        }
        Ok(Config::load(self.config.as_deref(), std::env::vars(), &overrides)?)
    }
}

fn main() {
    let cli = Cli::parse();
    // What the variable FAILPOINTS says; not in a release.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let code = match actix_web::rt::System::new().block_on(run(cli)) {
        Ok(()) => 0,
        Err(err) => {
            // One line that says what is wrong and what to do.
            eprintln!("watchpost: {err:#}");
            1
        }
    };
    end(code)
}

/// Ends the process without its exit handlers: OpenSSL's frees what another thread, which closes or
/// makes a session to PostgreSQL, still uses (<https://github.com/openssl/openssl/issues/6214>).
fn end(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(code)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let env = |name: &str| std::env::var(name).ok();
    let text = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => return serve(args.load()?).await,
        Command::Demo(args) => return run_demo(&args).await,
        Command::Config(args) => args.load()?.to_masked_toml(),
        Command::Watch(args) => {
            let client = Client::connect(&args.server, env)?;
            return Ok(watch::watch(client.url(), client.token(), &args.options).await?);
        }
        Command::LoginLink(args) => login_link::run(&args, env).await?,
        Command::Bindings(command) => bindings::run(&command, env).await?,
        Command::Quarantine(command) => quarantine::run(&command, env).await?,
        Command::Token(command) => token::run(&command, env).await?,
        Command::Backup(FileArgs { file, data }) => maintenance::back_up(&data.load()?, &file)?,
        Command::Restore(FileArgs { file, data }) => maintenance::restore(&data.load()?, &file)?,
        Command::Check(data) => {
            let (text, sound) = maintenance::check(&data.load()?)?;
            println!("{text}");
            anyhow::ensure!(sound, "the database is not sound");
            return Ok(());
        }
        Command::Migrate(args) => databases::migrate(&args.load()?)?,
        #[cfg(feature = "postgres")]
        Command::Copy(CopyArgs { from, to, config }) => {
            let config = ServeArgs { config, ..ServeArgs::default() }.load()?;
            let done = databases::copy(&config, &from, &to, show_progress);
            if std::io::stderr().is_terminal() {
                eprintln!();
            }
            done?
        }
        #[cfg(feature = "postgres")]
        Command::DropMonths(DropMonthsArgs { before, database_url, config }) => {
            let config = ServeArgs { config, database_url, ..ServeArgs::default() }.load()?;
            databases::drop_months(&config, before)?
        }
    };
    println!("{}", text.trim_end());
    Ok(())
}

async fn run_demo(args: &demo::DemoArgs) -> anyhow::Result<()> {
    let _tracing = telemetry::init_logging("warn", false, "").map_err(anyhow::Error::msg)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let signalled = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(demo::run(args, signalled).await?)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let json = config.telemetry.log_format == LogFormat::Json;
    let TelemetryConfig { log, otlp_endpoint, .. } = &config.telemetry;
    let _tracing = telemetry::init_logging(log, json, otlp_endpoint).map_err(anyhow::Error::msg)?;
    // Before anything is started, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let app = tokio::select! {
        app = App::build(config) => app?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let addr = app.addr();
    println!("watchpost listening on http://{addr}");
    if std::io::stdout().is_terminal() {
        let state = app.state();
        let code = credentials::create_login_code(&state.writer, &state.clock, None).await?;
        println!("sign in within ten minutes: http://{addr}/{}", code.fragment());
    }
    std::io::stdout().flush()?;
    let signalled = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        actix_web::rt::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Asked twice: whoever waits for an answer gets none, which promises nothing.
            eprintln!("watchpost: told to stop twice; ending at once");
            end(1);
        });
    };
    Ok(app.run_until(signalled).await?)
}
