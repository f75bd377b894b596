//! What schedules remember over a restart: `DATA/schedules.json`, replaced whole; and the lock beside it
//! that one process holds: whoever has it calls the schedules, so that a process and its successor
//! never do both.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::timetable::{Key, Remembered};

const FILE: &str = "schedules.json";
const LOCK: &str = "schedules.lock";

/// The file and its folder.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
}

/// Held for as long as a process calls the schedules; the kernel lets go of it with the process.
#[derive(Debug)]
pub struct Turn(Option<File>);

#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    timing: String,
    last: u64,
}

impl Memory {
    /// Below `data`.
    pub fn new(data: &Path) -> Self {
        Self { folder: data.to_owned() }
    }

    /// Takes the turn; `None` while another process has it. Where files cannot be locked there is
    /// nothing to wait for, which is told.
    pub fn try_turn(&self) -> Option<Turn> {
        let path = self.folder.join(LOCK);
        let locked = File::create(&path)
            .map_err(TryLockError::Error)
            .and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Some(Turn(Some(file))),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => {
                let path = path.display();
                tracing::warn!(%error, %path, "cannot be locked: schedules may be called twice");
                Some(Turn(None))
            }
        }
    }

    /// What is remembered; nothing where it cannot be read, which is told. Blocks.
    pub fn read(&self) -> BTreeMap<Key, Remembered> {
        let path = self.folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "schedules begin anew");
                return BTreeMap::new();
            }
        };
        parse(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "schedules begin anew");
            BTreeMap::new()
        })
    }

    /// Replaces what is remembered. Blocks. Not synced: a machine that loses its power may count
    /// missed times wrongly, a process that is killed does not.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let made = self.folder.join(format!("{FILE}.new"));
        fs::write(&made, text)?;
        fs::rename(made, self.folder.join(FILE))
    }
}

impl Turn {
    /// Lets another process have it.
    pub fn end(self) {
        drop(self.0);
    }
}

/// As it is written.
pub fn print(remembered: &BTreeMap<Key, Remembered>) -> String {
    let entry = |(key, known): (&Key, &Remembered)| {
        let entry = Entry { timing: known.timing.clone(), last: known.last };
        // Neither name has a slash.
        (format!("{}/{}", key.0, key.1), entry)
    };
    let entries: BTreeMap<String, Entry> = remembered.iter().map(entry).collect();
    // A map of strings to strings and numbers can always be written.
    serde_json::to_string_pretty(&entries).unwrap_or_default()
}

fn parse(text: &str) -> serde_json::Result<BTreeMap<Key, Remembered>> {
    let entries: BTreeMap<String, Entry> = serde_json::from_str(text)?;
    let known = |(name, Entry { timing, last }): (String, Entry)| {
        let (plugin, schedule) = name.split_once('/')?;
        Some(((plugin.into(), schedule.into()), Remembered { timing, last }))
    };
    Ok(entries.into_iter().filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let memory = Memory::new(data.path());
        let known = Remembered { timing: "every 5s".to_owned(), last: 12_345 };
        let remembered = BTreeMap::from([(("shop".into(), "tick".into()), known)]);

        assert!(memory.read().is_empty());
        memory.write(&print(&remembered)).expect("it can be written");

        assert_eq!(memory.read(), remembered);
    }

    #[test]
    fn a_file_that_is_none_begins_anew() {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let memory = Memory::new(data.path());
        memory.write("{\"shop").expect("it can be written");

        assert!(memory.read().is_empty());
    }

    #[test]
    fn one_has_the_turn_until_it_ends() {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let memory = Memory::new(data.path());
        let turn = memory.try_turn().expect("nobody has it");

        assert!(memory.try_turn().is_none());
        turn.end();

        assert!(memory.try_turn().is_some());
    }
}
