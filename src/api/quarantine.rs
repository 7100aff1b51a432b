//! Quarantine: looked at, tried again and emptied by the administrator. Its bytes belong to no
//! customer.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_DISPOSITION, CONTENT_TYPE, ContentDisposition, DispositionParam, DispositionType,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::Authenticated;
use super::error::Problem;
use super::paging;
use super::state::ApiState;
use super::watch::Desk;
use super::watch_door::{Door, Taken};
use crate::storage::command::{Command, CommandError};
use crate::storage::quarantine::{self, QuarantineFilter, QuarantinedBody};

const WHAT: &str = "the quarantined body";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    route: Option<String>,
    names_emergency: Option<bool>,
    limit: Option<u16>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    copy: QuarantinedBody,
    /// `None` if the bytes are no UTF-8.
    body_text: Option<String>,
}

pub async fn list(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.admin()?.scope;
    let query = query.into_inner();
    let limit = paging::limit(query.limit)?;
    let before = paging::cursor(query.cursor.as_deref(), |key| key.parse::<i64>().ok())?;
    let filter = QuarantineFilter { route: query.route, names_emergency: query.names_emergency };
    let page = state.readers.read(move |conn| quarantine::list(conn, &scope, &filter, before, limit)).await?;
    Ok(paging::answer(&state, &page, i64::to_string))
}

pub async fn get(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (copy, body) = find(&state, caller, &id).await?;
    Ok(HttpResponse::Ok().json(Shown { copy, body_text: String::from_utf8(body).ok() }))
}

/// The kept bytes, as a download: a browser must not take them for a page of ours.
pub async fn body(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (copy, body) = find(&state, caller, &id).await?;
    let name = DispositionParam::Filename(format!("quarantine-{}", copy.quarantine_id));
    let attachment = ContentDisposition { disposition: DispositionType::Attachment, parameters: vec![name] };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_DISPOSITION, attachment))
        .body(body))
}

/// Takes the kept bytes through the door of their route, as if a watch had sent them now. What
/// is stored by that leaves quarantine; everything else stays.
pub async fn retry(
    state: web::Data<ApiState>,
    caller: Authenticated,
    desk: Desk,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (copy, body) = find(&state, caller, &id).await?;
    if !copy.is_whole() {
        return Err(Problem::conflict("only the beginning of this body was kept"));
    }
    let Some((route, door)) = Door::of(&copy.route) else {
        return Err(Problem::conflict(format!("{} is no route of this server", copy.route)));
    };
    let unreadable = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", why);
    match door.take(route, &body, &state, &desk).await {
        Taken::Stored { quarantined: true, .. } => {
            Err(unreadable("a report in it still panics; the server's log says more".into()))
        }
        Taken::Stored { records: 0, .. } => Err(unreadable("the body holds no records".into())),
        Taken::Stored { answer, .. } | Taken::Guarded { answer } => {
            remove(&state, copy.quarantine_id).await.or_else(|err| match err {
                // Another retry was faster, or it had to make room.
                CommandError::NotFound(_) => Ok(()),
                other => Err(other),
            })?;
            Ok(HttpResponse::Ok().json(json!({
                "quarantine_id": copy.quarantine_id.to_string(),
                "removed": true,
                "answer": answer,
            })))
        }
        Taken::Unreadable(why) => Err(unreadable(why)),
        Taken::Busy(why) => Err(Problem::unavailable("at-limit", format!("{why}; try again"))
            .retry_after_s(state.config.admission.retry_after_s)),
    }
}

pub async fn delete(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.admin()?;
    remove(&state, read_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn find(
    state: &ApiState,
    caller: Authenticated,
    id: &str,
) -> Result<(QuarantinedBody, Vec<u8>), Problem> {
    let (scope, quarantine_id) = (caller.admin()?.scope, read_id(id)?);
    let found = state.readers.read(move |conn| quarantine::get(conn, &scope, quarantine_id)).await?;
    found.ok_or_else(|| Problem::not_found(WHAT))
}

fn read_id(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::invalid("quarantine_id must be a number"))
}

async fn remove(state: &ApiState, quarantine_id: i64) -> Result<(), CommandError> {
    state.writer.execute(Command::DeleteQuarantine { quarantine_id }).await.map(|_| ())
}
