//! One watch by the real clock, over HTTP/1.1 with kept connections.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::exchange::{Answer, Request, RequestId};
use crate::watch::Watch;

/// Connections that a watch keeps without using them, as its HTTP library does.
const IDLE_CONNECTIONS_MAX: usize = 5;
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES: usize = 2 * 1024;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The watch is looked after at least this often.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub server: SocketAddr,
    /// What the clock shows at the beginning, in milliseconds since 1970.
    pub start_ms: i64,
    /// How many seconds of the watch's rhythm pass in a second. Timeouts are those of the real clock.
    /// At most 1,000; anything that is not above 0 means 1.
    pub speed: f64,
}

/// Lets a watch run until `until` ends, and hands it back. Requests that are under way then are
/// abandoned. Spawns a task per request, so it needs a tokio runtime with I/O and time.
pub async fn run(mut watch: Watch, options: Options, until: impl Future<Output = ()>) -> Watch {
    let speed = if options.speed > 0.0 { options.speed.min(1_000.0) } else { 1.0 };
    let begun = Instant::now();
    let now_ms = || options.start_ms + (begun.elapsed().as_secs_f64() * 1_000.0 * speed) as i64;
    let mut until = pin!(until);
    let mut idle: Vec<Connection> = Vec::new();
    let mut requests: JoinSet<(RequestId, Answer, Option<Connection>)> = JoinSet::new();
    loop {
        watch.advance(now_ms());
        while let Some(request) = watch.next_request() {
            idle.retain(Connection::is_open);
            requests.spawn(exchange(request, idle.pop(), options.server));
        }
        let wait_ms = watch.wakes_at().saturating_sub(now_ms()).max(0) as f64 / speed;
        let wait = Duration::from_secs_f64(wait_ms / 1_000.0 + 0.001).min(SLEEP_MAX);
        tokio::select! {
            () = &mut until => return watch,
            Some(done) = requests.join_next() => {
                // A request that panicked has no answer; that would be a bug of this file.
                let (id, answer, connection) = done.expect("a request does not panic");
                idle.extend(connection.filter(|_| idle.len() < IDLE_CONNECTIONS_MAX));
                watch.answer(now_ms(), id, &answer);
            }
            () = sleep(wait) => {}
        }
    }
}

async fn exchange(
    request: Request,
    kept: Option<Connection>,
    server: SocketAddr,
) -> (RequestId, Answer, Option<Connection>) {
    let bytes = request.to_http(&server.to_string());
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let done = timeout(wait, async {
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(server).await?,
        };
        let (answer, is_kept) = connection.exchange(&bytes).await?;
        io::Result::Ok((answer, is_kept.then_some(connection)))
    });
    match done.await {
        Ok(Ok((answer, connection))) => (request.id, answer, connection),
        Ok(Err(_)) | Err(_) => (request.id, Answer::Failed, None),
    }
}

/// A kept connection, one request at a time.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(BUFFER_BYTES) })
    }

    /// False if the server has closed it, or sent something that nobody asked for.
    fn is_open(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock)
    }

    /// The answer, and whether the connection can be used again.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<(Answer, bool)> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        let end = head.body_at + head.length;
        while self.buffer.len() < end {
            self.read().await?;
        }
        let body = self.buffer[head.body_at..end].to_vec();
        let is_kept = head.is_kept && self.buffer.len() == end;
        Ok((Answer::Status { status: head.status, body }, is_kept))
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if self.buffer.len() > ANSWER_BYTES_MAX => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        }
    }
}

struct Head {
    status: u16,
    body_at: usize,
    length: usize,
    is_kept: bool,
}

impl Head {
    /// `None` if it has not arrived whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(io::Error::other)?;
        let (httparse::Status::Complete(body_at), Some(status)) = (parsed, response.code) else {
            return Ok(None);
        };
        let text = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let length = text("content-length").and_then(|length| length.parse().ok());
        let length = length.filter(|length| *length <= ANSWER_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("an answer without a usable length"))?;
        let is_kept = !text("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(Some(Self { status, body_at, length, is_kept }))
    }
}
