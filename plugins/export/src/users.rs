//! The table of users. It is as long as the longest export that was asked for: what is missing is made,
//! always the same, in steps that are a transaction each, inside SQLite.

use std::cell::Cell;

use wharf_sdk::params;
use wharf_sdk::sql::{self, Rows, SqlError};

/// Users that one step makes.
const STEP: u64 = 50_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    country TEXT NOT NULL,
    created TEXT NOT NULL
)";

/// Makes the users `?1` to `?2`. Some have names that CSV has to quote. One that is there already (made
/// by another export at the same time, or changed since) stays.
const MAKE: &str = "INSERT OR IGNORE INTO users (id, name, email, country, created)
    WITH RECURSIVE numbers (i) AS (
        VALUES (?1) UNION ALL SELECT i + 1 FROM numbers WHERE i < ?2
    ),
    names (i, first, last) AS (
        SELECT i,
            CASE i % 8 WHEN 0 THEN 'Ada' WHEN 1 THEN 'Alan' WHEN 2 THEN 'Barbara'
                WHEN 3 THEN 'Edsger' WHEN 4 THEN 'Frances' WHEN 5 THEN 'Grace'
                WHEN 6 THEN 'Jürgen' ELSE 'Margaret' END,
            CASE i / 8 % 8 WHEN 0 THEN 'Lovelace' WHEN 1 THEN 'Turing' WHEN 2 THEN 'Liskov'
                WHEN 3 THEN 'Dijkstra' WHEN 4 THEN 'Allen' WHEN 5 THEN 'Hopper'
                WHEN 6 THEN 'Müller' ELSE 'Hamilton' END
        FROM numbers
    )
    SELECT i,
        CASE WHEN i % 10 = 3 THEN last || ', ' || first
            WHEN i % 10 = 7 THEN first || ' \"Ace\" ' || last
            WHEN i % 100 = 9 THEN first || char(10) || last
            ELSE first || ' ' || last END,
        'user' || i || '@example.com',
        substr('DEESFRGBITNLPLUS', i % 8 * 2 + 1, 2),
        date(1577836800 + i % 200000000, 'unixepoch')
    FROM names";

const PAGE: &str =
    "SELECT id, name, email, country, created FROM users WHERE id > ? ORDER BY id LIMIT ?";

thread_local! {
    /// Users that this instance knows to be there.
    static KNOWN: Cell<u64> = const { Cell::new(0) };
}

/// Makes the table if it is not there.
pub(crate) async fn prepare() -> Result<(), SqlError> {
    if KNOWN.get() == 0 {
        sql::execute(TABLE, params![]).await?;
    }
    Ok(())
}

/// Makes users until there are `count`.
pub(crate) async fn grow(count: u64) -> Result<(), SqlError> {
    while KNOWN.get() < count {
        let row = sql::query("SELECT coalesce(max(id), 0) FROM users", params![]).await?;
        let last: u64 = match row.first().await? {
            Some(row) => row.get(0)?,
            None => 0,
        };
        if last < count {
            let (from, to) = (last as i64 + 1, (last + STEP) as i64);
            sql::execute(MAKE, params![from, to]).await?;
        } else {
            KNOWN.set(last);
        }
    }
    Ok(())
}

/// A page of users after the one with the id `last`.
pub(crate) async fn after(last: i64, most: u64) -> Result<Rows, SqlError> {
    sql::query(PAGE, params![last, most as i64]).await
}
