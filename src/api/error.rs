//! Errors of the REST API: problem details as in RFC 9457.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::alert::Alert;
use crate::ingest::admission::NotPromised;
use crate::storage::command::CommandError;
use crate::storage::database::StorageError;

/// `Retry-After` where no limit with a configured one was hit, seconds.
const RETRY_AFTER_S: u32 = 1;
/// Slug while the database takes no writes.
pub const OUTAGE: &str = "storage-outage";

/// What went wrong, for the caller.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// Last part of the `type` URI: stable, for programs.
    slug: &'static str,
    detail: String,
    retry_after_s: Option<u32>,
    allow: Option<String>,
    members: Map<String, Value>,
}

impl Problem {
    pub fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self { status, slug, detail: detail.into(), retry_after_s: None, allow: None, members: Map::new() }
    }

    /// The request itself is wrong; the same one again is wrong too.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", detail)
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-authenticated", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Also for what exists and the caller may not see.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("{what} does not exist"))
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// The action came too late; `present` says who was first.
    pub fn illegal_transition(present: &Alert) -> Self {
        let detail = match present.resolved_by.as_ref().or(present.acknowledged_by.as_ref()) {
            Some(who) => format!("the alert is already {} by {who}", present.state.name()),
            None => format!("the alert is already {}", present.state.name()),
        };
        Self::new(StatusCode::CONFLICT, "illegal-transition", detail).with("present", json!(present))
    }

    /// Not now: nothing was promised, and the same request may be sent again.
    pub fn unavailable(slug: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, detail).retry_after_s(RETRY_AFTER_S)
    }

    pub fn method_not_allowed(method: &str, allow: String) -> Self {
        let detail = format!("{method} is not allowed here; use {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// An error that somebody has to look into. Logged here; the caller learns no details.
    pub fn internal(err: &dyn fmt::Display) -> Self {
        tracing::error!("request failed: {err:#}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server's log says more")
    }

    /// The database takes no writes.
    pub fn is_outage(&self) -> bool {
        self.slug == OUTAGE
    }

    /// The server is at fault: the same request may do later.
    pub fn is_servers(&self) -> bool {
        self.status.is_server_error()
    }

    pub fn retry_after_s(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// Adds a member of its own to the problem.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.into(), value);
        self
    }
}

/// 200 with what was looked for, or 404.
pub fn found<T: Serialize>(found: Option<T>, what: &str) -> Result<HttpResponse, Problem> {
    found.map(|found| HttpResponse::Ok().json(found)).ok_or_else(|| Problem::not_found(what))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = Map::new();
        body.insert("type".into(), format!("urn:watchpost:problem:{}", self.slug).into());
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.as_str().into());
        body.extend(self.members.clone());
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            response.insert_header((ALLOW, allow));
        }
        response.body(Value::Object(body).to_string())
    }
}

impl From<StorageError> for Problem {
    fn from(err: StorageError) -> Self {
        match err {
            StorageError::Busy => Problem::unavailable("storage-busy", "the database is busy; try again"),
            away if away.is_transient() => {
                tracing::warn!("the database is away: {away}");
                Problem::unavailable("storage-away", "the database cannot be reached; try again")
            }
            other => match other.outage() {
                Some(outage) => Problem::unavailable(OUTAGE, format!("{outage}; try again")),
                None => Problem::internal(&other),
            },
        }
    }
}

impl From<CommandError> for Problem {
    fn from(err: CommandError) -> Self {
        match err {
            CommandError::NotFound(what) => Problem::not_found(what),
            CommandError::Conflict(why) => Problem::conflict(why),
            CommandError::Invalid(why) => Problem::invalid(why),
            CommandError::Busy(_) | CommandError::WriterAway => {
                Problem::unavailable("writer-busy", err.to_string())
            }
            CommandError::Outage(_) => Problem::unavailable(OUTAGE, format!("{err}; try again")),
            CommandError::Storage(err) => err.into(),
        }
    }
}

impl From<NotPromised> for Problem {
    fn from(err: NotPromised) -> Self {
        let slug = match err {
            NotPromised::Full(_) => "at-limit",
            NotPromised::Outage(_) => OUTAGE,
            NotPromised::TimedOut => "not-stored-yet",
            NotPromised::Dropped => "not-stored",
        };
        Problem::unavailable(slug, format!("{err}; send them again"))
    }
}
