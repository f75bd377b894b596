//! The messages of all rooms, in the plugin's database.

use std::cell::Cell;

use wharf_sdk::sql::{self, Row, SqlError};
use wharf_sdk::{Error, params};

use crate::message::{Kind, Said};

thread_local! {
    /// Whether this instance has seen the table.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

async fn prepare() -> Result<(), Error> {
    if PREPARED.get() {
        return Ok(());
    }
    sql::execute_batch([
        (
            "CREATE TABLE IF NOT EXISTS messages (
                 id INTEGER PRIMARY KEY AUTOINCREMENT,
                 room TEXT NOT NULL,
                 sender TEXT NOT NULL,
                 message TEXT NOT NULL,
                 timestamp TEXT NOT NULL
             )",
            params![],
        ),
        ("CREATE INDEX IF NOT EXISTS messages_by_room ON messages (room, id)", params![]),
    ])
    .await
    .map_err(Error::internal)?;
    PREPARED.set(true);
    Ok(())
}

/// Keeps a message; gives its id.
pub(crate) async fn add(room: &str, said: &Said) -> Result<i64, Error> {
    prepare().await?;
    let sql = "INSERT INTO messages (room, sender, message, timestamp) VALUES (?, ?, ?, ?)";
    let values = params![room, &said.from, &said.message, &said.timestamp];
    let done = sql::execute(sql, values).await.map_err(Error::internal)?;
    Ok(done.last_insert_id)
}

/// The messages of a room after `id`, oldest first; from the beginning only the last ones.
pub(crate) async fn after(room: &str, id: i64, most: u32) -> Result<Vec<Said>, Error> {
    prepare().await?;
    let order = if id > 0 { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT id, sender, message, timestamp FROM messages
         WHERE room = ? AND id > ? ORDER BY id {order} LIMIT ?"
    );
    let rows = sql::query(&sql, params![room, id, most]).await.map_err(Error::internal)?;
    let rows = rows.rows().await.map_err(Error::internal)?;
    let mut found =
        rows.iter().map(said).collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
    found.sort_by_key(|said| said.id);
    Ok(found)
}

fn said(row: &Row) -> Result<Said, SqlError> {
    let (from, message, timestamp): (&str, &str, &str) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Said {
        kind: Kind::Message,
        id: Some(row.get(0)?),
        from: from.to_owned(),
        message: message.to_owned(),
        timestamp: timestamp.to_owned(),
    })
}
