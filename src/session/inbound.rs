//! What a session takes from its client, and whose it is.

use bytes::Bytes;
use bytestring::ByteString;

use super::delivery::Farewell;
use super::filter::Filter;
use super::frames::Since;
use super::revocations::{Revocations, Standing};
use crate::domain::owner::Caller;
use crate::domain::time::UtcMillis;

/// Who a session belongs to.
#[derive(Debug)]
pub struct SignedIn {
    pub caller: Caller,
    /// Revocations when its token was checked.
    pub revocations: u64,
}

/// What comes from a client.
#[derive(Debug)]
pub enum Received {
    Text(ByteString),
    Binary,
    Ping(Bytes),
    Pong,
    /// It has gone, or says what nobody can go on from.
    End(Farewell),
}

/// A session that subscribes by itself: its client can say nothing.
#[derive(Debug, Default)]
pub struct Opening {
    pub filter: Filter,
    pub since: Option<Since>,
    pub stats: bool,
}

impl SignedIn {
    /// An error says why the session ends.
    pub fn check(&mut self, revocations: &Revocations, now: UtcMillis) -> Result<(), Farewell> {
        match revocations.standing(self.revocations, &self.caller.token_id) {
            Standing::Good(_) if self.caller.expires.is_some_and(|at| at <= now) => Err(Farewell::REVOKED),
            Standing::Good(seen) => {
                self.revocations = seen;
                Ok(())
            }
            Standing::Revoked => Err(Farewell::REVOKED),
            Standing::Unknown => Err(Farewell::RESTART),
        }
    }
}
