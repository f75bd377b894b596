//! What plugins print: `DATA/logs/plugins/NAME.log`, one line a line, with time, stream and request.
//!
//! Guests write through [`PluginLog::write`], which never waits: lines are cut at a length, rated by
//! a bucket per plugin, and handed to one writer thread over a bounded queue. What does not fit is
//! dropped, counted, and told by a line of its own. A disk that is full or a folder that cannot be
//! written to costs lines, never requests.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

mod writer;

use writer::Writer;

/// Bytes of a line; what is longer is cut.
pub const MAX_LINE: usize = 8 * 1024;
/// Lines that wait for the writer thread, over all plugins: at most 8 MiB of text.
pub const MAX_QUEUED_LINES: usize = 1024;
/// Lines that a plugin has begun and not ended, one a request and stream; past it the oldest is
/// written as it is.
pub const MAX_OPEN_LINES: usize = 64;
/// What a line costs its plugin's rate besides its bytes: its time, stream and request id. Without
/// it, empty lines would be free.
const LINE_COST: u64 = 48;

/// Bounds of the plugins' logs (`[log]` in `wharf.toml`). `Default` gives the documented numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes after which a file is rotated: 4 MiB.
    pub file_size: u64,
    /// Files kept for a plugin, the current one included: 4.
    pub files: usize,
    /// Bytes a second that one plugin may write: 1 MiB.
    pub rate: u64,
    /// Bytes that it may write at once: 4 MiB.
    pub burst: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file_size: 4 << 20, files: 4, rate: 1 << 20, burst: 4 << 20 }
    }
}

/// Where a guest wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `wasi:cli/stdout`.
    Stdout,
    /// `wasi:cli/stderr`.
    Stderr,
}

impl Stream {
    fn label(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The logs of all plugins, and the thread that writes them. Clones are the same logs.
#[derive(Clone, Debug)]
pub struct PluginLogs {
    shared: Arc<Shared>,
}

/// The log of one plugin, over all its versions and instances.
#[derive(Debug)]
pub struct PluginLog {
    name: Arc<str>,
    shared: Arc<Shared>,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    queue: SyncSender<Message>,
    /// Weak: a removed plugin's log goes with its last instance.
    open: Mutex<HashMap<Arc<str>, Weak<PluginLog>>>,
    dropped: AtomicU64,
}

enum Message {
    Line(Line),
    /// Everything before it is on disk when the answer comes.
    Flush(SyncSender<()>),
    /// The last message: the thread ends.
    Close(SyncSender<()>),
}

struct Line {
    plugin: Arc<str>,
    at: SystemTime,
    /// `None`: the host's own word in the plugin's log.
    stream: Option<Stream>,
    request_id: Option<Box<str>>,
    text: Vec<u8>,
}

impl PluginLogs {
    /// Starts the writer thread. `folder` is made when the first line is written.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(folder: PathBuf, settings: Settings) -> io::Result<Self> {
        let (queue, messages) = sync_channel(MAX_QUEUED_LINES);
        let shared = Arc::new(Shared {
            settings,
            queue,
            open: Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let writer = Writer::new(folder, settings, Arc::downgrade(&shared));
        thread::Builder::new()
            .name("plugin-log".to_owned())
            .spawn(move || writer.run(&messages))?;
        Ok(Self { shared })
    }

    /// The log of the plugin `name`; the same one for as long as anybody holds it.
    pub fn open(&self, name: &str) -> Arc<PluginLog> {
        let mut open = self.shared.open.lock();
        if let Some(log) = open.get(name).and_then(Weak::upgrade) {
            return log;
        }
        open.retain(|_, log| log.strong_count() > 0);
        let name: Arc<str> = name.into();
        let log = Arc::new(PluginLog {
            name: Arc::clone(&name),
            shared: Arc::clone(&self.shared),
            lines: Mutex::new(Lines::new(&self.shared.settings)),
        });
        open.insert(name, Arc::downgrade(&log));
        log
    }

    /// Bytes dropped since start, over all plugins.
    pub fn dropped_bytes(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until what was written so far is in its files, or `limit` has passed. True if it is.
    pub fn flush(&self, limit: Duration) -> bool {
        self.shared.end_open_lines();
        self.shared.ask(Message::Flush, limit)
    }

    /// [`PluginLogs::flush`], and ends the thread; lines written later are dropped.
    pub fn close(&self, limit: Duration) -> bool {
        self.shared.end_open_lines();
        self.shared.ask(Message::Close, limit)
    }
}

impl PluginLog {
    /// Takes what a guest wrote, whole lines or parts of them. Never blocks on the disk.
    pub fn write(&self, stream: Stream, request_id: Option<&str>, bytes: &[u8]) {
        self.lines.lock().write(self, stream, request_id, bytes, Instant::now());
    }

    /// Writes what the request began without ending its line. To be called when it is over.
    pub fn end_request(&self, request_id: &str) {
        let mut lines = self.lines.lock();
        while let Some(at) =
            lines.open.iter().position(|line| line.request_id.as_deref() == Some(request_id))
        {
            lines.end_open(self, at, Instant::now());
        }
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Shared {
    fn logs(&self) -> Vec<Arc<PluginLog>> {
        self.open.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn end_open_lines(&self) {
        for log in self.logs() {
            let mut lines = log.lines.lock();
            while !lines.open.is_empty() {
                lines.end_open(&log, 0, Instant::now());
            }
            lines.tell_dropped(&log);
        }
    }

    fn ask(&self, message: impl FnOnce(SyncSender<()>) -> Message, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let (answer, answered) = sync_channel(1);
        let mut message = message(answer);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => return false,
                Err(TrySendError::Full(back)) => message = back,
            }
            // The standard channel has no send with a deadline.
            thread::sleep(Duration::from_millis(1));
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// The lines of one plugin on their way into the queue.
#[derive(Debug)]
struct Lines {
    bucket: Bucket,
    /// Begun and not ended, oldest first.
    open: VecDeque<OpenLine>,
    /// Bytes dropped since it was last told.
    untold: u64,
}

#[derive(Debug)]
struct OpenLine {
    stream: Stream,
    request_id: Option<Box<str>>,
    text: Vec<u8>,
    /// Bytes beyond [`MAX_LINE`], not kept.
    cut: u64,
}

impl Lines {
    fn new(settings: &Settings) -> Self {
        Self { bucket: Bucket::new(settings), open: VecDeque::new(), untold: 0 }
    }

    fn write(
        &mut self,
        log: &PluginLog,
        stream: Stream,
        request_id: Option<&str>,
        bytes: &[u8],
        now: Instant,
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (piece, after) = match end {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[..0]),
            };
            let at = self.open_line(log, stream, request_id, now);
            let line = &mut self.open[at];
            let room = MAX_LINE - line.text.len();
            line.text.extend_from_slice(&piece[..piece.len().min(room)]);
            line.cut += piece.len().saturating_sub(room) as u64;
            rest = after;
            if end.is_some() && !self.end_open(log, at, now) {
                // A flood is not looked at line by line.
                self.drop_bytes(log, rest.len() as u64);
                return;
            }
        }
    }

    /// The place of the line that `stream` of this request has begun, or begins now.
    fn open_line(
        &mut self,
        log: &PluginLog,
        stream: Stream,
        request_id: Option<&str>,
        now: Instant,
    ) -> usize {
        let begun = self
            .open
            .iter()
            .position(|line| line.stream == stream && line.request_id.as_deref() == request_id);
        if let Some(at) = begun {
            return at;
        }
        if self.open.len() == MAX_OPEN_LINES {
            self.end_open(log, 0, now);
        }
        let request_id = request_id.map(Box::from);
        self.open.push_back(OpenLine { stream, request_id, text: Vec::new(), cut: 0 });
        self.open.len() - 1
    }

    /// Ends an open line and queues it, if its plugin's rate allows. True if it was queued.
    fn end_open(&mut self, log: &PluginLog, at: usize, now: Instant) -> bool {
        let Some(mut line) = self.open.remove(at) else {
            return true;
        };
        let bytes = line.text.len() as u64;
        if !self.bucket.take(now, bytes + LINE_COST) {
            self.drop_bytes(log, bytes + line.cut + 1);
            return false;
        }
        self.tell_dropped(log);
        if line.cut > 0 {
            log.shared.dropped.fetch_add(line.cut, Ordering::Relaxed);
            line.text.extend_from_slice(format!(" [{} bytes cut]", line.cut).as_bytes());
        }
        let queued = self.queue(log, Some(line.stream), line.request_id, line.text);
        if !queued {
            self.drop_bytes(log, bytes + 1);
        }
        queued
    }

    /// Says in the log how much is missing from it.
    fn tell_dropped(&mut self, log: &PluginLog) {
        if self.untold == 0 {
            return;
        }
        let text = format!("[{} bytes dropped: written faster than the log takes]", self.untold);
        if self.queue(log, None, None, text.into_bytes()) {
            self.untold = 0;
        }
    }

    fn queue(
        &self,
        log: &PluginLog,
        stream: Option<Stream>,
        request_id: Option<Box<str>>,
        text: Vec<u8>,
    ) -> bool {
        let plugin = Arc::clone(&log.name);
        let line = Line { plugin, at: SystemTime::now(), stream, request_id, text };
        log.shared.queue.try_send(Message::Line(line)).is_ok()
    }

    fn drop_bytes(&mut self, log: &PluginLog, bytes: u64) {
        self.untold += bytes;
        log.shared.dropped.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A bucket of bytes that refills at a rate. Time is an argument.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    left: u64,
    filled: Option<Instant>,
}

impl Bucket {
    fn new(settings: &Settings) -> Self {
        Self { rate: settings.rate, burst: settings.burst, left: settings.burst, filled: None }
    }

    fn take(&mut self, now: Instant, bytes: u64) -> bool {
        let since = now.saturating_duration_since(self.filled.unwrap_or(now));
        let more = since.as_micros() * u128::from(self.rate) / 1_000_000;
        // Time that brings no whole byte is left for later.
        if more > 0 || self.filled.is_none() {
            self.filled = Some(now);
            self.left = u128::from(self.left).saturating_add(more).min(self.burst.into()) as u64;
        }
        let Some(left) = self.left.checked_sub(bytes) else {
            return false;
        };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests;
