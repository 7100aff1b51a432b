//! What RuleCache takes.

use actix::Message;
use tokio::sync::oneshot;

use crate::domain::ids::RuleId;
use crate::domain::rule::Rule;
use crate::storage::command::CommandError;

/// From the REST API: a change of one rule. Answered after it has been stored and published, so
/// that every shard evaluates by it. The reply is dropped if RuleCache dies meanwhile.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChangeRule {
    pub change: RuleChange,
    pub actor: String,
    /// The rule as stored; `None` after a deletion.
    pub reply: oneshot::Sender<Result<Option<Rule>, CommandError>>,
}

#[derive(Debug, Clone)]
pub enum RuleChange {
    Create(Rule),
    Replace(Rule),
    Delete(RuleId),
}
