//! The table of resources: their content, a version that counts, and the id of the event that told of
//! it.
//!
//! A change is published before it is committed, under the database's write lock, so that events have
//! the order of the versions. Who reads a version follows what came after *its* event: nothing is
//! missed between the reading and the waiting, and nothing comes twice.

use std::cell::Cell;

use wharf_sdk::hub::{self, Event};
use wharf_sdk::sql::{self, Access, SqlError};
use wharf_sdk::{Error, StatusCode, params};

use crate::resource;

/// A sample shall not fill the disk.
const MAX_RESOURCES: i64 = 10_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS resources (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT, WITHOUT ROWID";

thread_local! {
    /// Whether this instance knows that the table is there.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// A resource as it is.
pub(crate) struct Resource {
    pub(crate) version: u64,
    /// JSON.
    pub(crate) content: String,
    /// The id of the event that told of this version.
    pub(crate) event: String,
}

async fn prepare() -> Result<(), SqlError> {
    if !PREPARED.get() {
        sql::execute(TABLE, params![]).await?;
        PREPARED.set(true);
    }
    Ok(())
}

/// Reads a resource.
pub(crate) async fn find(name: &str) -> Result<Option<Resource>, SqlError> {
    prepare().await?;
    let rows =
        sql::query("SELECT version, content, event FROM resources WHERE name = ?", params![name]);
    let Some(row) = rows.await?.first().await? else { return Ok(None) };
    Ok(Some(Resource { version: row.get(0)?, content: row.get(1)?, event: row.get(2)? }))
}

/// Changes a resource, or makes it; gives its version.
///
/// # Errors
///
/// 507 where there are too many.
pub(crate) async fn put(name: &str, content: &str) -> Result<u64, Error> {
    prepare().await?;
    let write = sql::transaction(Access::Write).await?;
    let rows = write.query("SELECT version FROM resources WHERE name = ?", params![name]).await?;
    let version: i64 = match rows.first().await? {
        Some(row) => row.get::<i64>(0)? + 1,
        None => {
            let rows = write.query("SELECT count(*) FROM resources", params![]).await?;
            let count: i64 = rows.first().await?.map_or(Ok(0), |row| row.get(0))?;
            if count >= MAX_RESOURCES {
                return Err(Error::new(StatusCode::INSUFFICIENT_STORAGE)
                    .detail(format!("there are {count} resources already")));
            }
            1
        }
    };
    // Fields of the event: an answer that times out has none of them.
    let event = Event::new(content)
        .field("content-type", "application/json")
        .field("x-current-version", version.to_string());
    let event = hub::publish(resource::topic(name), event).await?;
    let sql = "INSERT INTO resources (name, version, content, event) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO UPDATE SET version = ?2, content = ?3, event = ?4";
    write.execute(sql, params![name, version, content, event]).await?;
    write.commit().await?;
    Ok(version.unsigned_abs())
}
