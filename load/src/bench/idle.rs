//! One SOS at a time to a server that does nothing else: how long until the watch has its answer,
//! and until a dashboard has the alert. Both are timed here, by one clock.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::body::{Kind, Template, serial};
use crate::connection::Connection;
use crate::server::Server;
use crate::stats::{Answers, Latencies};

const FRAME_WITHIN: Duration = Duration::from_secs(10);

/// From the start of the post.
pub struct Idle {
    pub to_answer: Latencies,
    pub to_socket: Latencies,
    pub took: Duration,
}

/// Sends `events` from devices that have sent nothing yet, numbered from `first_device` on, one
/// every `pause`.
pub async fn measure(
    server: &Server,
    first_device: u64,
    events: u64,
    pause: Duration,
    answers: &mut Answers,
) -> anyhow::Result<Idle> {
    let addr = server.process.addr;
    let mut dashboard =
        Dashboard::open(&format!("ws://{addr}/api/v1/stream"), &server.admin_token()?).await?;
    let mut watch = Connection::open(addr).await.context("connect")?;
    let template = Template::new(Kind::Sos, addr);
    let begun = Instant::now();
    let mut idle = Idle { to_answer: Latencies::new(), to_socket: Latencies::new(), took: Duration::ZERO };
    let mut request = Vec::new();
    for device in first_device..first_device + events {
        template.write(device, Utc::now().timestamp(), &mut request);
        let sent = Instant::now();
        let answered = async {
            let answer = watch.exchange(&request).await.context("post an event")?;
            let at = Instant::now();
            ensure!(answer.is_success(), "the idle server answered {}", answer.status);
            Ok((at, answer.body.len()))
        };
        let shown = async {
            let shown = tokio::time::timeout(FRAME_WITHIN, dashboard.alert_of(&serial(device))).await;
            shown.with_context(|| format!("no alert on the socket within {FRAME_WITHIN:?}"))?
        };
        let ((answered, body_bytes), shown) = tokio::try_join!(answered, shown)?;
        idle.to_answer.record(answered - sent);
        idle.to_socket.record(shown - sent);
        answers.success(Kind::Sos, body_bytes);
        tokio::time::sleep_until((sent + pause).into()).await;
    }
    idle.took = begun.elapsed();
    dashboard.socket.close(None).await.context("close the socket")?;
    Ok(idle)
}

/// A subscribed dashboard.
struct Dashboard {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Dashboard {
    async fn open(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        let (mut socket, _) = connect_async(request).await.context("open the stream")?;
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_nodelay(true)?;
        }
        let subscribe =
            json!({ "type": "subscribe", "id": "bench", "filter": { "min_severity": "critical" } });
        socket.send(Message::text(subscribe.to_string())).await.context("subscribe")?;
        let mut dashboard = Self { socket };
        let snapshot = async {
            while dashboard.frame().await?.0["type"] != "snapshot" {}
            anyhow::Ok(())
        };
        tokio::time::timeout(FRAME_WITHIN, snapshot).await.context("no snapshot came")??;
        Ok(dashboard)
    }

    /// When the alert of this device arrived.
    async fn alert_of(&mut self, serial: &[u8]) -> anyhow::Result<Instant> {
        loop {
            let (frame, at) = self.frame().await?;
            let device = frame["alert"]["device_sn"].as_str().unwrap_or_default();
            if frame["type"] == "alert" && device.as_bytes() == serial {
                return Ok(at);
            }
        }
    }

    /// The next frame of JSON, and when it was there.
    async fn frame(&mut self) -> anyhow::Result<(Value, Instant)> {
        loop {
            let message = self.socket.next().await.context("the server closed the stream")??;
            let at = Instant::now();
            match message {
                Message::Text(text) => return Ok((serde_json::from_str(&text)?, at)),
                Message::Close(frame) => bail!("the server closed the stream: {frame:?}"),
                _ => {}
            }
        }
    }
}
