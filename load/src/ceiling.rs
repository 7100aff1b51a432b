//! The bare ceiling: what this machine can answer at best with the same HTTP server, the same
//! settings and the same decoder, and nothing behind them.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, Route, web};
use serde_json::{Map, Value, json};
use watchpost::config::ServerConfig;
use watchpost::domain::event::{DeviceReport, ReportBody};
use watchpost::wire::{self, DecodeOptions};

/// As the server has it.
const BACKLOG: u32 = 4_096;

#[derive(Debug, clap::Args)]
pub struct CeilingArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until it gets a signal.
pub fn run(args: &CeilingArgs) -> anyhow::Result<()> {
    let upload = || web::post().to(upload);
    actix_web::rt::System::new().block_on(serve("ceiling", args.listen, upload))
}

/// The server's HTTP settings with one handler for all uploads. `name` is what it calls itself
/// when it says where it listens.
pub async fn serve<F>(name: &str, listen: SocketAddr, upload: F) -> anyhow::Result<()>
where
    F: Fn() -> Route + Clone + Send + 'static,
{
    let config = ServerConfig::default();
    let workers = match config.http_workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    };
    let body_bytes_max = config.body_bytes_max;
    let factory = move || {
        let app = App::new().app_data(web::PayloadConfig::new(body_bytes_max));
        ["/upload_common_event", "/upload_health_data", "/upload_device_info"]
            .into_iter()
            .fold(app, |app, route| app.route(route, upload()))
    };
    let server = HttpServer::new(factory)
        .workers(workers)
        .max_connections(config.connections_per_worker_max)
        .backlog(BACKLOG)
        .tcp_nodelay(true)
        .keep_alive(Duration::from_secs(config.keep_alive_s))
        .client_request_timeout(Duration::from_millis(config.client_timeout_ms))
        .shutdown_timeout(1)
        .bind(listen)?;
    let addr = server.addrs().first().copied().unwrap_or(listen);
    let server = server.run();
    println!("{name} listening on http://{addr}");
    std::io::stdout().flush()?;
    Ok(server.await?)
}

async fn upload(body: web::Bytes) -> HttpResponse {
    let begun = Instant::now();
    match wire::decode(&body, &DecodeOptions::default()) {
        Ok(decoded) => HttpResponse::Ok().json(answer(decoded.reports.first(), begun)),
        Err(err) => refused(&err.to_string()),
    }
}

pub fn refused(message: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({ "success": false, "message": message }))
}

/// As long as the server's, with ids that nobody gave out.
pub fn answer(report: Option<&DeviceReport>, begun: Instant) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("status".into(), "success".into());
    answer.insert("success".into(), true.into());
    answer.insert("message".into(), "stored".into());
    if let Some(report) = report {
        let event_type = match &report.body {
            ReportBody::Event(event) => Some(event.short_type()),
            _ => None,
        };
        let critical = event_type.is_some_and(|name| name.starts_with("SOS"));
        answer.insert("device_sn".into(), report.device_sn.as_str().into());
        answer.insert("event_type".into(), event_type.into());
        answer.insert("event_id".into(), event_type.map(|_| "01993226-5ea0-8000-8000-000000000000").into());
        answer.insert("alert_id".into(), critical.then_some("1234567890123456789").into());
        answer.insert("duplicate".into(), false.into());
    }
    let elapsed = begun.elapsed();
    answer.insert("processing_time".into(), json!(format!("{:.6}s", elapsed.as_secs_f64())));
    answer.insert("processing_time_ms".into(), json!((elapsed.as_secs_f64() * 1e6).round() / 1e3));
    answer
}
