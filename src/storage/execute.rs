//! Carries out one command.

use super::command::{Command, CommandError, CommandReply};
use super::database::Conn;
use super::{bindings, messages, quarantine, rules, running, tokens};
use crate::domain::time::UtcMillis;

/// Runs one command inside the caller's transaction, which must be rolled back after an error.
pub fn execute(conn: &mut Conn, command: Command, now: UtcMillis) -> Result<CommandReply, CommandError> {
    match command {
        Command::PutRule { rule, replace, actor } => {
            rules::put(conn, rule, replace, &actor, now).map(CommandReply::Rule)
        }
        Command::DeleteRule { rule_id, actor: _ } => {
            rules::delete(conn, &rule_id)?;
            Ok(CommandReply::Done)
        }
        Command::PutBinding { binding, scope, actor } => {
            bindings::put(conn, &binding, &scope, &actor, now).map(CommandReply::Owner)
        }
        Command::EndBinding { device_sn, scope, actor } => {
            bindings::end(conn, &device_sn, &scope, &actor, now).map(CommandReply::Owner)
        }
        Command::ImportBindings { bindings, scope, actor } => {
            let changed = bindings::put_all(conn, &bindings, &scope, &actor, now)?;
            Ok(CommandReply::Imported { changed })
        }
        Command::CreateToken(token) => tokens::create(conn, &token, now).map(|()| CommandReply::Done),
        Command::RevokeToken { token_id } => {
            tokens::revoke(conn, &token_id, now)?;
            Ok(CommandReply::Done)
        }
        Command::RedeemLoginCode { code_hash, session } => {
            tokens::redeem(conn, &code_hash, session, now)?;
            Ok(CommandReply::Done)
        }
        Command::Quarantine(body) => Ok(match quarantine::keep(conn, &body, now)? {
            Some((quarantine_id, seen_count)) => CommandReply::Quarantined { quarantine_id, seen_count },
            None => CommandReply::QuarantineFull,
        }),
        Command::DeleteQuarantine { quarantine_id } => match quarantine::delete(conn, quarantine_id)? {
            true => Ok(CommandReply::Done),
            false => Err(CommandError::NotFound("the quarantined body")),
        },
        Command::StoreWatchLogs(logs) => {
            messages::store_watch_logs(conn, &logs, now)?;
            Ok(CommandReply::Done)
        }
        Command::StoreDeviceMessage(message) => {
            messages::store_device_message(conn, &message, now)?;
            Ok(CommandReply::Done)
        }
        Command::RecordShown { viewer, alerts } => {
            messages::record_shown(conn, &viewer, &alerts)?;
            Ok(CommandReply::Done)
        }
        Command::Probe => {
            running::probe(conn)?;
            Ok(CommandReply::Done)
        }
        Command::MarkRunning => {
            running::set(conn, now)?;
            Ok(CommandReply::Done)
        }
        Command::MarkStopped => {
            running::clear(conn)?;
            Ok(CommandReply::Done)
        }
    }
}
