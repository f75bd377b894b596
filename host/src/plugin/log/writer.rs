//! The thread that writes the plugins' logs: one open file a plugin, rotated by size.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::{Line, Message, Settings, Shared};

/// How often what was dropped is told while nothing is written.
const TICK: Duration = Duration::from_secs(1);
/// A file that failed is left alone for this long.
const RETRY: Duration = Duration::from_secs(5);
/// Open files; past it all are closed and opened again as needed.
const MAX_OPEN_FILES: usize = 256;

pub(super) struct Writer {
    folder: PathBuf,
    settings: Settings,
    /// Weak: the logs end the thread by going away.
    shared: Weak<Shared>,
    files: HashMap<Arc<str>, LogFile>,
    told: Instant,
}

struct LogFile {
    path: PathBuf,
    state: State,
    /// It failed and was reported, and has not taken a byte since.
    failing: bool,
}

enum State {
    Open {
        file: BufWriter<File>,
        size: u64,
    },
    /// Not tried before then.
    Closed {
        until: Instant,
    },
}

impl Writer {
    pub(super) fn new(folder: PathBuf, settings: Settings, shared: Weak<Shared>) -> Self {
        Self { folder, settings, shared, files: HashMap::new(), told: Instant::now() }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => break,
                // Nothing waits: what was written so far may go to the disk.
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match messages.recv_timeout(TICK) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Disconnected) => break,
                        Err(RecvTimeoutError::Timeout) => {
                            self.tell_dropped();
                            continue;
                        }
                    }
                }
            };
            match message {
                Message::Line(line) => self.write(&line),
                Message::Flush(answer) => {
                    self.flush();
                    let _nobody_waits = answer.try_send(());
                }
                Message::Close(answer) => {
                    self.flush();
                    let _nobody_waits = answer.try_send(());
                    return;
                }
            }
        }
        self.flush();
    }

    fn write(&mut self, line: &Line) {
        let text = Escaped(&line.text).to_string();
        let stream = line.stream.map_or("wharf", super::Stream::label);
        let request_id = line.request_id.as_deref().unwrap_or("-");
        debug!(target: "plugin", plugin = &*line.plugin, stream, request_id, "{text}");

        if !self.files.contains_key(&line.plugin) {
            if self.files.len() >= MAX_OPEN_FILES {
                self.flush();
                self.files.clear();
            }
            let path = self.folder.join(format!("{}.log", line.plugin));
            let state = State::Closed { until: Instant::now() };
            let file = LogFile { path, state, failing: false };
            self.files.insert(Arc::clone(&line.plugin), file);
        }
        let time = humantime::format_rfc3339_millis(line.at);
        let written = format!("{time} {stream} {request_id} {text}\n");
        let Some(file) = self.files.get_mut(&line.plugin) else {
            return;
        };
        if !file.append(written.as_bytes(), &self.settings) {
            self.lost(written.len());
        }
    }

    fn flush(&mut self) {
        let lost = self.files.values_mut().map(LogFile::flush).sum();
        self.lost(lost);
    }

    fn lost(&self, bytes: usize) {
        if let (1.., Some(shared)) = (bytes, self.shared.upgrade()) {
            shared.dropped.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn tell_dropped(&mut self) {
        if self.told.elapsed() < TICK {
            return;
        }
        self.told = Instant::now();
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        for log in shared.logs() {
            log.lines.lock().tell_dropped(&log);
        }
    }
}

impl LogFile {
    /// Appends one line, rotating first where it does not fit. False if it is lost.
    fn append(&mut self, line: &[u8], settings: &Settings) -> bool {
        match self.try_append(line, settings) {
            Ok(written) => written,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn try_append(&mut self, line: &[u8], settings: &Settings) -> io::Result<bool> {
        match &mut self.state {
            State::Closed { until } if Instant::now() < *until => return Ok(false),
            State::Closed { .. } => self.open()?,
            State::Open { file, size } => {
                if *size > 0 && *size + line.len() as u64 > settings.file_size {
                    file.flush()?;
                    rotate(&self.path, settings.files)?;
                    self.open()?;
                }
            }
        }
        let State::Open { file, size } = &mut self.state else {
            return Ok(false);
        };
        file.write_all(line)?;
        *size += line.len() as u64;
        Ok(true)
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let size = file.metadata()?.len();
        self.state = State::Open { file: BufWriter::with_capacity(32 * 1024, file), size };
        Ok(())
    }

    /// Hands what is buffered to the file; the number of bytes lost by it.
    fn flush(&mut self) -> usize {
        let State::Open { file, .. } = &mut self.state else {
            return 0;
        };
        let buffered = file.buffer().len();
        match file.flush() {
            Err(error) => {
                self.fail(&error);
                return buffered;
            }
            Ok(()) if buffered > 0 && self.failing => {
                self.failing = false;
                info!(path = %self.path.display(), "plugin log can be written again");
            }
            Ok(()) => {}
        }
        0
    }

    /// Gives the file up for a while. Told once until it works again: every retry would tell the
    /// same.
    fn fail(&mut self, error: &io::Error) {
        if !self.failing {
            let path = self.path.display();
            warn!(%path, %error, retry_s = RETRY.as_secs(), "plugin log cannot be written");
        }
        self.failing = true;
        let closed = State::Closed { until: Instant::now() + RETRY };
        if let State::Open { file, .. } = std::mem::replace(&mut self.state, closed) {
            // Dropping it would try, and fail, to write the rest once more.
            let (_file, _lost) = file.into_parts();
        }
    }
}

/// `NAME.log` becomes `NAME.log.1`, that `NAME.log.2`, and so on; the last of `files` is removed.
fn rotate(path: &Path, files: usize) -> io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if files <= 1 {
        return fs::remove_file(path);
    }
    for number in (1..files - 1).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

/// Guest output in one line: control characters are escaped, so that it can neither forge a line
/// nor steer a terminal.
struct Escaped<'a>(&'a [u8]);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in String::from_utf8_lossy(self.0).trim_end_matches('\r').chars() {
            if c.is_control() && c != '\t' {
                write!(f, "{}", c.escape_default())?;
            } else {
                std::fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}
