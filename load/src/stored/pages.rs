//! How long the first pages of lists take, one request at a time, while nothing else goes on.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::body::serial;
use crate::connection::Connection;
use crate::server::Server;
use crate::stats::{Latencies, Summary};

/// As the operators' page asks for.
const LIMIT: u64 = 50;

/// One list.
#[derive(Debug, Clone)]
pub struct Page {
    pub name: &'static str,
    /// Whether [`super::report::PAGE_P99_MS_MAX`] is its limit.
    pub is_required: bool,
    pub items: u64,
    pub latency: Summary,
}

/// Asks for each list `count` times; lists of a device each time for another one.
pub async fn measure(server: &Server, devices: u64, count: u64) -> anyhow::Result<Vec<Page>> {
    let token = server.admin_token()?;
    let addr = server.process.addr;
    let mut connection = Connection::open(addr).await.context("connect for the lists")?;
    let lists: [(&'static str, bool, &str); 5] = [
        ("alerts", true, "/api/v1/alerts?"),
        ("open alerts", true, "/api/v1/alerts?open=true&"),
        ("a device's events", true, "/api/v1/events?device_sn=SERIAL&"),
        ("a device's alerts", true, "/api/v1/alerts?device_sn=SERIAL&"),
        ("events", false, "/api/v1/events?"),
    ];
    let mut pages = Vec::new();
    for (name, is_required, path) in lists {
        let (mut latencies, mut items) = (Latencies::new(), 0);
        let begun = Instant::now();
        for nth in 0..count {
            // Far apart, so that no page of the file serves two of them.
            let serial = serial(nth * devices / count);
            let path = path.replace("SERIAL", &String::from_utf8_lossy(&serial));
            let request = format!(
                "GET {path}limit={LIMIT} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            let sent = Instant::now();
            let answer =
                connection.exchange(request.as_bytes()).await.with_context(|| format!("read {name}"))?;
            latencies.record(sent.elapsed());
            ensure!(answer.status == 200, "{path} answered {}", answer.status);
            let page: Value = serde_json::from_slice(answer.body)?;
            items = page["items"].as_array().context("a list")?.len() as u64;
            ensure!(items > 0, "{path} is empty");
        }
        pages.push(Page { name, is_required, items, latency: latencies.summary(begun.elapsed()) });
    }
    Ok(pages)
}
