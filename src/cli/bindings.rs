//! `watchpost bindings import FILE`: who has which device, from a CSV.

use std::path::PathBuf;

use actix_web::http::Method;

use super::client::{CliError, Client, ServerArgs};

#[derive(Debug, clap::Subcommand)]
pub enum BindingsCommand {
    /// Bind the devices of a CSV file, all or none
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// CSV with the header device_sn,customer_id,customer_name,org_id,org_name,person_id,person_name
    pub file: PathBuf,
    /// Only check the file
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The text to print.
pub async fn run(
    command: &BindingsCommand,
    env: impl Fn(&str) -> Option<String>,
) -> Result<String, CliError> {
    let BindingsCommand::Import(args) = command;
    let csv =
        std::fs::read(&args.file).map_err(|source| CliError::Read { path: args.file.clone(), source })?;
    let client = Client::connect(&args.server, env)?;
    let path = format!("/api/v1/bindings/import?dry_run={}", args.dry_run);
    let answer = client.send(Method::POST, &path, "text/csv", csv).await?;
    if !args.dry_run {
        return Ok(format!("{} devices in the file, {} changed hands", answer["rows"], answer["changed"]));
    }
    let faults: Vec<String> = answer["faults"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|fault| format!("line {}: {}", fault["line"], fault["error"].as_str().unwrap_or_default()))
        .collect();
    match faults.is_empty() {
        true => Ok(format!("{} devices, no fault; nothing was changed", answer["rows"])),
        false => Err(CliError::Problem(format!(
            "{} lines are wrong; correct them and try again\n  {}",
            answer["fault_count"],
            faults.join("\n  ")
        ))),
    }
}
