//! The embedded store: SQLite in WAL mode, one database for each plugin's SQL and one for its pairs,
//! below `DATA/plugins/NAME`, and one for the hub's durable events.
//!
//! What is acknowledged has been synced to the disk. SQLite runs on threads of the store alone: one
//! that writes and up to eight that read for each database, started when there is work and ended
//! when there is none. Writes that come while another is being synced share the next commit.
//! Knows nothing of wasmtime: an exchange is an [`Asker`] here.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

mod connection;
mod crew;
mod database;
mod error;
mod guard;
pub mod limits;
mod log;
mod pairs;
#[cfg(test)]
mod tests;
mod value;
mod watch;
mod work;

pub use self::database::{Access, Claim, Cursor, Database, OpenTransaction};
pub use self::error::{Constraint, StoreError};
pub use self::log::{Foreign, Log, Logged, Record};
pub use self::pairs::{Delta, Pairs, Swap, Version};
pub use self::value::{Executed, Row, Statement, Value};
pub use self::watch::Asker;

use self::crew::{Place, Spawner};
use self::limits::{MAX_DATABASE_BYTES, MAX_LOG_BYTES, MAX_PAIRS_BYTES};

/// The file of a plugin's SQL database.
const SQL_FILE: &str = "sql.db";
/// The file of a plugin's pairs.
const PAIRS_FILE: &str = "keyvalue.db";
/// The file of the hub's durable events, in the server's data folder.
const LOG_FILE: &str = "hub.db";

/// Every plugin's databases.
pub struct Store {
    data: PathBuf,
    spawner: Spawner,
    /// By file. Versions of a plugin share its databases; without users and threads they go.
    open: Mutex<HashMap<PathBuf, Weak<Database>>>,
}

impl Store {
    /// The store below `data`, the server's data folder.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn new(data: PathBuf) -> io::Result<Self> {
        Ok(Self { data, spawner: Spawner::new()?, open: Mutex::default() })
    }

    /// The SQL database of a plugin. Nothing is opened before it is used.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn sql(&self, plugin: &str) -> io::Result<Arc<Database>> {
        self.database(plugin, SQL_FILE, MAX_DATABASE_BYTES, |_| Ok(()))
    }

    /// The pairs of a plugin. Nothing is opened before they are used.
    ///
    /// # Errors
    /// When their folder cannot be made.
    pub fn pairs(&self, plugin: &str) -> io::Result<Pairs> {
        let database = self.database(plugin, PAIRS_FILE, MAX_PAIRS_BYTES, pairs::prepare)?;
        Ok(Pairs::new(database))
    }

    /// The hub's durable events, written as those of `run`. Nothing is opened before they are used.
    ///
    /// # Errors
    /// When the data folder cannot be made.
    pub fn log(&self, run: u32) -> io::Result<Log> {
        let path = self.data.join(LOG_FILE);
        std::fs::create_dir_all(&self.data)?;
        let database = self.open(path.clone(), MAX_LOG_BYTES, log::prepare);
        Ok(Log::new(database, run, path))
    }

    fn database(
        &self,
        plugin: &str,
        file: &str,
        max_bytes: u64,
        prepare: fn(&connection::Connection) -> Result<(), StoreError>,
    ) -> io::Result<Arc<Database>> {
        let folder = self.data.join("plugins").join(plugin);
        std::fs::create_dir_all(&folder)?;
        Ok(self.open(folder.join(file), max_bytes, prepare))
    }

    fn open(
        &self,
        path: PathBuf,
        max_bytes: u64,
        prepare: fn(&connection::Connection) -> Result<(), StoreError>,
    ) -> Arc<Database> {
        let mut open = self.open.lock();
        if let Some(database) = open.get(&path).and_then(Weak::upgrade) {
            return database;
        }
        let place = Place {
            path: path.clone(),
            max_bytes,
            prepare,
            opening: Arc::default(),
            spawner: self.spawner.clone(),
        };
        let database = Arc::new(Database::new(&place));
        open.retain(|_, database| database.strong_count() > 0);
        open.insert(path, Arc::downgrade(&database));
        database
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("data", &self.data).finish_non_exhaustive()
    }
}
