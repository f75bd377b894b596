//! The ready file: JSON with the real addresses and the process id, there while requests are
//! answered. It belongs to the process that it names: a successor writes its own in its place.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

/// One process's ready file.
#[derive(Clone, Debug)]
pub struct ReadyFile {
    path: PathBuf,
    document: String,
}

impl ReadyFile {
    /// For this process; not written yet.
    pub fn new(
        path: PathBuf,
        http: Option<SocketAddr>,
        https: Option<SocketAddr>,
        admin: Option<SocketAddr>,
    ) -> Self {
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        let document = serde_json::json!({
            "http": text(http),
            "https": text(https),
            "admin": text(admin),
            "pid": std::process::id(),
        });
        Self { path, document: document.to_string() }
    }

    /// Writes it aside and renames it, so that whoever waits for it reads it whole. A failure is
    /// logged: the server serves.
    pub fn write(&self) {
        let write = || {
            // Two processes may write at once while one takes over from the other.
            let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
            let mut file = fs::File::create(&temporary)?;
            writeln!(file, "{}", self.document)?;
            file.sync_all()?;
            fs::rename(temporary, &self.path)
        };
        let written: io::Result<()> = write();
        if let Err(error) = written {
            let file = self.path.display();
            tracing::error!(%file, %error, "the ready file cannot be written");
        }
    }

    /// Writes it again where it was removed for a successor that did not come.
    pub fn write_unless_there(&self) {
        if !self.path.exists() {
            self.write();
        }
    }

    /// Removes it if it still is this process's.
    pub fn remove_if_ours(&self) {
        let is_ours = fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == self.document);
        if is_ours {
            let _already_gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_processs_ready_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let ours = ReadyFile::new(path.clone(), None, None, None);
        ours.write();
        assert!(fs::read_to_string(&path).unwrap().contains("\"pid\""));

        fs::write(&path, "{\"pid\":1}").unwrap();
        ours.remove_if_ours();
        assert!(path.exists());

        ours.write();
        ours.remove_if_ours();
        assert!(!path.exists());
    }
}
