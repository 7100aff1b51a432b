//! The dashboards of a run: one thread, a task each, all subscribed to critical alerts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;

use super::live::Live;
use super::scenario::{Behaviour, Screens};
use super::socket::{self, Frame, Socket, alert, frame};

/// Dashboards that connect at the same time, at the start.
const CONNECTING_MAX: usize = 32;
const FIRST_SNAPSHOT_WITHIN: Duration = Duration::from_secs(30);
/// After a connection that could not be made.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// At the end, between two questions how far the server has got.
const PING_EVERY: Duration = Duration::from_millis(100);

/// What a dashboard got over its life, over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Number of the group in the scenario.
    pub group: usize,
    /// Of its first snapshot: it must get what comes after.
    pub from_offset: u64,
    /// In the order of arrival.
    pub seen: Vec<Seen>,
    pub gaps: Vec<Gap>,
    /// The server said that everything up to here has been sent.
    pub complete_to: u64,
    /// Of the database that the offsets belong to.
    pub epoch: String,
    pub connections: u32,
    /// Close codes of the server; 0 is a connection that broke.
    pub closes: HashMap<u16, u32>,
    /// What the server must never do, in words.
    pub faults: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub offset: u64,
    /// Since the start of the run.
    pub at_ns: u64,
    /// Not missed and sent later after a reconnect.
    pub live: bool,
}

/// What a snapshot stood for instead of single changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gap {
    /// After this offset, up to and including the other.
    pub after: u64,
    pub to: u64,
    /// Ids of the open alerts in the snapshot, sorted.
    pub alerts: Vec<String>,
    pub truncated: bool,
}

/// What all dashboards of a run come to.
#[derive(Debug, Default)]
pub struct Watched {
    pub lives: Vec<Life>,
    /// Offset to the event that caused the change, as the frames said.
    pub causes: HashMap<u64, u128>,
}

#[derive(Clone)]
pub struct Door {
    pub server: SocketAddr,
    pub token: String,
}

pub struct ScreensPlan {
    pub door: Door,
    pub groups: Vec<Screens>,
    pub live: Arc<Live>,
    pub ready: oneshot::Sender<()>,
    pub start: oneshot::Receiver<Instant>,
    /// An offset: from then on every dashboard stays, and ends when it has had everything up to it.
    pub finish: watch::Receiver<Option<u64>>,
}

struct Shared {
    door: Door,
    live: Arc<Live>,
    causes: RefCell<HashMap<u64, u128>>,
    finish: watch::Receiver<Option<u64>>,
}

/// Runs until every dashboard has all, or nobody waits for it any more.
pub fn run_screens(plan: ScreensPlan) -> anyhow::Result<Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(plan))
}

async fn run(plan: ScreensPlan) -> anyhow::Result<Watched> {
    let shared =
        Rc::new(Shared { door: plan.door, live: plan.live, causes: RefCell::default(), finish: plan.finish });
    let groups = &plan.groups;
    let all = groups.iter().enumerate().flat_map(|(group, screens)| (0..screens.count).map(move |_| group));
    let opened = futures_util::stream::iter(all)
        .map(|group| first_connection(&shared, group, &groups[group]))
        .buffered(CONNECTING_MAX);
    let opened: Vec<anyhow::Result<(Socket, Life)>> = opened.collect().await;
    let opened = opened.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    plan.ready.send(()).map_err(|()| anyhow::anyhow!("nobody waits for the dashboards"))?;
    let start = plan.start.await.context("the run was given up before it began")?;
    let total = opened.len().max(1) as f64;
    let tasks: Vec<_> = opened
        .into_iter()
        .enumerate()
        .map(|(index, (socket, life))| {
            let screens = groups[life.group].clone();
            let screen = Screen { shared: shared.clone(), start, share: index as f64 / total, screens, life };
            tokio::task::spawn_local(screen.live(socket))
        })
        .collect();
    let mut watched = Watched::default();
    for task in tasks {
        watched.lives.push(task.await.context("a dashboard died")?);
    }
    watched.causes = shared.causes.take();
    Ok(watched)
}

/// Connects and waits for the first snapshot.
async fn first_connection(
    shared: &Shared,
    group: usize,
    screens: &Screens,
) -> anyhow::Result<(Socket, Life)> {
    let first = async {
        let small = screens.behaviour == Behaviour::Stalled;
        let mut socket = socket::open(&shared.door, small).await?;
        socket.send(socket::subscribe(None)).await?;
        let mut life = Life { group, ..Life::default() };
        loop {
            match frame(socket.next().await.context("the server closed the stream")??)? {
                Some(Frame::Hello { epoch, .. }) => life.epoch = epoch,
                Some(Frame::Snapshot { offset, .. }) => {
                    (life.from_offset, life.complete_to) = (offset, offset);
                    return anyhow::Ok((socket, life));
                }
                Some(Frame::Error { message }) => bail!("the stream said: {message}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(FIRST_SNAPSHOT_WITHIN, first)
        .await
        .context("no snapshot came")?
        .context("a dashboard")
}

struct Screen {
    shared: Rc<Shared>,
    start: Instant,
    /// Where among all dashboards it is, 0 to 1: they do not drop all at once.
    share: f64,
    screens: Screens,
    life: Life,
}

enum End {
    Complete,
    /// It dropped the connection itself.
    Dropped,
    /// The server closed, or the connection broke.
    Lost,
    /// Nobody waits for it.
    GivenUp,
}

impl Screen {
    async fn live(mut self, first: Socket) -> Life {
        let mut next = Some(first);
        let mut stalls = self.screens.behaviour == Behaviour::Stalled;
        let mut first_session = true;
        loop {
            let socket = match next.take() {
                Some(socket) => Ok(socket),
                None => self.reconnect().await,
            };
            let Ok(socket) = socket else {
                if self.shared.finish.has_changed().is_err() {
                    return self.life;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            };
            self.life.connections += 1;
            self.shared.live.screens_connected.fetch_add(1, Relaxed);
            let end = self.session(socket, &mut stalls, first_session).await;
            self.shared.live.screens_connected.fetch_sub(1, Relaxed);
            first_session = false;
            match end {
                End::Complete | End::GivenUp => return self.life,
                End::Dropped => tokio::time::sleep(Duration::from_secs_f64(self.screens.away_s)).await,
                End::Lost => {}
            }
        }
    }

    async fn reconnect(&self) -> anyhow::Result<Socket> {
        let small = self.screens.behaviour == Behaviour::Stalled;
        let mut socket = socket::open(&self.shared.door, small).await?;
        socket.send(socket::subscribe(Some((&self.life.epoch, self.last_offset())))).await?;
        Ok(socket)
    }

    fn last_offset(&self) -> u64 {
        self.life
            .seen
            .last()
            .map_or(0, |seen| seen.offset)
            .max(self.life.complete_to)
            .max(self.life.from_offset)
    }

    async fn session(&mut self, mut socket: Socket, stalls: &mut bool, first: bool) -> End {
        let mut finish = self.shared.finish.clone();
        finish.mark_unchanged();
        let mut target = *finish.borrow();
        let at = |seconds: f64| self.start + Duration::from_secs_f64(seconds);
        let reconnects = self.screens.behaviour == Behaviour::Reconnect;
        let drop_after = match first {
            true => at(self.screens.every_s * (0.5 + self.share)),
            false => Instant::now() + Duration::from_secs_f64(self.screens.every_s),
        };
        let leave = tokio::time::sleep_until(drop_after.into());
        let stall = tokio::time::sleep_until(at(self.screens.from_s).into());
        let mut ask = tokio::time::interval(PING_EVERY);
        tokio::pin!(leave, stall);
        // Changes up to here were missed while it was away.
        let mut missed_to = if first { 0 } else { u64::MAX };
        let mut gap = false;
        loop {
            tokio::select! {
                message = socket.next() => {
                    let at_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    let message = match message {
                        Some(Ok(Message::Close(close))) => {
                            let code = close.map_or(0, |close| u16::from(close.code));
                            *self.life.closes.entry(code).or_default() += 1;
                            return End::Lost;
                        }
                        Some(Ok(message)) => message,
                        Some(Err(_)) | None => {
                            *self.life.closes.entry(0).or_default() += 1;
                            return End::Lost;
                        }
                    };
                    if let Message::Text(text) = &message
                        && let Some((offset, cause)) = alert(text.as_bytes())
                    {
                        self.life.seen.push(Seen { offset, at_ns, live: offset > missed_to });
                        self.shared.live.pushes.fetch_add(1, Relaxed);
                        if let Some(cause) = cause {
                            self.shared.causes.borrow_mut().entry(offset).or_insert(cause);
                        }
                        continue;
                    }
                    match frame(message) {
                        Ok(Some(Frame::Hello { epoch: new, offset })) => {
                            if new != self.life.epoch {
                                self.life.faults.push(format!("the epoch changed to {new}"));
                            }
                            missed_to = offset;
                        }
                        Ok(Some(Frame::Gap)) => gap = true,
                        Ok(Some(Frame::Snapshot { offset, alerts, truncated })) => {
                            if !gap {
                                self.life.faults.push(format!("a snapshot without a gap at offset {offset}"));
                            }
                            let after = self.last_offset();
                            self.life.gaps.push(Gap { after, to: offset, alerts, truncated });
                            self.life.complete_to = self.life.complete_to.max(offset);
                            missed_to = missed_to.min(offset);
                        }
                        Ok(Some(Frame::Pong { offset })) => {
                            self.life.complete_to = self.life.complete_to.max(offset);
                            if target.is_some_and(|target| offset >= target) {
                                // The close is a courtesy.
                                let _ = socket.close(None).await;
                                return End::Complete;
                            }
                        }
                        Ok(Some(Frame::Error { message })) => self.life.faults.push(message),
                        Ok(None) => {}
                        Err(err) => self.life.faults.push(format!("{err:#}")),
                    }
                }
                changed = finish.changed() => {
                    if changed.is_err() {
                        return End::GivenUp;
                    }
                    target = *finish.borrow_and_update();
                }
                _ = ask.tick(), if target.is_some() => {
                    if socket.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
                        return End::Lost;
                    }
                }
                () = &mut leave, if reconnects && target.is_none() => return End::Dropped,
                () = &mut stall, if *stalls => {
                    *stalls = false;
                    tokio::time::sleep(Duration::from_secs_f64(self.screens.for_s)).await;
                }
            }
        }
    }
}
