//! The bare prototype: the smallest server that keeps the promise "200 means stored". It decodes as
//! the server does, hands the report to one writer thread, and answers when that has committed.
//! No rules, no duplicates, no permits, no push, no actors: what is above it is what those cost.

mod rows;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use actix_web::{HttpResponse, web};
use anyhow::Context;
use watchpost::wire::{self, DecodeOptions};

use crate::ceiling;
use writer::Writer;

#[derive(Debug, clap::Args)]
pub struct PrototypeArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The database file, which must not exist
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// Also write what an alert for every event takes: its row, and a row in its log
    #[arg(long)]
    alerts: bool,
    /// Leave out every index but the primary keys
    #[arg(long)]
    bare_tables: bool,
}

/// Serves until it gets a signal.
pub fn run(args: &PrototypeArgs) -> anyhow::Result<()> {
    let alerts = args.alerts.then(rows::Alerts::default);
    let writer = Writer::start(&args.database, args.bare_tables, alerts).context("open the database")?;
    let data = web::Data::new(writer);
    let upload = move || {
        let data = data.clone();
        web::post().to(move |body| upload(data.clone(), body))
    };
    actix_web::rt::System::new().block_on(ceiling::serve("prototype", args.listen, upload))
}

async fn upload(writer: web::Data<Writer>, body: web::Bytes) -> HttpResponse {
    let begun = Instant::now();
    let report = match wire::decode(&body, &DecodeOptions::default()) {
        Ok(mut decoded) if decoded.reports.len() == 1 => decoded.reports.remove(0),
        Ok(_) => return ceiling::refused("one report a request"),
        Err(err) => return ceiling::refused(&err.to_string()),
    };
    match writer.store(report).await {
        Some(report) => HttpResponse::Ok().json(ceiling::answer(Some(&report), begun)),
        None => HttpResponse::ServiceUnavailable().finish(),
    }
}
