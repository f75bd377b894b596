//! Follows a file of the granted folder from its end, through truncation and rotation.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wharf_sdk::{Error, Request, Response};

use crate::lines::Lines;
use crate::reply::live;
use crate::wait::wait;

/// The grant in `plugin.toml`.
pub(crate) const FOLDER: &str = "logs";
/// How often the file is looked at: a new line shall be with the client within 200 ms.
const PAUSE: Duration = Duration::from_millis(100);
const READ_SIZE: usize = 16 << 10;

pub(crate) async fn tail(request: Request) -> Result<Response, Error> {
    let name = request
        .query("name")
        .ok_or_else(|| Error::bad_request("the query must have a name: ?name=FILE"))?;
    let no_such_log = || Error::not_found().detail("there is no such log");
    if !is_name(&name) {
        return Err(no_such_log());
    }
    // Whatever keeps it from being read, to the client it is not there.
    let mut follower =
        Follower::at_end(Path::new(FOLDER).join(&*name)).map_err(|_| no_such_log())?;
    let exchange = request.exchange();
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        let mut lines = Lines::default();
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match follower.look(&mut buffer)? {
                Found::Bytes(count) => lines.push(&buffer[..count]),
                Found::Beginning => {
                    // The line that was cut off will not be completed in another file.
                    if let Some(mut rest) = lines.take_rest() {
                        rest.push(b'\n');
                        writer.write(rest).await?;
                    }
                }
                Found::Nothing => wait(exchange.as_ref(), PAUSE).await?,
            }
            let mut complete = Vec::new();
            while let Some(line) = lines.next_line() {
                complete.extend_from_slice(line);
                complete.push(b'\n');
            }
            writer.write(complete).await?;
        }
    })
}

/// Whether `name` can be that of a file right in the folder.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && !name.contains("..") && !name.contains(['/', '\\', '\0'])
}

/// What one look at a file has come to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// So many bytes are in the buffer; there may be more.
    Bytes(usize),
    /// Nothing since the last look.
    Nothing,
    /// What follows is from the beginning: the file was truncated, or another has its name.
    Beginning,
}

/// A file that is read from where it ended, by the name that it has.
struct Follower {
    path: PathBuf,
    file: File,
    offset: u64,
    /// Of the file when the name was its own and everything was read: most looks find the same.
    settled: Option<Facts>,
}

impl Follower {
    fn at_end(path: PathBuf) -> io::Result<Self> {
        // Before it is opened, which would wait at a pipe.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::open(&path)?;
        let offset = file.seek(SeekFrom::End(0))?;
        Ok(Self { path, file, offset, settled: None })
    }

    fn look(&mut self, buffer: &mut [u8]) -> io::Result<Found> {
        let named = self.named();
        if named.is_some() && named == self.settled {
            return Ok(Found::Nothing);
        }
        self.settled = None;
        let before = Facts::of(&self.file.metadata()?);
        if before.length > self.offset {
            // Without a seek WASI gives nothing more once a read has come to the end.
            self.file.seek(SeekFrom::Start(self.offset))?;
            let count = self.file.read(buffer)?;
            self.offset += count as u64;
            if count > 0 {
                return Ok(Found::Bytes(count));
            }
        }
        if before.length < self.offset {
            self.offset = 0;
            return Ok(Found::Beginning);
        }
        if named == Some(before) {
            self.settled = named;
            return Ok(Found::Nothing);
        }
        let Some(named) = self.named() else { return Ok(Found::Nothing) };
        let after = Facts::of(&self.file.metadata()?);
        if !is_another(self.offset, before, named, after) {
            return Ok(Found::Nothing);
        }
        // It may be gone again already.
        let Ok(file) = File::open(&self.path) else { return Ok(Found::Nothing) };
        self.file = file;
        self.offset = 0;
        Ok(Found::Beginning)
    }

    /// The file that has the name. None between rename and recreation; a folder or a pipe is no log.
    fn named(&self) -> Option<Facts> {
        let metadata = fs::metadata(&self.path).ok()?;
        metadata.is_file().then(|| Facts::of(&metadata))
    }
}

/// What tells one file from another where there are no inode numbers: WASI shows none to `std`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    length: u64,
    modified: Option<SystemTime>,
    /// Of the last change of its name, too, or of its making; not every platform tells it.
    created: Option<SystemTime>,
}

impl Facts {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            created: metadata.created().ok(),
        }
    }
}

/// Whether the file called `named` is not the open one, which was looked at `before` and `after`
/// and read up to `offset`. Of one and the same file that did not change meanwhile all three are
/// equal. Two files that are alike to the clock tick are told apart by their next change.
fn is_another(offset: u64, before: Facts, named: Facts, after: Facts) -> bool {
    let has_more = after.length != offset;
    before == after && named != after && !has_more
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use wharf_sdk::Method;

    use super::*;
    use crate::testing::answer;

    /// A folder that goes when the test does.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wharf-tail-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("app.log")
        }

        fn append(&self, text: &str) {
            let mut file = File::options().create(true).append(true).open(self.log()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Everything up to the next quiet, each beginning as `|`.
    fn read(follower: &mut Follower) -> String {
        let mut text = String::new();
        let mut buffer = [0; 3];
        loop {
            match follower.look(&mut buffer).unwrap() {
                Found::Bytes(count) => {
                    text.push_str(std::str::from_utf8(&buffer[..count]).unwrap())
                }
                Found::Beginning => text.push('|'),
                Found::Nothing => return text,
            }
        }
    }

    #[test]
    fn only_what_is_appended_is_read() {
        let folder = Folder::new("append");
        folder.append("old\n");
        let mut follower = Follower::at_end(folder.log()).unwrap();

        assert_eq!(read(&mut follower), "");
        folder.append("new\n");
        assert_eq!(read(&mut follower), "new\n");
        assert_eq!(read(&mut follower), "");
    }

    #[test]
    fn truncated_file_is_read_from_its_beginning() {
        let folder = Folder::new("truncate");
        folder.append("a long line\n");
        let mut follower = Follower::at_end(folder.log()).unwrap();

        File::create(folder.log()).unwrap();
        folder.append("short\n");

        assert_eq!(read(&mut follower), "|short\n");
        folder.append("more\n");
        assert_eq!(read(&mut follower), "more\n");
    }

    #[test]
    fn rotation_loses_no_line() {
        let folder = Folder::new("rotate");
        folder.append("0\n");
        let mut follower = Follower::at_end(folder.log()).unwrap();

        folder.append("last of the old\n");
        fs::rename(folder.log(), folder.0.join("app.log.1")).unwrap();
        assert_eq!(read(&mut follower), "last of the old\n");
        folder.append("first of the new\n");

        assert_eq!(read(&mut follower), "|first of the new\n");
        folder.append("second\n");
        assert_eq!(read(&mut follower), "second\n");
    }

    #[test]
    fn file_that_changes_under_the_look_is_not_another() {
        let facts = |length, seconds| Facts {
            length,
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            created: None,
        };

        // offset, before, named, after, whether it is another
        let cases = [
            ("unchanged", 4, facts(4, 1), facts(4, 1), facts(4, 1), false),
            ("appended in between", 4, facts(4, 1), facts(8, 2), facts(8, 2), false),
            ("appended all the time", 4, facts(4, 1), facts(8, 2), facts(9, 3), false),
            ("another, longer", 4, facts(4, 1), facts(8, 2), facts(4, 1), true),
            ("another, as long", 4, facts(4, 1), facts(4, 2), facts(4, 1), true),
            ("another, the old with more", 4, facts(8, 1), facts(2, 2), facts(8, 1), false),
        ];
        for (case, offset, before, named, after, expected) in cases {
            assert_eq!(is_another(offset, before, named, after), expected, "{case}");
        }
    }

    #[test]
    fn names_outside_the_folder_are_404() {
        for name in
            ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "x%00", "%2e%2e%2fx", "no"]
        {
            let response = answer(Method::GET, &format!("/logs/tail?name={name}"), ());

            assert_eq!(response.status(), 404, "{name}");
        }
        assert_eq!(answer(Method::GET, "/logs/tail", ()).status(), 400);
    }
}
