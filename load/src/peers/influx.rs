//! InfluxDB 1.6: what a body says as two lines of its protocol, and a server that syncs each write.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::body::{EPOCH, Kind, SERIAL, Template};
use crate::child::ServerProcess;
use crate::connection::{Answer, Connection};
use crate::generator::Dialect;
use crate::packages::INFLUXDB;

const DATABASE: &str = "lab";
const ANSWER_BYTES_MAX: u64 = 1_024 * 1_024;

pub const DIALECT: Dialect = Dialect { template, success };

/// Written: no content.
fn success(answer: &Answer<'_>) -> bool {
    answer.status == 204
}

/// Starts it in `dir` on a free port, with an empty database.
pub async fn start(dir: &Path) -> anyhow::Result<ServerProcess> {
    // The server wants to be told a port; nobody takes this one in the moment between.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = dir.join("influxdb.conf");
    std::fs::write(&config, settings(dir, addr))?;
    let mut command = Command::new(INFLUXDB);
    command.arg("-config").arg(&config).process_group(0);
    command.stderr(std::fs::File::create(dir.join("influxdb.log"))?);
    let ready = async || match Connection::open(addr).await {
        Ok(mut connection) => connection.get("/ping").await.is_ok_and(|answer| answer.status == 204),
        Err(_) => false,
    };
    let server = ServerProcess::start_quiet("influxdb", command, addr, ready).await?;
    query(addr, &format!("CREATE+DATABASE+{DATABASE}")).await.context("create the database")?;
    Ok(server)
}

/// Every write is synced before its answer (`wal-fsync-delay`), as our 200 promises. What writes
/// to the database by itself or logs each request is switched off, which makes it faster.
fn settings(dir: &Path, addr: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        r#"reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{dir}/meta"
[data]
dir = "{dir}/data"
wal-dir = "{dir}/wal"
wal-fsync-delay = "0s"
query-log-enabled = false
max-series-per-database = 0
[http]
bind-address = "{addr}"
log-enabled = false
[monitor]
store-enabled = false
[subscriber]
enabled = false
[continuous_queries]
enabled = false
[logging]
level = "warn"
"#
    )
}

/// Runs a query. In HTTP/1.0: with 1.1 the answer comes in chunks, which the load's own connection
/// does not read.
async fn query(addr: SocketAddr, text: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = format!("POST /query?db={DATABASE}&q={text} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "influxdb answered {status}");
    serde_json::from_str(body).context("read what influxdb answered")
}

/// Events and health records that are stored.
pub async fn count(addr: SocketAddr) -> anyhow::Result<(u64, u64)> {
    Ok((points(addr, "event", "value").await?, points(addr, "vitals", "heart_rate").await?))
}

async fn points(addr: SocketAddr, measurement: &str, field: &str) -> anyhow::Result<u64> {
    let value =
        query(addr, &format!("SELECT+COUNT({field})+FROM+{measurement}")).await.context("count points")?;
    // Without a point there is no series.
    Ok(value["results"][0]["series"][0]["values"][0][1].as_u64().unwrap_or_default())
}

/// The same values as the JSON body has, as one point of `event` and one of `vitals`.
fn template(kind: Kind, server: SocketAddr) -> Template {
    let body = kind.json();
    let mut lines = String::new();
    match kind {
        Kind::Event | Kind::Sos => {
            let event_type = body["eventType"].as_str().unwrap_or_default();
            let short = event_type.rsplit('.').next().unwrap_or_default();
            lines += &line(&format!("event,device_sn={SERIAL},event_type={short}"), &body);
            lines += &line(&format!("vitals,device_sn={SERIAL}"), &body["healthData"]["data"]);
        }
        Kind::Vitals => lines += &line(&format!("vitals,device_sn={SERIAL}"), &body["data"]),
        Kind::Device => lines += &line(&format!("device_status,device_sn={SERIAL}"), &body),
    }
    let head = format!(
        "POST /write?db={DATABASE}&precision=s HTTP/1.1\r\nHost: {server}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        lines.len(),
    );
    Template::from_parts(&head, &lines)
}

/// Series and fields of one point. Serial number and time are not fields, and "null" is no value.
fn line(series: &str, record: &Value) -> String {
    let fields: Vec<String> = record
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !["deviceSn", "SerialNumber", "timestamp"].contains(&key.as_str()))
        .filter_map(|(key, value)| {
            let name = key.strip_prefix("event").map_or(key.clone(), str::to_lowercase).replace(' ', "\\ ");
            match value {
                Value::String(text) if text != "null" => {
                    Some(format!("{name}=\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
                }
                Value::Number(number) => Some(format!("{name}={number}")),
                _ => None,
            }
        })
        .collect();
    format!("{series} {} {EPOCH}\n", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_becomes_two_points_with_its_values() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut request = Vec::new();
        template(Kind::Sos, nowhere).write(7, 1_757_480_724, &mut request);
        let text = String::from_utf8(request).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("event,device_sn=BENCH00000000007,event_type=SOS_EVENT "), "{body}");
        assert!(lines[0].contains(r#"value="BENCH00000000007""#) && lines[0].contains("latitude=22.540363"));
        assert!(lines[1].starts_with("vitals,device_sn=BENCH00000000007 "), "{body}");
        assert!(lines[1].contains("heart_rate=84") && lines[1].contains(r#"sleepData="{\"code\":0,"#));
        assert!(lines.iter().all(|line| line.ends_with(" 1757480724")), "{body}");
        assert!(!body.contains('$') && !body.contains('#') && !body.contains("\"null\""), "{body}");
    }
}
