//! `watchpost quarantine`: bodies that could not be read.

use serde_json::{Value, json};

use super::client::{CliError, Client, ServerArgs};
use super::watch_line::printable;

#[derive(Debug, clap::Subcommand)]
pub enum QuarantineCommand {
    /// List the copies, newest first
    List {
        /// Only those that name an emergency
        #[arg(long)]
        emergencies: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show one copy with its bytes
    Show {
        /// As `watchpost quarantine list` shows it
        id: i64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Read a copy again as if its watch had sent it now; what is stored by that leaves quarantine
    Retry {
        /// As `watchpost quarantine list` shows it
        id: i64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Delete a copy that is of no use any more
    Delete {
        /// As `watchpost quarantine list` shows it
        id: i64,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// The text to print.
pub async fn run(
    command: &QuarantineCommand,
    env: impl Fn(&str) -> Option<String>,
) -> Result<String, CliError> {
    match command {
        QuarantineCommand::List { emergencies, server } => {
            list(&Client::connect(server, env)?, *emergencies).await
        }
        QuarantineCommand::Show { id, server } => show(&Client::connect(server, env)?, *id).await,
        QuarantineCommand::Retry { id, server } => {
            let client = Client::connect(server, env)?;
            let done = client.post(&format!("/api/v1/quarantine/{id}/retry"), &json!({})).await?;
            Ok(format!("stored, and out of quarantine: {}", done["answer"]))
        }
        QuarantineCommand::Delete { id, server } => {
            Client::connect(server, env)?.delete(&format!("/api/v1/quarantine/{id}")).await?;
            Ok(format!("deleted {id}"))
        }
    }
}

async fn list(client: &Client, emergencies: bool) -> Result<String, CliError> {
    let filter = if emergencies { "&names_emergency=true" } else { "" };
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/api/v1/quarantine?limit=500{filter}{cursor}")).await?;
        lines.extend(page["items"].as_array().into_iter().flatten().map(line));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(lines.join("\n")),
        }
    }
}

async fn show(client: &Client, id: i64) -> Result<String, CliError> {
    let path = format!("/api/v1/quarantine/{id}");
    let copy = client.get(&path).await?;
    let body = match copy["body_text"].as_str() {
        Some(text) => text.lines().map(printable).collect::<Vec<_>>().join("\n"),
        None => format!("no UTF-8; the bytes are at {}{path}/body", client.url()),
    };
    Ok(format!("{}\nsha256 {}\n\n{body}", line(&copy), text(&copy["sha256"])))
}

fn line(copy: &Value) -> String {
    let emergency = if copy["names_emergency"] == true { "  EMERGENCY" } else { "" };
    format!(
        "{}  {}  {} times  {} bytes  {}{emergency}  {}",
        text(&copy["quarantine_id"]),
        text(&copy["last_seen_at"]),
        copy["seen_count"],
        copy["size_bytes"],
        text(&copy["route"]),
        printable(text(&copy["reason"])),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
