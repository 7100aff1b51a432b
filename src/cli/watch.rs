//! `watchpost watch`: the stream in a terminal, or as lines of JSON for a script.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use awc::error::WsClientError;
use awc::http::StatusCode;
use awc::ws::{Frame, Message};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;

use super::client::{CliError, Client, ServerArgs};
use super::watch_line::{Said, line, printable};
use crate::domain::alert::{Alert, Outcome, Transition};
use crate::domain::ids::{AlertId, Offset};
use crate::domain::rule::Severity;

/// A snapshot of all open alerts is one frame.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The server pings every 15 s by default; a connection that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const BACK_OFF_START: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// Show the stream of alerts in this terminal
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub options: WatchOptions,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct WatchOptions {
    /// End after the open alerts and this many changes
    #[arg(long, value_name = "N")]
    pub once: Option<usize>,
    /// Print the frames as they come, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only alerts of this severity and worse: info, low, medium, high, critical
    #[arg(long, value_parser = severity, value_name = "SEVERITY")]
    pub min_severity: Option<Severity>,
    /// Only these devices; may be given several times
    #[arg(long, value_name = "SERIAL")]
    pub device: Vec<String>,
}

fn severity(text: &str) -> Result<Severity, String> {
    let names = || Severity::ALL.map(Severity::name).join(", ");
    Severity::from_name(text).ok_or_else(|| format!("one of {}", names()))
}

/// Why watching ended although nobody asked for it. Anything else is tried again.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Client(#[from] CliError),
    #[error("{0} is not a URL such as http://127.0.0.1:5001")]
    Url(String),
    #[error("the server does not accept the token; check --token, or the admin.token in its data directory")]
    Token,
    #[error("the server says: {0}")]
    Refused(String),
    #[error("write to the terminal: {0}")]
    Output(#[from] std::io::Error),
}

/// Why one connection ended.
enum End {
    /// All that was asked for has been printed.
    Done,
    Lost(String),
}

/// The frames that are read; others are passed over.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Incoming {
    Hello {
        epoch: String,
        offset: Offset,
    },
    Snapshot {
        offset: Offset,
        #[serde(default)]
        truncated: bool,
        alerts: Vec<Alert>,
    },
    Alert {
        offset: Offset,
        change: Change,
        alert: Box<Alert>,
    },
    /// Acknowledged, and not stored yet.
    Pending {
        acknowledged: Vec<InHand>,
    },
    Gap {
        from: Offset,
        to: Offset,
    },
    Error {
        code: String,
        message: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct InHand {
    alert_id: AlertId,
    acknowledged_by: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    transition: Transition,
    actor: Option<String>,
    note: Option<String>,
    outcome: Option<Outcome>,
}

struct Watcher<'a, W> {
    options: &'a WatchOptions,
    out: W,
    color: bool,
    /// Where to resume: epoch and offset.
    since: Option<(String, Offset)>,
    /// Of the present connection.
    epoch: String,
    /// What is acknowledged and not stored, as this connection was told last.
    pending: HashSet<AlertId>,
    /// Changes printed.
    seen: usize,
    back_off: Duration,
}

/// The command: finds server and token as the other commands do.
pub async fn run(args: &WatchArgs, env: impl Fn(&str) -> Option<String>) -> Result<(), WatchError> {
    let client = Client::connect(&args.server, env)?;
    watch(client.url(), client.token(), &args.options).await
}

/// Prints until interrupted, until `once` is reached, or until the server refuses. Reconnects and
/// resumes where it stopped. Needs an actix system.
pub async fn watch(url: &str, token: &str, options: &WatchOptions) -> Result<(), WatchError> {
    let color = std::io::stdout().is_terminal() && !options.json;
    watch_into(std::io::stdout(), color, url, token, options).await
}

/// The same into any writer.
pub async fn watch_into(
    out: impl Write,
    color: bool,
    url: &str,
    token: &str,
    options: &WatchOptions,
) -> Result<(), WatchError> {
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(WatchError::Url(url.into()));
    }
    let stream = format!("{}/api/v1/stream", url.trim_end_matches('/'));
    let (since, epoch) = (None, String::new());
    let (pending, back_off) = (HashSet::new(), BACK_OFF_START);
    let mut watcher = Watcher { options, out, color, since, epoch, pending, seen: 0, back_off };
    loop {
        let reason = match watcher.connection(&stream, token).await? {
            End::Done => return Ok(()),
            End::Lost(reason) => reason,
        };
        let wait = jittered(watcher.back_off);
        watcher.back_off = (watcher.back_off * 2).min(BACK_OFF_MAX);
        eprintln!("DISCONNECTED: {}; trying again in {:.1} s", printable(&reason), wait.as_secs_f64());
        tokio::time::sleep(wait).await;
    }
}

impl<W: Write> Watcher<'_, W> {
    async fn connection(&mut self, url: &str, token: &str) -> Result<End, WatchError> {
        let request = awc::Client::new().ws(url).max_frame_size(FRAME_BYTES_MAX);
        let request = request.header("authorization", format!("Bearer {token}"));
        let (_, mut socket) = match request.connect().await {
            Ok(connected) => connected,
            Err(WsClientError::InvalidResponseStatus(StatusCode::UNAUTHORIZED)) => {
                return Err(WatchError::Token);
            }
            Err(err) => return Ok(End::Lost(err.to_string())),
        };
        let mut subscribe = json!({"type": "subscribe", "id": "watch", "filter": self.filter()});
        if let Some((epoch, offset)) = &self.since {
            subscribe["since"] = json!({"epoch": epoch, "offset": offset});
        }
        if let Err(err) = socket.send(Message::Text(subscribe.to_string().into())).await {
            return Ok(End::Lost(err.to_string()));
        }
        loop {
            let frame = match tokio::time::timeout(SILENCE_MAX, socket.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(err))) => return Ok(End::Lost(err.to_string())),
                Ok(None) => return Ok(End::Lost("the connection ended".into())),
                Err(_) => return Ok(End::Lost("the server is silent".into())),
            };
            match frame {
                Frame::Text(text) if self.print(&String::from_utf8_lossy(&text))? => return Ok(End::Done),
                Frame::Ping(payload) => {
                    if let Err(err) = socket.send(Message::Pong(payload)).await {
                        return Ok(End::Lost(err.to_string()));
                    }
                }
                Frame::Close(reason) => {
                    let text = reason.and_then(|reason| reason.description);
                    return Ok(End::Lost(text.unwrap_or_else(|| "closed by the server".into())));
                }
                _ => {}
            }
        }
    }

    fn filter(&self) -> serde_json::Value {
        let mut filter = json!({});
        if let Some(least) = self.options.min_severity {
            filter["min_severity"] = json!(least);
        }
        if !self.options.device.is_empty() {
            filter["devices"] = json!(self.options.device);
        }
        filter
    }

    /// True when everything that was asked for has been printed.
    fn print(&mut self, text: &str) -> Result<bool, WatchError> {
        if self.options.json {
            writeln!(self.out, "{text}")?;
        }
        let Ok(frame) = serde_json::from_str::<Incoming>(text) else {
            // From a newer server; it is in the output if JSON was asked for.
            return Ok(false);
        };
        match frame {
            Incoming::Hello { epoch, offset } => {
                self.back_off = BACK_OFF_START;
                self.epoch = epoch;
                self.pending.clear();
                self.say(&format!("connected at offset {offset}"))?;
            }
            Incoming::Snapshot { offset, truncated, alerts } => {
                self.since = Some((self.epoch.clone(), offset));
                let rest = if truncated { " (the least severe are left out)" } else { "" };
                self.say(&format!("{} open alerts{rest}", alerts.len()))?;
                for alert in &alerts {
                    let said = Said { what: alert.state.name(), ..Said::default() };
                    self.say(&line(alert, said, self.color))?;
                }
            }
            Incoming::Alert { offset, change, alert } => {
                self.since = Some((self.epoch.clone(), offset));
                self.seen += 1;
                let Change { transition, actor, note, outcome } = &change;
                let (actor, note) = (actor.as_deref(), note.as_deref());
                let said = Said { what: transition.name(), actor, note, outcome: *outcome };
                self.say(&line(&alert, said, self.color))?;
            }
            Incoming::Pending { acknowledged } => {
                for InHand { alert_id, acknowledged_by } in &acknowledged {
                    let who = acknowledged_by.as_deref().unwrap_or("somebody");
                    if !self.pending.contains(alert_id) {
                        self.say(&printable(&format!("not stored yet: {who} has [{alert_id}]")))?;
                    }
                }
                self.pending = acknowledged.into_iter().map(|in_hand| in_hand.alert_id).collect();
            }
            // Another log, and nothing is in it yet.
            Incoming::Gap { from, to } if to < from => {}
            Incoming::Gap { from, to } => self.say(&format!("changes {from} to {to} were missed"))?,
            Incoming::Error { code, message } => {
                self.out.flush()?;
                return Err(WatchError::Refused(printable(&format!("{message} ({code})"))));
            }
            Incoming::Other => {}
        }
        self.out.flush()?;
        // A resume brings no snapshot, but then one has been printed before.
        Ok(self.since.is_some() && self.options.once.is_some_and(|once| self.seen >= once))
    }

    fn say(&mut self, text: &str) -> Result<(), WatchError> {
        if !self.options.json {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }
}

/// Half to all of it, so that terminals do not come back all at once.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0u8; 2];
    // Without random numbers it is only less spread out.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0)
}
