//! Who somebody is: `POST /session`, and the cookie that it sets. The database has a hash of the cookie,
//! which opens no session.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use wharf_sdk::sql::{self, SqlError};
use wharf_sdk::{Error, Request, Response, StatusCode, header, params};

use crate::body::{MAX_BODY, UserId};

const COOKIE: &str = "session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Sessions that are kept; beyond, the oldest go.
const MAX_SESSIONS: u32 = 100_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS sessions (
    token BLOB PRIMARY KEY,
    user TEXT NOT NULL,
    ends INTEGER NOT NULL
) STRICT, WITHOUT ROWID";
const BY_END: &str = "CREATE INDEX IF NOT EXISTS sessions_by_end ON sessions (ends)";

thread_local! {
    /// Whether this instance knows that the table is there.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

async fn prepare() -> Result<(), SqlError> {
    if !PREPARED.get() {
        sql::execute_batch([(TABLE, params![]), (BY_END, params![])]).await?;
        PREPARED.set(true);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Begin {
    user_id: UserId,
}

/// Begins a session.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let user = request.json::<Begin>(MAX_BODY).await?.user_id.checked()?;
    let mut token = [0; 32];
    getrandom::fill(&mut token)?;
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = seconds(SystemTime::now());
    let ends = now + LIFETIME.as_secs() as i64;
    prepare().await?;
    sql::execute_batch([
        ("DELETE FROM sessions WHERE ends < ?", params![now]),
        (
            "DELETE FROM sessions WHERE token IN
                (SELECT token FROM sessions ORDER BY ends DESC LIMIT -1 OFFSET ?)",
            params![MAX_SESSIONS - 1],
        ),
        (
            "INSERT INTO sessions (token, user, ends) VALUES (?, ?, ?)",
            params![hash(&token), &user, ends],
        ),
    ])
    .await?;

    // Over TLS the cookie shall never go without it.
    let secure = if request.uri().scheme_str() == Some("https") { "; Secure" } else { "" };
    let age = LIFETIME.as_secs();
    let cookie = format!("{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    Response::json(&json!({ "user_id": user }))?
        .with_status(StatusCode::CREATED)
        .with_header(header::SET_COOKIE, cookie)?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// Who asks.
///
/// # Errors
///
/// 401 where the request has no cookie of a session.
pub(crate) async fn user(request: &Request) -> Result<String, Error> {
    let Some(token) = request.cookie(COOKIE) else { return Err(unknown()) };
    prepare().await?;
    let now = seconds(SystemTime::now());
    let sql = "SELECT user FROM sessions WHERE token = ? AND ends >= ?";
    let rows = sql::query(sql, params![hash(token), now]).await?;
    let row = rows.first().await?.ok_or_else(unknown)?;
    Ok(row.get(0)?)
}

fn unknown() -> Error {
    Error::new(StatusCode::UNAUTHORIZED).detail("begin a session first: POST /session")
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}
