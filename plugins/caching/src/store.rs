//! The table of documents, seeded when it is made.

use std::cell::Cell;

use serde_json::{Map, Value};
use wharf_sdk::sql::{self, Access, Row, SqlError};
use wharf_sdk::{Error, StatusCode, params};

use crate::document::{Document, now};
use crate::seeds;

/// A sample shall not fill the disk.
const MAX_DOCUMENTS: i64 = 10_000;
/// Documents that are listed.
const MAX_LISTED: u32 = 100;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    content TEXT NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID";

/// Whether there is any.
const SOME: &str = "SELECT 1 FROM documents LIMIT 1";

thread_local! {
    /// Whether this instance knows that the table is there, and seeded.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// Makes the table and seeds it, where that was not done before.
async fn prepare() -> Result<(), Error> {
    if PREPARED.get() || is_seeded().await {
        PREPARED.set(true);
        return Ok(());
    }
    // Only once in the life of the database: who writes holds up the others.
    let write = sql::transaction(Access::Write).await?;
    write.execute(TABLE, params![]).await?;
    let some = write.query(SOME, params![]).await?.first().await?;
    if some.is_none() {
        let time = now();
        for (kind, id, content) in seeds::documents() {
            let sql = "INSERT INTO documents (kind, id, content, updated) VALUES (?, ?, ?, ?)";
            write.execute(sql, params![kind, id, content.to_string(), time]).await?;
        }
        write.execute(seeds::READINGS, params![time]).await?;
    }
    write.commit().await?;
    PREPARED.set(true);
    Ok(())
}

/// False as well where there is no table yet.
async fn is_seeded() -> bool {
    let Ok(rows) = sql::query(SOME, params![]).await else { return false };
    matches!(rows.first().await, Ok(Some(_)))
}

/// Reads a document.
pub(crate) async fn find(kind: &str, id: &str) -> Result<Option<Document>, Error> {
    prepare().await?;
    let sql = "SELECT id, content, updated FROM documents WHERE kind = ? AND id = ?";
    let row = sql::query(sql, params![kind, id]).await?.first().await?;
    row.as_ref().map(document).transpose()
}

/// Reads the documents of a kind, latest first.
pub(crate) async fn list(kind: &str) -> Result<Vec<Document>, Error> {
    prepare().await?;
    let sql = "SELECT id, content, updated FROM documents WHERE kind = ?
        ORDER BY updated DESC, CAST(id AS INTEGER) DESC, id LIMIT ?";
    let rows = sql::query(sql, params![kind, MAX_LISTED]).await?.rows().await?;
    rows.iter().map(document).collect()
}

/// The contents of a kind, as JSON texts, in the order of their ids as numbers.
pub(crate) async fn contents(kind: &str, most: u32) -> Result<Vec<String>, Error> {
    prepare().await?;
    let sql = "SELECT content FROM documents WHERE kind = ? ORDER BY CAST(id AS INTEGER) LIMIT ?";
    let mut rows = sql::query(sql, params![kind, most]).await?;
    let mut contents = Vec::new();
    while let Some(row) = rows.next().await? {
        contents.push(row.get(0)?);
    }
    Ok(contents)
}

/// Changes a document, or makes it. `change` sees what there is, and nobody else writes meanwhile. Gives
/// it as it is then, and whether it is new.
///
/// # Errors
/// Those of `change`; 507 where there are too many.
pub(crate) async fn change(
    kind: &str,
    id: &str,
    change: impl FnOnce(Option<&Document>) -> Result<Map<String, Value>, Error>,
) -> Result<(Document, bool), Error> {
    prepare().await?;
    let write = sql::transaction(Access::Write).await?;
    let sql = "SELECT id, content, updated FROM documents WHERE kind = ? AND id = ?";
    let row = write.query(sql, params![kind, id]).await?.first().await?;
    let current = row.as_ref().map(document).transpose()?;
    let content = change(current.as_ref())?;
    if current.is_none() {
        room(&write, kind).await?;
    }
    // Two changes within a millisecond have different times all the same.
    let updated = now().max(current.as_ref().map_or(0, |current| current.updated + 1));
    let sql = "INSERT INTO documents (kind, id, content, updated) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (kind, id) DO UPDATE SET content = ?3, updated = ?4";
    let text = Value::Object(content.clone()).to_string();
    write.execute(sql, params![kind, id, text, updated]).await?;
    write.commit().await?;
    Ok((Document { id: id.to_owned(), content, updated }, current.is_none()))
}

/// Adds a document with the next number as its id.
///
/// # Errors
/// 507 where there are too many.
pub(crate) async fn add(kind: &str, content: Map<String, Value>) -> Result<Document, Error> {
    prepare().await?;
    let write = sql::transaction(Access::Write).await?;
    room(&write, kind).await?;
    let sql = "SELECT coalesce(max(CAST(id AS INTEGER)), 0) + 1 FROM documents WHERE kind = ?";
    let next = write.query(sql, params![kind]).await?.first().await?;
    let id: i64 = next.map_or(Ok(1), |row| row.get(0))?;
    let (id, updated) = (id.to_string(), now());
    let sql = "INSERT INTO documents (kind, id, content, updated) VALUES (?, ?, ?, ?)";
    let text = Value::Object(content.clone()).to_string();
    write.execute(sql, params![kind, &id, text, updated]).await?;
    write.commit().await?;
    Ok(Document { id, content, updated })
}

async fn room(write: &sql::Transaction, kind: &str) -> Result<(), Error> {
    let sql = "SELECT count(*) FROM documents WHERE kind = ?";
    let row = write.query(sql, params![kind]).await?.first().await?;
    let count: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    if count >= MAX_DOCUMENTS {
        return Err(Error::new(StatusCode::INSUFFICIENT_STORAGE)
            .detail(format!("there are {count} of them already")));
    }
    Ok(())
}

fn document(row: &Row) -> Result<Document, Error> {
    let column = |error: SqlError| Error::internal(error);
    let content: &str = row.get(1).map_err(column)?;
    Ok(Document {
        id: row.get::<&str>(0).map_err(column)?.to_owned(),
        content: serde_json::from_str(content)?,
        updated: row.get(2).map_err(column)?,
    })
}
