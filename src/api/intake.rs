//! Reading watch bodies within a budget, so that slow or large uploads never keep an SOS out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;

use crate::config::ServerConfig;

/// A payload that was not read to its end is kept for so long. Of one that is dropped before the answer
/// is sent, actix-http 3.20 reads chunks to their end, for ever; of one that is there, it closes the
/// connection.
const ABANDONED_FOR: Duration = Duration::from_secs(1);

/// Bytes of bodies that are being read. Bodies of more than `body_small_bytes` leave the reserve
/// to the small ones.
#[derive(Debug)]
pub struct BodyBudget {
    used: AtomicUsize,
    config: ServerConfig,
    /// Bytes that were read.
    received: Counter,
}

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// Too much is being read at the moment.
    #[error("the server is reading too many bodies")]
    Busy,
    #[error("the body did not arrive in time")]
    TimedOut,
    #[error("the connection broke while the body was read: {0}")]
    Broken(String),
}

impl BodyBudget {
    pub fn new(config: &ServerConfig) -> Arc<Self> {
        Self::counted_in(config, Counter::default())
    }

    /// The same, with the counter of what is read.
    pub fn counted_in(config: &ServerConfig, received: Counter) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), config: config.clone(), received })
    }

    /// Reads a whole body. The room that it takes in the budget is held by the result. After an error
    /// the connection is closed behind the answer, also when its sender never ends.
    pub async fn read(
        self: &Arc<Self>,
        request: &HttpRequest,
        mut payload: web::Payload,
    ) -> Result<(Bytes, BodyRoom), BodyError> {
        let read = self.read_all(request, &mut payload).await;
        if read.is_err() {
            actix_web::rt::spawn(async move {
                tokio::time::sleep(ABANDONED_FOR).await;
                drop(payload);
            });
        }
        read
    }

    async fn read_all(
        self: &Arc<Self>,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<(Bytes, BodyRoom), BodyError> {
        let max = self.config.body_bytes_max;
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|length| length > max) {
            return Err(BodyError::TooLarge(max));
        }
        let mut room = BodyRoom { budget: self.clone(), held: 0 };
        room.grow_to(announced.unwrap_or(0))?;
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0));
        let work = async {
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|err| BodyError::Broken(err.to_string()))?;
                if body.len() + chunk.len() > max {
                    return Err(BodyError::TooLarge(max));
                }
                room.grow_to(body.len() + chunk.len())?;
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let limit = Duration::from_millis(self.config.body_timeout_ms);
        let read = tokio::time::timeout(limit, work).await;
        self.received.inc_by(body.len() as u64);
        read.map_err(|_| BodyError::TimedOut)??;
        Ok((body.freeze(), room))
    }
}

/// Room in the budget; comes back when dropped.
#[derive(Debug)]
pub struct BodyRoom {
    budget: Arc<BodyBudget>,
    held: usize,
}

impl BodyRoom {
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        if bytes <= self.held {
            return Ok(());
        }
        let config = &self.budget.config;
        let limit = match bytes <= config.body_small_bytes {
            true => config.body_budget_bytes,
            false => config.body_budget_bytes - config.body_reserve_bytes,
        };
        let more = bytes - self.held;
        self.budget
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used + more <= limit).then_some(used + more)
            })
            .map_err(|_| BodyError::Busy)?;
        self.held = bytes;
        Ok(())
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(budget: &Arc<BodyBudget>) -> BodyRoom {
        BodyRoom { budget: budget.clone(), held: 0 }
    }

    #[test]
    fn large_bodies_leave_the_reserve_to_small_ones() {
        let config = ServerConfig {
            body_budget_bytes: 100,
            body_reserve_bytes: 20,
            body_small_bytes: 10,
            ..ServerConfig::default()
        };
        let budget = BodyBudget::new(&config);
        let mut large = room(&budget);
        large.grow_to(80).expect("all but the reserve");
        assert_eq!(room(&budget).grow_to(11), Err(BodyError::Busy));
        let (mut first, mut second) = (room(&budget), room(&budget));
        first.grow_to(10).expect("the reserve");
        second.grow_to(10).expect("the rest of the reserve");
        assert_eq!(room(&budget).grow_to(1), Err(BodyError::Busy));
        drop((large, first, second));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
