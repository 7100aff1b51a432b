//! `watchpost token`: tokens of programs and people.

use serde_json::{Value, json};

use super::client::{CliError, Client, ServerArgs};

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; it is never shown again
    Create {
        /// Whose it is; shown as the actor of what is done with it
        name: String,
        /// See the data of this customer only
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List the tokens
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Revoke a token and the browser sessions made from it
    Revoke {
        /// As `watchpost token list` shows it
        token_id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// The text to print.
pub async fn run(command: &TokenCommand, env: impl Fn(&str) -> Option<String>) -> Result<String, CliError> {
    match command {
        TokenCommand::Create { name, customer, server } => {
            let client = Client::connect(server, env)?;
            let made =
                client.post("/api/v1/tokens", &json!({ "name": name, "customer_id": customer })).await?;
            Ok(text(&made["token"]).to_owned())
        }
        TokenCommand::List { server } => list(&Client::connect(server, env)?).await,
        TokenCommand::Revoke { token_id, server } => {
            let client = Client::connect(server, env)?;
            client.delete(&format!("/api/v1/tokens/{token_id}")).await?;
            Ok(format!("revoked {token_id}"))
        }
    }
}

async fn list(client: &Client) -> Result<String, CliError> {
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/api/v1/tokens?limit=500{cursor}")).await?;
        for token in page["items"].as_array().into_iter().flatten() {
            let customer = token["customer_id"].as_str().unwrap_or("all customers");
            let state = match &token["revoked_at"] {
                Value::String(at) => format!("revoked {at}"),
                _ => token["expires_at"].as_str().map_or("valid".into(), |at| format!("until {at}")),
            };
            let (id, kind, name) = (text(&token["token_id"]), text(&token["kind"]), text(&token["name"]));
            lines.push(format!("{id}  {kind}  {name}  {customer}  {state}"));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(lines.join("\n")),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
