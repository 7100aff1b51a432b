//! Charts and tracks of one device.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::auth::Authenticated;
use super::devices::{WHAT, read_serial};
use super::error::{Problem, found};
use super::state::ApiState;
use crate::domain::ids::DeviceSn;
use crate::domain::owner::Scope;
use crate::storage::database::{Conn, StorageError};
use crate::storage::history::{self, HOURS_MAX, Window};

const HOURS_DEFAULT: u16 = 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    hours: Option<u16>,
}

pub async fn vitals(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
    query: web::Query<HistoryQuery>,
) -> Result<HttpResponse, Problem> {
    answer(&state, caller.0.scope, &serial, query.hours, history::series).await
}

pub async fn track(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
    query: web::Query<HistoryQuery>,
) -> Result<HttpResponse, Problem> {
    answer(&state, caller.0.scope, &serial, query.hours, history::track).await
}

type Read<T> = fn(&mut Conn, &Scope, &DeviceSn, Window) -> Result<Option<T>, StorageError>;

async fn answer<T: Serialize + Send + 'static>(
    state: &ApiState,
    scope: Scope,
    serial: &str,
    hours: Option<u16>,
    read: Read<T>,
) -> Result<HttpResponse, Problem> {
    let serial = read_serial(serial)?;
    let window = Window::new(state.clock.now(), hours.unwrap_or(HOURS_DEFAULT))
        .ok_or_else(|| Problem::invalid(format!("hours must be 1 to {HOURS_MAX}")))?;
    found(state.readers.read(move |conn| read(conn, &scope, &serial, window)).await?, WHAT)
}
