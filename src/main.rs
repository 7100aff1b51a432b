//! The command line: `watchpost [serve]` runs the server, the other commands speak to one.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use watchpost::api::credentials;
use watchpost::app::App;
use watchpost::cli::client::{Client, ServerArgs};
use watchpost::cli::{bindings, login_link, quarantine, token, watch};
use watchpost::config::{Config, LogFormat, TelemetryConfig};
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
}

#[derive(Debug, clap::Args)]
struct WatchArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    options: watch::WatchOptions,
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

#[actix_web::main]
async fn main() -> ExitCode {
    // What the variable FAILPOINTS says; not in a release.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // One line that says what is wrong and what to do.
            eprintln!("watchpost: {err:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let env = |name: &str| std::env::var(name).ok();
    let text = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => return serve(args.load()?).await,
        Command::Config(args) => args.load()?.to_masked_toml(),
        Command::Watch(args) => {
            let client = Client::connect(&args.server, env)?;
            return Ok(watch::watch(client.url(), client.token(), &args.options).await?);
        }
        Command::LoginLink(args) => login_link::run(&args, env).await?,
        Command::Bindings(command) => bindings::run(&command, env).await?,
        Command::Quarantine(command) => quarantine::run(&command, env).await?,
        Command::Token(command) => token::run(&command, env).await?,
    };
    println!("{}", text.trim_end());
    Ok(())
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
            std::process::exit(1);
        });
    };
    Ok(app.run_until(signalled).await?)
}
