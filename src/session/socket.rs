//! The WebSocket door of a session. The only file that knows the socket library.
//!
//! actix-ws 0.4 takes one frame per call, but its `Session` is a `Sink` into a channel of 32 frames,
//! and the response body writes out all that is in the channel as one buffer. So frames that are
//! due together are fed one after the other and leave in one write.

use std::future::{poll_fn, ready};
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, CloseCode, CloseReason, ProtocolError};
use futures_util::{FutureExt, SinkExt, StreamExt};

use super::actor::start;
use super::delivery::Farewell;
use super::deps::SessionDeps;
use super::inbound::{Received, SignedIn};
use super::outbound::{Goodbye, SocketFrame};
use super::slots::SessionSlot;
use crate::domain::owner::Caller;

/// The HTTP answer that opens a session. The slot is held until its socket has been closed. Without
/// a caller the first frame must be `auth`. `revocations` is how many there were before the caller's
/// token was checked.
pub fn upgrade(
    request: &HttpRequest,
    payload: web::Payload,
    deps: &Arc<SessionDeps>,
    slot: Arc<SessionSlot>,
    caller: Option<Caller>,
    revocations: u64,
) -> Result<HttpResponse, actix_web::Error> {
    let (response, socket, frames) = actix_ws::handle(request, payload)?;
    let bytes_max = deps.config.client_frame_bytes_max;
    let frames = frames.max_frame_size(bytes_max).aggregate_continuations().max_continuation_size(bytes_max);
    let signed_in = caller.map(|caller| SignedIn { caller, revocations });
    let goodbye = goodbye(&socket);
    let sink = Box::pin(socket.with(|frame| ready(Ok::<_, actix_ws::Closed>(to_message(frame)))));
    start(deps, slot, signed_in, None, frames.map(received), sink, goodbye)
        .map_err(actix_web::error::ErrorServiceUnavailable)?;
    Ok(response)
}

/// Keeps a place in the channel, which is still empty.
fn goodbye(socket: &actix_ws::Session) -> Goodbye {
    let mut place = socket.clone();
    let kept = poll_fn(|context| place.poll_ready_unpin(context)).now_or_never();
    Box::new(move |farewell| {
        if let Some(Ok(())) = kept {
            // Whoever has gone does not ask why.
            let _ = place.start_send_unpin(to_close(farewell));
        }
    })
}

fn to_message(frame: SocketFrame) -> actix_ws::Message {
    match frame {
        SocketFrame::Text(text) | SocketFrame::Upto(_, text) => actix_ws::Message::Text(text),
        SocketFrame::Ping(_) => actix_ws::Message::Ping(web::Bytes::new()),
        SocketFrame::Pong(payload) => actix_ws::Message::Pong(payload),
    }
}

fn to_close(Farewell { code, text, .. }: Farewell) -> actix_ws::Message {
    let description = (!text.is_empty()).then(|| text.to_string());
    actix_ws::Message::Close(Some(CloseReason { code: CloseCode::from(code), description }))
}

fn received(message: Result<AggregatedMessage, ProtocolError>) -> Received {
    match message {
        Ok(AggregatedMessage::Text(text)) => Received::Text(text),
        Ok(AggregatedMessage::Ping(payload)) => Received::Ping(payload),
        Ok(AggregatedMessage::Pong(_)) => Received::Pong,
        Ok(AggregatedMessage::Close(_)) => Received::End(Farewell::BY_CLIENT),
        Ok(AggregatedMessage::Binary(_)) => Received::Binary,
        Err(ProtocolError::Overflow) => Received::End(Farewell::OVERSIZE),
        // actix-ws 0.4 has no variant for it.
        Err(ProtocolError::Io(err)) if err.to_string() == "Exceeded maximum continuation size" => {
            Received::End(Farewell::OVERSIZE)
        }
        Err(ProtocolError::Io(err)) if err.kind() != std::io::ErrorKind::InvalidData => {
            Received::End(Farewell::GONE)
        }
        Err(_) => Received::End(Farewell::PROTOCOL),
    }
}
