//! Stands between the server and PostgreSQL, and cuts, stalls and slows what passes. It reads the
//! messages of PostgreSQL's protocol, so it knows a COMMIT when it sees one; TLS it does not read.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// Asked before the start of a session: for TLS, and for encryption by GSS.
const ASKS_FIRST: [u32; 2] = [80_877_103, 80_877_104];
/// No message of a test is longer, bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Whatever is open is cut, and who comes anew is cut off at once.
    Cut,
    /// Nothing passes and nobody is told.
    Stalled,
}

struct Inner {
    way: Way,
    stop: bool,
    /// The answer to a COMMIT of a transaction that has written is held back so long.
    commit_takes: Duration,
    /// So many more such answers are lost together with their connections.
    answers_to_lose: u64,
    answers_lost: u64,
    commits: u64,
    open: Vec<Arc<Link>>,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    server: SocketAddr,
}

/// One connection, both halves of it.
struct Link {
    client: TcpStream,
    server: TcpStream,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    /// The transaction has changed rows.
    wrote: bool,
    hold_until: Option<Instant>,
    lose_answer: bool,
}

/// On a free port of the loopback. Ended when dropped, with everything that it carries.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a server on this port of the loopback.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let inner = Inner {
            way: Way::Open,
            stop: false,
            commit_takes: Duration::ZERO,
            answers_to_lose: 0,
            answers_lost: 0,
            commits: 0,
            open: Vec::new(),
        };
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new(), server });
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || theirs.accept(&listener));
        Self { addr, shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn set(&self, way: Way) {
        let mut inner = self.shared.inner();
        inner.way = way;
        if way == Way::Cut {
            inner.cut();
        }
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// From now on a COMMIT of what has written is answered so much later.
    pub fn commits_take(&self, time: Duration) {
        self.shared.inner().commit_takes = time;
    }

    /// The next `count` COMMITs of what has written arrive, and nobody is told of their end.
    pub fn lose_answers(&self, count: u64) {
        self.shared.inner().answers_to_lose = count;
    }

    /// Answers lost so far.
    pub fn answers_lost(&self) -> u64 {
        self.shared.inner().answers_lost
    }

    /// Waits until so many more transactions that have written were sent their COMMIT.
    pub fn until_commits(&self, more: u64) {
        let begun = Instant::now();
        let mut inner = self.shared.inner();
        let wanted = inner.commits + more;
        while inner.commits < wanted {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "{more} transactions end within {DEADLINE:?}");
            inner = self.shared.changed.wait_timeout(inner, left).expect("no panic").0;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut inner = self.shared.inner();
            inner.stop = true;
            inner.cut();
        }
        self.shared.changed.notify_all();
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn cut(&mut self) {
        self.open.drain(..).for_each(|link| link.cut());
    }
}

impl Link {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().expect("no panic")
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            if self.inner().stop {
                return;
            }
            // A server that is away is away for the client too: its connection ends.
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else { continue };
            let link = Arc::new(Link { client, server, state: Mutex::default() });
            {
                let mut inner = self.inner();
                if inner.way == Way::Cut {
                    link.cut();
                    continue;
                }
                inner.open.push(link.clone());
            }
            let shared = self.clone();
            std::thread::spawn(move || shared.carry(&link));
        }
    }

    /// Waits while nothing passes; `None` if the end has come.
    fn pass(&self) -> Option<()> {
        let mut inner = self.inner();
        while inner.way == Way::Stalled && !inner.stop {
            inner = self.changed.wait(inner).expect("no panic");
        }
        (inner.way == Way::Open && !inner.stop).then_some(())
    }

    fn carry(self: Arc<Self>, link: &Arc<Link>) {
        let (Ok(client), Ok(server)) = (link.client.try_clone(), link.server.try_clone()) else { return };
        let (mut client, mut server) = (BufReader::new(client), BufReader::new(server));
        if self.begin(link, &mut client, &mut server).is_some() {
            let (shared, theirs) = (self.clone(), link.clone());
            let answers = std::thread::spawn(move || {
                shared.answers(&theirs, &mut server);
                theirs.cut();
            });
            self.requests(link, &mut client);
            link.cut();
            let _ = answers.join();
        }
        link.cut();
        self.inner().open.retain(|open| !Arc::ptr_eq(open, link));
    }

    /// The start of a session, in which each side waits for the other.
    fn begin(
        &self,
        link: &Link,
        client: &mut BufReader<TcpStream>,
        server: &mut BufReader<TcpStream>,
    ) -> Option<()> {
        loop {
            let mut message = vec![0; 4];
            client.read_exact(&mut message).ok()?;
            read_rest(client, &mut message, 0)?;
            self.pass()?;
            (&link.server).write_all(&message).ok()?;
            let code = message.get(4..8).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
            if !ASKS_FIRST.contains(&code?) {
                return Some(());
            }
            let mut answer = [0];
            server.read_exact(&mut answer).ok()?;
            (&link.client).write_all(&answer).ok()?;
        }
    }

    fn requests(&self, link: &Link, client: &mut BufReader<TcpStream>) -> Option<()> {
        let mut message = Vec::new();
        loop {
            read_message(client, &mut message)?;
            if message[0] == b'Q' && message[5..].eq_ignore_ascii_case(b"COMMIT\0") {
                self.commit(link);
            }
            self.pass()?;
            (&link.server).write_all(&message).ok()?;
        }
    }

    fn commit(&self, link: &Link) {
        let (mut inner, mut state) = (self.inner(), link.state());
        if !std::mem::take(&mut state.wrote) {
            return;
        }
        inner.commits += 1;
        self.changed.notify_all();
        if inner.answers_to_lose > 0 {
            inner.answers_to_lose -= 1;
            inner.answers_lost += 1;
            state.lose_answer = true;
        }
        state.hold_until = (!inner.commit_takes.is_zero()).then(|| Instant::now() + inner.commit_takes);
    }

    fn answers(&self, link: &Link, server: &mut BufReader<TcpStream>) -> Option<()> {
        let mut message = Vec::new();
        loop {
            read_message(server, &mut message)?;
            let (hold_until, lose) = {
                let mut state = link.state();
                state.wrote |= changes_rows(&message);
                (state.hold_until.take(), std::mem::take(&mut state.lose_answer))
            };
            if lose {
                return None;
            }
            if let Some(until) = hold_until {
                self.hold(until)?;
            }
            self.pass()?;
            (&link.client).write_all(&message).ok()?;
        }
    }

    /// Waits until then, unless the end comes before.
    fn hold(&self, until: Instant) -> Option<()> {
        let mut inner = self.inner();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if inner.stop || inner.way == Way::Cut {
                return None;
            }
            inner = self.changed.wait_timeout(inner, left).expect("no panic").0;
        }
        Some(())
    }
}

/// A letter, a length that counts itself, and the rest.
fn read_message(from: &mut BufReader<TcpStream>, message: &mut Vec<u8>) -> Option<()> {
    message.resize(5, 0);
    from.read_exact(message).ok()?;
    read_rest(from, message, 1)
}

/// What the length at `at` says is still to come.
fn read_rest(from: &mut BufReader<TcpStream>, message: &mut Vec<u8>, at: usize) -> Option<()> {
    let length = u32::from_be_bytes(message[at..at + 4].try_into().ok()?) as usize;
    assert!((4..MESSAGE_BYTES_MAX).contains(&length), "a message of {length} bytes");
    let read = message.len();
    message.resize(at + length, 0);
    from.read_exact(&mut message[read..]).ok()
}

/// The end of a statement that has changed rows, for example `INSERT 0 5`.
fn changes_rows(message: &[u8]) -> bool {
    let Some(tag) = message.strip_prefix(b"C").and_then(|rest| rest.get(4..)) else { return false };
    [&b"INSERT"[..], b"UPDATE", b"DELETE"].iter().any(|word| tag.starts_with(word)) && !tag.ends_with(b" 0\0")
}
