//! Devices and who has them.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::auth::Authenticated;
use super::error::{Problem, found};
use super::state::ApiState;
use super::{body, paging};
use crate::domain::ids::{CustomerId, DeviceSn, ID_CHARS_MAX, OrgId, PersonId};
use crate::domain::owner::Scope;
use crate::domain::presence::Presence;
use crate::storage::command::{Command, CommandError, CommandReply, NewBinding};
use crate::storage::devices::{self, DeviceFilter};
use crate::storage::owners;

pub(super) const WHAT: &str = "the device";
/// As long as what it may be found in.
const SEARCH_CHARS_MAX: usize = ID_CHARS_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    customer_id: Option<CustomerId>,
    search: Option<String>,
    state: Option<Presence>,
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
    let after = paging::cursor(query.cursor.as_deref(), |key| DeviceSn::parse(key).ok())?;
    let filter = DeviceFilter {
        customer_id: query.customer_id,
        search: query.search.map(search_text).transpose()?.flatten(),
        state: query.state,
    };
    let patience = state.patience();
    let read = move |conn: &mut _| devices::list(conn, &scope, &filter, patience, after.as_ref(), limit);
    let page = state.readers.read(read).await?;
    Ok(paging::answer(&state, &page, DeviceSn::to_string))
}

/// `None` for nothing to look for.
fn search_text(text: String) -> Result<Option<String>, Problem> {
    if text.chars().count() > SEARCH_CHARS_MAX {
        return Err(Problem::invalid(format!("search has more than {SEARCH_CHARS_MAX} characters")));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

pub async fn get(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (scope, serial, patience) = (caller.0.scope, read_serial(&serial)?, state.patience());
    found(state.readers.read(move |conn| devices::get(conn, &scope, &serial, patience)).await?, WHAT)
}

pub async fn binding(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    answer_binding(&state, caller.0.scope, read_serial(&serial)?).await
}

/// Absent customer: the caller's own, or the default one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingBody {
    customer_id: Option<CustomerId>,
    customer_name: Option<String>,
    org_id: Option<OrgId>,
    org_name: Option<String>,
    person_id: Option<PersonId>,
    person_name: Option<String>,
}

pub async fn bind(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    let device_sn = read_serial(&serial)?;
    let wanted: BindingBody = body::json(&state, &request, payload).await?;
    let binding = NewBinding {
        device_sn: device_sn.clone(),
        customer_id: customer(&caller.scope, wanted.customer_id)?,
        customer_name: name("customer_name", wanted.customer_name).map_err(Problem::invalid)?,
        org_name: name("org_name", wanted.org_name).map_err(Problem::invalid)?,
        org_id: wanted.org_id,
        person_name: name("person_name", wanted.person_name).map_err(Problem::invalid)?,
        person_id: wanted.person_id,
    };
    check_names(&binding).map_err(Problem::invalid)?;
    let command = Command::PutBinding { binding, scope: caller.scope.clone(), actor: caller.name };
    change_bindings(&state, command, vec![device_sn.clone()]).await?;
    answer_binding(&state, caller.scope, device_sn).await
}

pub async fn unbind(
    state: web::Data<ApiState>,
    caller: Authenticated,
    serial: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    let device_sn = read_serial(&serial)?;
    let command =
        Command::EndBinding { device_sn: device_sn.clone(), scope: caller.scope, actor: caller.name };
    change_bindings(&state, command, vec![device_sn]).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Stores a change of who wears what and has the shards look again, also if the client goes away
/// meanwhile, and whatever the outcome: it may be stored although nobody could say so.
pub(super) async fn change_bindings(
    state: &ApiState,
    command: Command,
    devices: Vec<DeviceSn>,
) -> Result<CommandReply, Problem> {
    let (writer, router) = (state.writer.clone(), state.admission.router.clone());
    let work = actix_web::rt::spawn(async move {
        let result = writer.execute(command).await;
        match &result {
            Ok(CommandReply::Imported { changed }) => router.binding_changed(changed),
            _ => router.binding_changed(&devices),
        }
        result
    });
    Ok(work.await.unwrap_or(Err(CommandError::WriterAway))?)
}

async fn answer_binding(
    state: &ApiState,
    scope: Scope,
    device_sn: DeviceSn,
) -> Result<HttpResponse, Problem> {
    let binding = state.readers.read(move |conn| {
        let Some(binding) = devices::binding(conn, &scope, &device_sn)? else { return Ok(None) };
        let history = owners::history(conn, &scope, &device_sn)?;
        Ok(Some(json!({ "device_sn": device_sn, "binding": binding, "history": history })))
    });
    found(binding.await?, WHAT)
}

pub(super) fn read_serial(text: &str) -> Result<DeviceSn, Problem> {
    DeviceSn::parse(text).map_err(|err| Problem::invalid(format!("device_sn: {err}")))
}

fn customer(scope: &Scope, asked: Option<CustomerId>) -> Result<CustomerId, Problem> {
    match (scope.customer(), asked) {
        (Some(own), Some(asked)) if *own != asked => {
            Err(Problem::forbidden("customer_id must be your own, or absent"))
        }
        (Some(own), _) => Ok(own.clone()),
        (None, asked) => Ok(asked.unwrap_or_else(CustomerId::default_customer)),
    }
}

/// A name as it is stored: trimmed, not empty, within the length of an id.
pub(super) fn name(field: &str, name: Option<String>) -> Result<Option<String>, String> {
    let Some(name) = name else { return Ok(None) };
    let name = name.trim();
    if name.chars().count() > ID_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(format!("{field} must be at most 255 printable characters"));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// A name says nothing without the id of whom it names.
pub(super) fn check_names(binding: &NewBinding) -> Result<(), String> {
    if binding.org_name.is_some() && binding.org_id.is_none() {
        return Err("org_name needs an org_id".into());
    }
    if binding.person_name.is_some() && binding.person_id.is_none() {
        return Err("person_name needs a person_id".into());
    }
    Ok(())
}
