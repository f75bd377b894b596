//! Files below a granted folder, and nowhere else: opened without ever leaving it, deleted only where
//! they are still the file that was sent.
//!
//! `openat2` with `RESOLVE_BENEATH` lets the kernel watch every step; where there is none (an old
//! kernel, a sandbox) the path is opened name by name and no symbolic link is followed. What the
//! kernel has cached is opened at once, everything else on the blocking pool.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub mod folder;

/// Tries at a path of which something was renamed meanwhile.
const RACES: usize = 16;

/// A regular file, open, as it was then.
#[derive(Clone)]
pub struct Opened {
    /// Its bytes.
    pub file: Arc<File>,
    /// How many.
    pub size: u64,
    /// When they were last changed.
    pub modified: SystemTime,
    device: u64,
    inode: u64,
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path is empty, absolute, or has a segment that is empty, `.`, `..` or holds a NUL.
    #[error("the path must be relative, without `.`, `..` and empty segments")]
    Path,
    /// There is nothing of that name.
    #[error("there is no such file")]
    NotFound,
    /// It is a folder.
    #[error("it is a folder")]
    Folder,
    /// It is a pipe, a socket or a device.
    #[error("it is no regular file")]
    NotRegular,
    /// A symbolic link on the way leads out of the folder, or to another link without end.
    #[error("a symbolic link leads out of the folder")]
    Outside,
    /// A file that is to be deleted is named without links.
    #[error("a symbolic link is on the way")]
    Link,
    /// The system refuses it.
    #[error("it cannot be opened: {0}")]
    Io(io::Error),
}

/// Whether symbolic links may be on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// As long as they stay in the folder.
    Beneath,
    /// None.
    Refused,
}

/// Opens the regular file `path` below `folder`. Pipes and devices are not waited for.
///
/// # Errors
/// [`OpenError`].
pub async fn open(folder: &Path, path: &str, links: Links) -> Result<Opened, OpenError> {
    check(path)?;
    match open_cached(folder, path, links) {
        // Not in the kernel's caches, or the kernel cannot say.
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
        opened => return opened.map_err(|errno| open_error(errno, links)).and_then(Opened::new),
    }
    let (folder, path) = (folder.to_owned(), path.to_owned());
    let opening = tokio::task::spawn_blocking(move || {
        open_blocking(&folder, &path, links)
            .map_err(|errno| open_error(errno, links))
            .and_then(Opened::new)
    });
    opening.await.unwrap_or_else(|ended| Err(OpenError::Io(io::Error::other(ended))))
}

/// A relative path whose every segment is a name.
fn check(path: &str) -> Result<(), OpenError> {
    let is_name = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && !segment.contains('\0')
    };
    if path.split('/').all(is_name) { Ok(()) } else { Err(OpenError::Path) }
}

const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn resolve(links: Links) -> ResolveFlags {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match links {
        Links::Beneath => beneath,
        Links::Refused => beneath | ResolveFlags::NO_SYMLINKS,
    }
}

fn open_cached(folder: &Path, path: &str, links: Links) -> Result<OwnedFd, Errno> {
    let cached = ResolveFlags::CACHED;
    let root = rustix::fs::openat2(CWD, folder, ROOT, Mode::empty(), cached)?;
    rustix::fs::openat2(root, path, READ, Mode::empty(), resolve(links) | cached)
}

fn open_blocking(folder: &Path, path: &str, links: Links) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::open(folder, ROOT, Mode::empty())?;
    for _ in 0..RACES {
        match rustix::fs::openat2(&root, path, READ, Mode::empty(), resolve(links)) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // PERM: what some sandboxes say of calls that they do not know.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_name(root, path, READ),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same without `openat2`: one name after the other, no link followed.
fn open_by_name(root: OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut folder = root;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let last = names.peek().is_none();
        let flags = if last { flags } else { ROOT };
        let opened = rustix::fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty());
        match opened {
            // With O_PATH and O_DIRECTORY a link is said to be no folder.
            Err(Errno::NOTDIR) if is_link(&folder, name) => return Err(Errno::LOOP),
            Ok(opened) if last => return Ok(opened),
            Ok(opened) => folder = opened,
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOENT)
}

fn is_link(folder: &OwnedFd, name: &str) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink())
}

fn open_error(errno: Errno, links: Links) -> OpenError {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => OpenError::NotFound,
        Errno::LOOP if links == Links::Refused => OpenError::Link,
        Errno::XDEV | Errno::LOOP => OpenError::Outside,
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => OpenError::NotRegular,
        Errno::ISDIR => OpenError::Folder,
        errno => OpenError::Io(errno.into()),
    }
}

impl Opened {
    fn new(opened: OwnedFd) -> Result<Self, OpenError> {
        let stat = rustix::fs::fstat(&opened).map_err(|errno| OpenError::Io(errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(OpenError::Folder),
            _ => return Err(OpenError::NotRegular),
        }
        Ok(Self {
            file: Arc::new(opened.into()),
            size: stat.st_size.unsigned_abs(),
            modified: modified(&stat),
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Whether the open file still is as it was opened; longer does not count, since what was sent is
    /// then still its beginning.
    pub fn is_unchanged(&self) -> bool {
        rustix::fs::fstat(&*self.file).is_ok_and(|stat| {
            let size = stat.st_size.unsigned_abs();
            size > self.size || size == self.size && modified(&stat) == self.modified
        })
    }

    /// Whether no folder has it any more.
    pub fn is_deleted(&self) -> bool {
        rustix::fs::fstat(&*self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Deletes `path` below `folder` if it still is this file, as it was opened. True if it did.
    /// Does not wait for the disk: the bytes are freed when the file is closed.
    pub fn delete(&self, folder: &Path, path: &str) -> bool {
        let deleted = || {
            check(path).ok()?;
            let root = rustix::fs::open(folder, ROOT, Mode::empty()).ok()?;
            let (parent, name) = match path.rsplit_once('/') {
                None => (root, path),
                Some((parent, name)) => {
                    let resolve = resolve(Links::Refused);
                    let opened =
                        match rustix::fs::openat2(&root, parent, ROOT, Mode::empty(), resolve) {
                            Err(Errno::NOSYS | Errno::PERM) => open_by_name(root, parent, ROOT),
                            opened => opened,
                        };
                    (opened.ok()?, name)
                }
            };
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let same = stat.st_dev == self.device
                && stat.st_ino == self.inode
                && stat.st_size.unsigned_abs() == self.size
                && modified(&stat) == self.modified;
            if !same {
                return None;
            }
            rustix::fs::unlinkat(&parent, name, AtFlags::empty()).ok()
        };
        deleted().is_some()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("size", &self.size).finish_non_exhaustive()
    }
}

fn modified(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let nanoseconds = Duration::from_nanos(stat.st_mtime_nsec);
    // Before 1970 nothing on the wire can say it.
    if stat.st_mtime < 0 { UNIX_EPOCH } else { UNIX_EPOCH + seconds + nanoseconds }
}

/// A file that is deleted once it was sent.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// The granted folder.
    pub folder: PathBuf,
    /// The file's path in it.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(data.join("file"), "file").unwrap();
        fs::write(data.join("sub/file"), "below").unwrap();
        symlink("file", data.join("link")).unwrap();
        symlink("../secret", data.join("out")).unwrap();
        symlink("/etc/passwd", data.join("absolute")).unwrap();
        symlink("..", data.join("up")).unwrap();
        symlink("loop", data.join("loop")).unwrap();
        symlink("/proc/self/root", data.join("magic")).unwrap();
        rustix::fs::mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
        dir
    }

    const REFUSED: [&str; 22] = [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../secret",
        "sub/../../secret",
        "sub/../file",
        "./file",
        "sub//file",
        "file/",
        "sub/",
        "sub/.",
        "sub/..",
        "file\0",
        "\0",
        "a\0/../../secret",
        "//file",
        "up/secret",
        "out",
        "absolute",
        "magic/etc/passwd",
    ];

    #[tokio::test]
    async fn nothing_outside_the_folder_is_opened() {
        let dir = tree();

        for path in REFUSED {
            let opened = open(&dir.path().join("data"), path, Links::Beneath).await;
            assert!(opened.is_err(), "{path:?}");
        }
    }

    #[tokio::test]
    async fn files_are_told_from_what_is_none() {
        let dir = tree();
        let data = dir.path().join("data");
        let open = async |path| open(&data, path, Links::Beneath).await;

        assert_eq!(open("file").await.unwrap().size, 4);
        assert_eq!(open("sub/file").await.unwrap().size, 5);
        assert_eq!(open("link").await.unwrap().size, 4);
        assert!(matches!(open("none").await, Err(OpenError::NotFound)));
        assert!(matches!(open("file/x").await, Err(OpenError::NotFound)));
        assert!(matches!(open("sub").await, Err(OpenError::Folder)));
        assert!(matches!(open("pipe").await, Err(OpenError::NotRegular)));
        assert!(matches!(open("socket").await, Err(OpenError::NotRegular)));
        assert!(matches!(open("out").await, Err(OpenError::Outside)));
        assert!(matches!(open("loop").await, Err(OpenError::Outside)));
        assert!(matches!(open(&"x".repeat(300)).await, Err(OpenError::NotFound)));
        let linked = super::open(&data, "link", Links::Refused).await;
        assert!(matches!(linked, Err(OpenError::Link)));
    }

    #[test]
    fn without_openat2_no_link_is_followed() {
        let dir = tree();
        let root = || rustix::fs::open(dir.path().join("data"), ROOT, Mode::empty()).unwrap();
        let by_name = |path: &str| open_by_name(root(), path, READ);

        assert!(by_name("file").is_ok());
        assert!(by_name("sub/file").is_ok());
        for path in ["link", "out", "absolute", "up/secret", "magic/etc/passwd", "loop"] {
            let errno = by_name(path).unwrap_err();
            assert!(matches!(open_error(errno, Links::Beneath), OpenError::Outside), "{path}");
        }
        assert_eq!(by_name("none").unwrap_err(), Errno::NOENT);
        for path in REFUSED {
            assert!(check(path).is_err() || by_name(path).is_err(), "{path:?}");
        }
    }

    #[tokio::test]
    async fn a_file_is_deleted_only_while_it_is_the_same() {
        let dir = tree();
        let data = dir.path().join("data");

        let opened = open(&data, "sub/file", Links::Refused).await.unwrap();
        fs::write(data.join("new"), "newer").unwrap();
        fs::rename(data.join("new"), data.join("sub/file")).unwrap();
        assert!(!opened.delete(&data, "sub/file"));
        assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "newer");

        let opened = open(&data, "sub/file", Links::Refused).await.unwrap();
        assert!(opened.delete(&data, "sub/file"));
        assert!(!opened.delete(&data, "sub/file"));
        assert!(!data.join("sub/file").exists());
    }

    #[tokio::test]
    async fn a_file_that_shrank_or_was_rewritten_is_noticed() {
        let dir = tree();
        let data = dir.path().join("data");
        let append = || fs::OpenOptions::new().append(true).open(data.join("file")).unwrap();

        let opened = open(&data, "file", Links::Beneath).await.unwrap();
        assert!(opened.is_unchanged());
        io::Write::write_all(&mut append(), b"more").unwrap();
        assert!(opened.is_unchanged());
        append().set_len(2).unwrap();
        assert!(!opened.is_unchanged());
    }
}
