//! Making tokens: 32 random bytes, shown once, stored as a hash.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::auth::authenticate;
use super::paging::hex;
pub use crate::config::ADMIN_TOKEN_FILE;
use crate::domain::identity::sha256;
use crate::domain::ids::CustomerId;
use crate::domain::owner::{Caller, Scope};
use crate::domain::time::UtcMillis;
use crate::storage::command::{Command, CommandError, NewToken, TokenKind};
use crate::storage::database::{Readers, StorageError};
use crate::storage::tokens::CHILD_MARK;
use crate::supervision::clock::Clock;
use crate::writer::client::WriterClient;

/// A sign-in code works for this long, milliseconds.
pub const LOGIN_CODE_MS: i64 = 600_000;

/// Why no token could be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("random numbers: {0}")]
    Random(getrandom::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A token in the open. Only its hash is stored.
pub struct Secret(String);

impl Secret {
    pub fn make() -> Result<Self, CredentialError> {
        Ok(Self(format!("wpt_{}", random_hex::<32>()?)))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }
}

/// `N` random bytes as text, for ids.
pub fn random_hex<const N: usize>() -> Result<String, CredentialError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(CredentialError::Random)?;
    Ok(hex(&bytes))
}

/// A token to be stored. `issuer` is the token that it dies with.
pub fn new_token(
    secret: &Secret,
    kind: TokenKind,
    issuer: Option<&Caller>,
    name: &str,
    customer_id: Option<CustomerId>,
    expires: Option<UtcMillis>,
) -> Result<NewToken, CredentialError> {
    let own = random_hex::<8>()?;
    let token_id = match issuer {
        Some(issuer) => {
            let root = issuer.token_id.split(CHILD_MARK).next().unwrap_or_default();
            format!("{root}{CHILD_MARK}{own}")
        }
        None => own,
    };
    Ok(NewToken { token_id, token_hash: secret.hash(), name: name.into(), kind, customer_id, expires })
}

/// A one-time code that signs a browser in.
pub struct LoginCode {
    pub code: String,
    pub expires: UtcMillis,
}

impl LoginCode {
    /// What goes behind the address of the page. A fragment never reaches a server or its logs.
    pub fn fragment(&self) -> String {
        format!("#code={}", self.code)
    }
}

/// Makes a sign-in code. Sessions made from it see what `issuer` sees and end with its token;
/// without an issuer (the process itself, on its own terminal) they are the administrator's.
pub async fn create_login_code(
    writer: &WriterClient,
    clock: &Clock,
    issuer: Option<&Caller>,
) -> Result<LoginCode, CredentialError> {
    let secret = Secret::make()?;
    let expires = clock.now().saturating_add_ms(LOGIN_CODE_MS);
    let customer_id = issuer.and_then(|issuer| issuer.scope.customer().cloned());
    let name = issuer.map_or("admin", |issuer| &issuer.name);
    let token = new_token(&secret, TokenKind::LoginCode, issuer, name, customer_id, Some(expires))?;
    writer.execute(Command::CreateToken(token)).await?;
    Ok(LoginCode { code: secret.0, expires })
}

/// Makes sure that `admin.token` in the data directory holds a token that works, and answers
/// where it is. One that the database does not know (any more) is replaced.
pub async fn ensure_admin_token(
    data_dir: &Path,
    readers: &Readers,
    writer: &WriterClient,
    clock: &Clock,
) -> Result<PathBuf, CredentialError> {
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    let failed = |source| CredentialError::File { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let known = authenticate(readers, clock, text.trim()).await?;
            if known.is_some_and(|caller| caller.scope == Scope::All) {
                return Ok(path);
            }
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => return Err(failed(err)),
    }
    let secret = Secret::make()?;
    let token = new_token(&secret, TokenKind::Admin, None, "admin", None, None)?;
    writer.execute(Command::CreateToken(token)).await?;
    write_private(&path, secret.text()).map_err(failed)?;
    Ok(path)
}

/// Writes a file that nobody else can read, at no moment.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("token.new");
    // Left over from a start that died; its mode is not to be trusted.
    match std::fs::remove_file(&unfinished) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}
