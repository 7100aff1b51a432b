//! One keep-alive HTTP/1.1 connection, one request at a time.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEADERS_MAX: usize = 32;
/// An answer fits; there may be ten thousand connections.
const BUFFER_BYTES: usize = 2 * 1024;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// Borrowed from the connection until its next request.
#[derive(Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// 200 with `"success":true`: what a watch or a phone takes for success.
    pub fn is_success(&self) -> bool {
        const SUCCESS: &[u8] = br#""success":true"#;
        self.status == 200 && self.body.windows(SUCCESS.len()).any(|window| window == SUCCESS)
    }
}

impl Connection {
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(BUFFER_BYTES) })
    }

    /// Whether the server has closed it, or has said something unasked, as before it closes an idle
    /// one. Costs no system call while nothing has come.
    pub fn is_stale(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        !read.is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a whole request and reads the whole answer. After an error the connection is of no
    /// more use.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        while self.buffer.len() < head.end {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if self.buffer.len() > head.end {
            return Err(invalid("more bytes than the answer has"));
        }
        Ok(Answer { status: head.status, body: &self.buffer[head.body_at..head.end] })
    }

    /// GET of a path, without a token.
    pub async fn get(&mut self, path: &str) -> io::Result<Answer<'_>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.stream.peer_addr()?);
        self.exchange(request.as_bytes()).await
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body_at: usize,
    end: usize,
}

impl Head {
    /// `None` if it has not arrived whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|err| invalid(&err.to_string()))?;
        let (httparse::Status::Complete(body_at), Some(status)) = (parsed, response.code) else {
            return Ok(None);
        };
        // An answer without content has no length.
        if status == 204 {
            return Ok(Some(Self { status, body_at, end: body_at }));
        }
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
            .filter(|length| *length <= ANSWER_BYTES_MAX)
            .ok_or_else(|| invalid("an answer without a usable content-length"))?;
        Ok(Some(Self { status, body_at, end: body_at + length }))
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn success_is_200_and_says_so() {
        let success = |status, body: &[u8]| Answer { status, body }.is_success();
        assert!(success(200, br#"{"status":"success","success":true}"#));
        assert!(!success(200, br#"{"success":false}"#));
        assert!(!success(503, br#"{"success":true}"#));
    }

    #[test]
    fn a_head_is_waited_for_and_needs_a_length() {
        let whole = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(Head::parse(&whole[..20]).expect("a part"), None);
        let head = Head::parse(whole).expect("a head").expect("a whole head");
        assert_eq!(head, Head { status: 503, body_at: whole.len(), end: whole.len() + 2 });
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        let head = Head::parse(empty).expect("a head").expect("a whole head");
        assert_eq!(head, Head { status: 204, body_at: empty.len(), end: empty.len() });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together_and_the_connection_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            for body in ["first", "other"] {
                let mut request = [0; 64];
                assert!(stream.read(&mut request).await.expect("a request") > 0);
                let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}");
                for piece in text.as_bytes().chunks(7) {
                    stream.write_all(piece).await.expect("a write");
                    tokio::task::yield_now().await;
                }
            }
        };
        let ask = async {
            let mut connection = Connection::open(addr).await.expect("a connection");
            for body in ["first", "other"] {
                let answer = connection.get("/").await.expect("an answer");
                assert_eq!((answer.status, answer.body), (200, body.as_bytes()));
                assert!(body == "other" || !connection.is_stale());
            }
            // The server is gone now.
            connection.stream.readable().await.expect("news");
            assert!(connection.is_stale());
            assert!(connection.get("/").await.is_err());
        };
        let served = async {
            serve.await;
        };
        let ((), ()) = tokio::join!(served, ask);
    }
}
