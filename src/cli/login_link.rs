//! `watchpost login-link`: a link that signs a browser in, once.

use serde_json::json;

use super::client::{CliError, Client, ServerArgs};

/// Print a one-time link that signs a browser in; it works for ten minutes
#[derive(Debug, clap::Args)]
pub struct LoginLinkArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The text to print.
pub async fn run(args: &LoginLinkArgs, env: impl Fn(&str) -> Option<String>) -> Result<String, CliError> {
    let client = Client::connect(&args.server, env)?;
    let code = client.post("/api/v1/login-codes", &json!({})).await?;
    let fragment = code["url_fragment"].as_str().unwrap_or_default();
    Ok(format!("{}/{fragment}", client.url()))
}
