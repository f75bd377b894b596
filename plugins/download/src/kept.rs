//! The files that were uploaded: `uploads/ID/NAME` in the granted folder. The folder is all there is to
//! know of them: they survive a restart, and one that the host deleted after sending it is gone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use wharf_sdk::{Error, StatusCode};

/// The grant in `plugin.toml`.
pub(crate) const FOLDER: &str = "files";
const UPLOADS: &str = "uploads";

/// All files together: a sample shall not fill the disk.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 4 << 30;

/// What an upload left that was broken off together with its instance goes after so long.
const PART_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A file that was uploaded.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) size: u64,
    /// In seconds since 1970.
    pub(crate) uploaded: u64,
}

impl Kept {
    /// Where it is, as the host and `std` both name it.
    pub(crate) fn path(&self) -> String {
        format!("{FOLDER}/{UPLOADS}/{}/{}", self.id, self.name)
    }

    /// Where clients find it.
    pub(crate) fn location(&self) -> String {
        format!("/download/{}", self.id)
    }
}

/// The folder of uploads.
pub(crate) struct Uploads(PathBuf);

impl Uploads {
    /// That of the granted folder.
    pub(crate) fn open() -> Self {
        Self::within(Path::new(FOLDER))
    }

    fn within(folder: &Path) -> Self {
        Self(folder.join(UPLOADS))
    }

    /// Every file, the newest first.
    pub(crate) fn list(&self) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            // Nothing was uploaded yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
            Err(error) => return Err(error),
        };
        for entry in entries {
            if let Some(id) = entry?.file_name().to_str()
                && let Some(kept) = self.find(id)?
            {
                all.push(kept);
            }
        }
        all.sort_by(|a, b| (b.uploaded, &a.id).cmp(&(a.uploaded, &b.id)));
        Ok(all)
    }

    /// The file with this id.
    pub(crate) fn find(&self, id: &str) -> io::Result<Option<Kept>> {
        if !is_id(id) {
            return Ok(None);
        }
        let entries = match fs::read_dir(self.0.join(id)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let (Ok(name), metadata) = (entry.file_name().into_string(), entry.metadata()?) else {
                continue;
            };
            if metadata.is_file() {
                let uploaded = metadata.modified().ok().and_then(since_epoch).unwrap_or_default();
                let id = id.to_owned();
                return Ok(Some(Kept { id, name, size: metadata.len(), uploaded }));
            }
        }
        Ok(None)
    }

    /// Deletes a file; false where there is none.
    pub(crate) fn delete(&self, id: &str) -> io::Result<bool> {
        let Some(kept) = self.find(id)? else { return Ok(false) };
        match fs::remove_file(self.0.join(id).join(&kept.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            done => done?,
        }
        // Another request may have been first.
        let _ = fs::remove_dir(self.0.join(id));
        Ok(true)
    }

    /// Begins an upload.
    ///
    /// # Errors
    ///
    /// 507 where there are too many files, or too much in them.
    pub(crate) fn begin(&self) -> Result<Part, Error> {
        fs::create_dir_all(&self.0)?;
        self.tidy()?;
        let all = self.list()?;
        let bytes: u64 = all.iter().map(|kept| kept.size).sum();
        if all.len() >= MAX_FILES || bytes >= MAX_BYTES {
            return Err(Error::new(StatusCode::INSUFFICIENT_STORAGE)
                .detail("there are too many files here: delete some"));
        }
        let mut id = [0; 8];
        getrandom::fill(&mut id)?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let path = self.0.join(format!("{id}.part"));
        let file = File::create_new(&path)?;
        Ok(Part { folder: self.0.clone(), id, path, file, size: 0, is_kept: false })
    }

    /// Removes what is left of uploads that were broken off, and of files that were sent once.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                let age = fs::metadata(&path)
                    .and_then(|metadata| metadata.modified())
                    .ok()
                    .and_then(|modified| modified.elapsed().ok());
                if age.is_some_and(|age| age > PART_LIFETIME) {
                    let _ = fs::remove_file(path);
                }
            } else {
                // Only one that is empty can be removed.
                let _ = fs::remove_dir(path);
            }
        }
        Ok(())
    }
}

/// A file while it is uploaded. Dropped before [`keep`](Self::keep) it leaves nothing.
pub(crate) struct Part {
    folder: PathBuf,
    id: String,
    path: PathBuf,
    file: File,
    size: u64,
    is_kept: bool,
}

impl Part {
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.size += piece.len() as u64;
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Makes it a file that can be found, whole, under its name.
    pub(crate) fn keep(mut self, name: String) -> io::Result<Kept> {
        // What is acknowledged shall be there after a power failure.
        self.file.sync_all()?;
        // In a folder that is there with its content at once: none is ever seen empty and removed.
        let aside = self.folder.join(format!("{}.new.part", self.id));
        fs::create_dir(&aside)?;
        let moved = fs::rename(&self.path, aside.join(&name))
            .and_then(|()| fs::rename(&aside, self.folder.join(&self.id)));
        if let Err(error) = moved {
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        self.is_kept = true;
        let uploaded = since_epoch(SystemTime::now()).unwrap_or_default();
        Ok(Kept { id: std::mem::take(&mut self.id), name, size: self.size, uploaded })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn since_epoch(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn kept_files_are_found_listed_and_deleted() {
        let folder = Folder::new("kept");
        let uploads = Uploads::within(folder.path());

        let mut part = uploads.begin().unwrap();
        part.write(b"con").unwrap();
        part.write(b"tent").unwrap();
        assert_eq!(uploads.list().unwrap(), []);
        let kept = part.keep("a ü.txt".to_owned()).unwrap();

        let found = Uploads::within(folder.path()).find(&kept.id).unwrap().unwrap();
        assert_eq!((&*found.name, found.size), ("a ü.txt", 7));
        let file = folder.path().join(UPLOADS).join(&kept.id).join("a ü.txt");
        assert_eq!(fs::read(file).unwrap(), b"content");
        assert_eq!(uploads.list().unwrap().len(), 1);
        assert!(uploads.delete(&kept.id).unwrap());
        assert!(!uploads.delete(&kept.id).unwrap());
        assert_eq!(uploads.find(&kept.id).unwrap(), None);
    }

    #[test]
    fn upload_that_is_broken_off_leaves_nothing() {
        let folder = Folder::new("part");
        let uploads = Uploads::within(folder.path());
        let mut part = uploads.begin().unwrap();
        part.write(b"half").unwrap();

        drop(part);

        assert_eq!(fs::read_dir(folder.path().join(UPLOADS)).unwrap().count(), 0);
    }

    #[test]
    fn file_that_was_sent_once_is_gone_with_its_folder() {
        let folder = Folder::new("once");
        let uploads = Uploads::within(folder.path());
        let kept = uploads.begin().unwrap().keep("a".to_owned()).unwrap();
        let own = folder.path().join(UPLOADS).join(&kept.id);
        fs::remove_file(own.join("a")).unwrap();

        assert_eq!(uploads.find(&kept.id).unwrap(), None);
        drop(uploads.begin().unwrap());

        assert!(!own.exists());
    }

    #[test]
    fn nothing_but_ids_is_looked_for() {
        let folder = Folder::new("ids");
        let uploads = Uploads::within(folder.path());

        for id in ["", ".", "..", "../uploads", "0123456789abcde", "0123456789ABCDEF", "a/b"] {
            assert_eq!(uploads.find(id).unwrap(), None, "{id}");
        }
    }
}
