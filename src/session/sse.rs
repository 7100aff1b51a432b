//! The door of a session for clients that only read: server-sent events.
//!
//! Registry, ring and limits are those of a socket. A frame that a client may resume behind carries
//! `id: epoch:offset`, which browsers and libraries send back as `Last-Event-ID`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, sink, stream};
use tokio::sync::mpsc;

use super::actor::start;
use super::delivery::Farewell;
use super::deps::SessionDeps;
use super::inbound::{Opening, Received, SignedIn};
use super::outbound::SocketFrame;
use super::slots::SessionSlot;
use crate::domain::ids::Offset;
use crate::domain::owner::Caller;

/// Events between the session and the response body, as many as a socket has frames.
const EVENTS_MAX: usize = 32;
/// Beyond it a piece is not made larger.
const PIECE_BYTES: usize = 256 * 1024;
/// A client that has lost its connection comes back after this, and up to as long again, milliseconds:
/// after a restart they do not come all at once.
const RETRY_MS: u64 = 1_000;

/// The body of the answer that opens a session. What is due together leaves in one piece; when the
/// client does not take it, nothing more is buffered, and the session closes like that of a socket.
pub fn events(
    deps: &Arc<SessionDeps>,
    slot: Arc<SessionSlot>,
    caller: Caller,
    revocations: u64,
    opening: Opening,
) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + 'static, getrandom::Error> {
    let (to_body, body) = mpsc::channel::<Bytes>(EVENTS_MAX);
    let (watched, place) = (to_body.clone(), to_body.clone().try_reserve_owned());
    let goodbye = Box::new(|farewell| {
        if let Ok(place) = place {
            place.send(closing(farewell));
        }
    });
    // Ends when the body is dropped, whatever is being written.
    let gone = stream::once(async move {
        watched.closed().await;
        Received::End(Farewell::GONE)
    });
    let text = EventText { epoch: deps.epoch.get(), last: 0 };
    let sink = sink::unfold((to_body, text), |(to_body, mut text), frame| async move {
        to_body.send(text.of(frame)).await?;
        Ok::<_, mpsc::error::SendError<Bytes>>((to_body, text))
    });
    let signed_in = SignedIn { caller, revocations };
    start(deps, slot, Some(signed_in), Some(opening), gone, Box::pin(sink), goodbye)?;
    let mut random = [0u8; 2];
    getrandom::fill(&mut random)?;
    let retry = RETRY_MS + RETRY_MS * u64::from(u16::from_le_bytes(random)) / u64::from(u16::MAX);
    let first = Bytes::from(format!("retry: {retry}\n\n"));
    Ok(stream::unfold((Some(first), body), |(first, mut body)| async move {
        let next = match first {
            Some(first) => first,
            None => body.recv().await?,
        };
        Some((Ok(with_what_is_due(next, &mut body)), (None, body)))
    }))
}

/// What waits, in one piece of at least [`PIECE_BYTES`] if there is as much.
fn with_what_is_due(first: Bytes, body: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let Ok(second) = body.try_recv() else { return first };
    let mut piece = BytesMut::from(first);
    piece.extend_from_slice(&second);
    while piece.len() < PIECE_BYTES
        && let Ok(next) = body.try_recv()
    {
        piece.extend_from_slice(&next);
    }
    piece.freeze()
}

/// Frames as events.
struct EventText {
    epoch: Arc<str>,
    /// The largest offset that the client has been told: an id never goes back.
    last: Offset,
}

impl EventText {
    fn of(&mut self, frame: SocketFrame) -> Bytes {
        match frame {
            SocketFrame::Text(text) => format!("data: {text}\n\n"),
            SocketFrame::Upto(offset, text) => {
                self.last = offset;
                format!("id: {}:{offset}\ndata: {text}\n\n", self.epoch)
            }
            // Without data it is no event, but it moves the place to resume from.
            SocketFrame::Ping(offset) if offset > self.last => {
                self.last = offset;
                format!(": heartbeat\nid: {}:{offset}\n\n", self.epoch)
            }
            SocketFrame::Ping(_) | SocketFrame::Pong(_) => ": heartbeat\n\n".into(),
        }
        .into()
    }
}

fn closing(Farewell { code, text, .. }: Farewell) -> Bytes {
    let close = serde_json::json!({ "type": "close", "code": code, "reason": text });
    format!("data: {close}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_to_resume_and_never_goes_back() {
        let mut text = EventText { epoch: "e".into(), last: 0 };
        let mut of = |frame| String::from_utf8(text.of(frame).to_vec()).unwrap();
        assert_eq!(of(SocketFrame::Ping(0)), ": heartbeat\n\n");
        assert_eq!(of(SocketFrame::Upto(7, "{}".into())), "id: e:7\ndata: {}\n\n");
        assert_eq!(of(SocketFrame::Ping(5)), ": heartbeat\n\n");
        assert_eq!(of(SocketFrame::Ping(9)), ": heartbeat\nid: e:9\n\n");
        assert_eq!(of(SocketFrame::Text("{}".into())), "data: {}\n\n");
    }

    #[test]
    fn what_is_due_together_leaves_in_one_piece() {
        let (to_body, mut body) = mpsc::channel(EVENTS_MAX);
        for number in 0..EVENTS_MAX {
            to_body.try_send(Bytes::from(format!("{number},"))).unwrap();
        }
        let first = body.try_recv().unwrap();
        let piece = with_what_is_due(first, &mut body);
        let numbers: Vec<String> = (0..EVENTS_MAX).map(|number| format!("{number},")).collect();
        assert_eq!(piece, numbers.concat());
        assert!(body.try_recv().is_err());
    }
}
