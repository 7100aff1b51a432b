//! A client of a running server's REST API, for the commands that need one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::config::{ADMIN_TOKEN_FILE, ENV_PREFIX, StorageConfig};

const DEFAULT_URL: &str = "http://127.0.0.1:5001";
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which server, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// Address of the running server [env: WATCHPOST_URL] [default: http://127.0.0.1:5001]
    #[arg(long)]
    pub url: Option<String>,
    /// Token [env: WATCHPOST_TOKEN] [default: the one in <data-dir>/admin.token]
    #[arg(long)]
    pub token: Option<String>,
    /// Data directory of the server, for its admin.token
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Why a command failed: one line that says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "no token: {} is not there; name the server's --data-dir, or give --token or {ENV_PREFIX}TOKEN",
        path.display()
    )]
    NoToken { path: PathBuf },
    #[error("no server answers at {url} ({message}); start it with `watchpost serve`, or give another --url")]
    Unreachable { url: String, message: String },
    #[error("{url} did not answer like a watchpost server: {message}; check --url")]
    NotOurs { url: String, message: String },
    #[error("{0}; check --token, or the admin.token in the server's data directory")]
    Refused(String),
    #[error("{0}")]
    Problem(String),
}

/// A signed-in client.
pub struct Client {
    http: awc::Client,
    url: String,
    token: String,
}

impl Client {
    /// `env` looks up an environment variable. Must be called within an actix system.
    pub fn connect(args: &ServerArgs, env: impl Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let variable = |name: &str| env(&format!("{ENV_PREFIX}{name}")).filter(|value| !value.is_empty());
        let url = args.url.clone().or_else(|| variable("URL")).unwrap_or_else(|| DEFAULT_URL.into());
        let token = match args.token.clone().or_else(|| variable("TOKEN")) {
            Some(token) => token,
            None => {
                let data_dir = args.data_dir.clone().or_else(|| variable("STORAGE_DATA_DIR").map(Into::into));
                read_token(&data_dir.unwrap_or_else(|| StorageConfig::default().data_dir))?
            }
        };
        let http = awc::Client::builder().timeout(TIMEOUT).finish();
        Ok(Self { http, url: url.trim_end_matches('/').into(), token: token.trim().into() })
    }

    /// Address of the server, for links.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::GET, path, "application/json", Vec::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(Method::POST, path, "application/json", body.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::DELETE, path, "application/json", Vec::new()).await
    }

    /// The body of the answer, null if it has none. A problem of the server is an error here.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Value, CliError> {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .insert_header((CONTENT_TYPE, content_type));
        let mut response = request
            .send_body(body)
            .await
            .map_err(|err| CliError::Unreachable { url: self.url.clone(), message: err.to_string() })?;
        let not_ours = |message: String| CliError::NotOurs { url: self.url.clone(), message };
        let bytes = response.body().limit(ANSWER_BYTES_MAX).await.map_err(|err| not_ours(err.to_string()))?;
        let status = response.status();
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => {
                serde_json::from_slice(&bytes).map_err(|_| not_ours(format!("status {status}, no JSON")))?
            }
        };
        match status.as_u16() {
            200..300 => Ok(body),
            401 | 403 => Err(CliError::Refused(problem_text(&body))),
            _ => Err(CliError::Problem(problem_text(&body))),
        }
    }
}

fn read_token(data_dir: &Path) -> Result<String, CliError> {
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(token),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(CliError::NoToken { path }),
        Err(source) => Err(CliError::Read { path, source }),
    }
}

/// What a problem says, and below it the lines of a file that are wrong.
fn problem_text(body: &Value) -> String {
    let mut text = body["detail"].as_str().unwrap_or("the server refused").to_owned();
    for fault in body["faults"].as_array().into_iter().flatten() {
        let error = fault["error"].as_str().unwrap_or_default();
        text.push_str(&format!("\n  line {}: {error}", fault["line"]));
    }
    text
}
