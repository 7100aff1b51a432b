//! A dashboard's socket and its frames. Alert frames come by the hundred thousand: of those, only
//! offset and cause are read, from where the server writes them.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::request::uuid;
use super::screens::Door;

pub type Socket = WebSocketStream<TcpStream>;

const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Of a dashboard that stops reading: the kernel must not take megabytes in its place. Not less
/// than two segments of loopback, or TCP crawls by its persist timer when reading goes on.
const SMALL_RECEIVE_BYTES: u32 = 128 * 1024;

/// Longer than the server takes to notice a commit in any case (`session.reconcile_ms`).
const SETTLED_FOR: Duration = Duration::from_millis(500);
const SETTLE_TRIES: u32 = 40;

pub async fn open(door: &Door, small_buffer: bool) -> anyhow::Result<Socket> {
    let socket = if door.server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if small_buffer {
        socket.set_recv_buffer_size(SMALL_RECEIVE_BYTES)?;
    }
    let stream = socket.connect(door.server).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{}/api/v1/stream", door.server).into_client_request()?;
    request.headers_mut().insert(AUTHORIZATION, format!("Bearer {}", door.token).parse()?);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    Ok(opened.context("open the stream")?.0)
}

/// `since`: epoch, and the last offset that it has had.
pub fn subscribe(since: Option<(&str, u64)>) -> Message {
    let mut frame = json!({ "type": "subscribe", "id": "lab", "filter": { "min_severity": "critical" } });
    if let Some((epoch, offset)) = since {
        frame["since"] = json!({ "epoch": epoch, "offset": offset });
    }
    Message::text(frame.to_string())
}

/// The newest offset once two new connections in a row are told the same.
pub async fn settled_offset(door: &Door) -> anyhow::Result<u64> {
    let mut last = None;
    for _ in 0..SETTLE_TRIES {
        let mut socket = open(door, false).await?;
        let hello = frame(socket.next().await.context("the server closed the stream")??)?;
        let Some(Frame::Hello { offset, .. }) = hello else { bail!("the stream began with {hello:?}") };
        // The close is a courtesy.
        let _ = socket.close(None).await;
        if last.replace(offset) == Some(offset) {
            return Ok(offset);
        }
        tokio::time::sleep(SETTLED_FOR).await;
    }
    bail!("the offset still moves after the last answer")
}

/// What a dashboard looks at, besides alerts.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Hello { epoch: String, offset: u64 },
    Snapshot { offset: u64, alerts: Vec<String>, truncated: bool },
    Gap,
    Pong { offset: u64 },
    Error { message: String },
}

#[derive(Deserialize)]
struct Raw {
    r#type: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    alerts: Vec<RawAlert>,
}

#[derive(Deserialize)]
struct RawAlert {
    alert_id: String,
}

/// `None` for frames that say nothing here. An error for what is no frame.
pub fn frame(message: Message) -> anyhow::Result<Option<Frame>> {
    let Message::Text(text) = message else { return Ok(None) };
    let raw: Raw = serde_json::from_str(&text).with_context(|| format!("a frame: {:.200}", text.as_str()))?;
    let offset = raw.offset;
    Ok(match raw.r#type.as_str() {
        "hello" => Some(Frame::Hello { epoch: raw.epoch, offset }),
        "snapshot" => {
            let mut alerts: Vec<String> = raw.alerts.into_iter().map(|alert| alert.alert_id).collect();
            alerts.sort_unstable();
            Some(Frame::Snapshot { offset, alerts, truncated: raw.truncated })
        }
        "gap" => Some(Frame::Gap),
        "pong" => Some(Frame::Pong { offset }),
        "error" => Some(Frame::Error { message: raw.message }),
        "alert" => bail!("an alert frame that is not written as expected: {:.200}", text.as_str()),
        _ => None,
    })
}

/// Offset, and the event that caused it, of an `alert` frame.
pub fn alert(text: &[u8]) -> Option<(u64, Option<u128>)> {
    const CAUSE: &[u8] = br#""cause":"event:"#;
    /// The cause comes before the alert itself, notes of operators aside.
    const LOOK_BYTES: usize = 2_048;
    let rest = text.strip_prefix(br#"{"type":"alert","offset":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let offset = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let head = &rest[..rest.len().min(LOOK_BYTES)];
    let at = head.windows(CAUSE.len()).position(|window| window == CAUSE);
    let cause = at.and_then(|at| uuid(head.get(at + CAUSE.len()..at + CAUSE.len() + 36)?));
    Some((offset, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Frame> {
        frame(Message::text(text)).expect("a frame")
    }

    #[test]
    fn an_alert_is_read_without_its_alert() {
        let text = br#"{"type":"alert","offset":42,"change":{"transition":"raised","at":"x","actor":null,"note":null,"cause":"event:01a206b7-c2e0-8438-9321-4a9e5a7a95ed"},"alert":{}}"#;
        assert_eq!(alert(text), Some((42, Some(0x01a206b7c2e0843893214a9e5a7a95ed))));
        assert_eq!(
            alert(br#"{"type":"alert","offset":7,"change":{"cause":"action:9"},"alert":{}}"#),
            Some((7, None))
        );
        assert_eq!(alert(br#"{"type":"pong","offset":7}"#), None);
    }

    #[test]
    fn other_frames_are_read_as_documented() {
        let hello = r#"{"type":"hello","session":"s","epoch":"e","offset":41,"server_time":"x"}"#;
        assert_eq!(parsed(hello), Some(Frame::Hello { epoch: "e".into(), offset: 41 }));
        let snapshot =
            r#"{"type":"snapshot","id":"a","offset":3,"alerts":[{"alert_id":"9"},{"alert_id":"1"}]}"#;
        let alerts = vec!["1".to_string(), "9".to_string()];
        assert_eq!(parsed(snapshot), Some(Frame::Snapshot { offset: 3, alerts, truncated: false }));
        assert_eq!(parsed(r#"{"type":"gap","from":1,"to":3}"#), Some(Frame::Gap));
        assert_eq!(parsed(r#"{"type":"vitals","device_sn":"x"}"#), None);
        assert!(frame(Message::text("no")).is_err());
    }
}
