//! `GET /api/v1/events`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::auth::Authenticated;
use super::error::Problem;
use super::paging;
use super::state::ApiState;
use crate::domain::ids::{CustomerId, DeviceSn, EventId};
use crate::domain::time::UtcMillis;
use crate::storage::events::{self, EventFilter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    device_sn: Option<DeviceSn>,
    event_type: Option<String>,
    customer_id: Option<CustomerId>,
    from: Option<UtcMillis>,
    to: Option<UtcMillis>,
    limit: Option<u16>,
    cursor: Option<String>,
}

pub async fn list(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.0.scope;
    let query = query.into_inner();
    let limit = paging::limit(query.limit)?;
    let before = paging::cursor(query.cursor.as_deref(), |key| key.parse::<EventId>().ok())?;
    let filter = EventFilter {
        device_sn: query.device_sn,
        event_type: query.event_type,
        customer_id: query.customer_id,
        from: query.from,
        to: query.to,
    };
    let page = state.readers.read(move |conn| events::list(conn, &scope, &filter, before, limit)).await?;
    Ok(paging::answer(&state, &page, EventId::to_string))
}
