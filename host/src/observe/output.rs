//! Standard error, written by a thread of its own: a terminal or a pipe that nobody reads must not
//! stop a request.
//!
//! Lines are gathered in one buffer a core and written together every few milliseconds; under load
//! that is one system call for thousands of lines. A full buffer drops lines and counts them.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait in one core's buffer; some ten thousand lines.
pub const MAX_BUFFERED: usize = 1 << 20;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// The writer looks around this often even if nobody wakes it.
const LOOK: Duration = Duration::from_secs(1);

/// Clones are the same output.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    buffers: Box<[Buffer]>,
    dropped: Arc<AtomicU64>,
    /// The writer has found nothing and is to be woken.
    sleeps: AtomicBool,
    /// The writer has written what it had taken out of the buffers.
    written: AtomicBool,
    writer: Mutex<Option<Thread>>,
}

#[repr(align(128))]
#[derive(Default)]
struct Buffer(Mutex<Vec<u8>>);

impl Output {
    /// Starts the thread that writes to `sink`, with a buffer for each of `cores` and one for what
    /// belongs to none.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(cores: usize, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: (0..=cores).map(|_| Buffer::default()).collect(),
            dropped: Arc::default(),
            sleeps: AtomicBool::new(false),
            written: AtomicBool::new(true),
            writer: Mutex::new(None),
        });
        let writer = Arc::downgrade(&shared);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut sink = sink;
            let mut taken = Vec::new();
            while let Some(shared) = writer.upgrade() {
                let wrote = shared.write_out(&mut taken, &mut sink);
                if !wrote {
                    shared.sleeps.store(true, Ordering::SeqCst);
                    // A line may have come between the look and the word that we sleep.
                    if shared.is_empty() {
                        drop(shared);
                        thread::park_timeout(LOOK);
                        continue;
                    }
                    shared.sleeps.store(false, Ordering::SeqCst);
                }
                drop(shared);
                thread::sleep(GATHER);
            }
        })?;
        *shared.writer.lock() = Some(thread.thread().clone());
        Ok(Self { shared })
    }

    /// Appends what `write` writes to a core's buffer: whole lines. Dropped where it is full.
    pub fn append(&self, core: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let buffers = &self.shared.buffers;
        let mut buffer = buffers[core.min(buffers.len() - 1)].0.lock();
        if buffer.len() >= MAX_BUFFERED {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut buffer);
        drop(buffer);
        if self.shared.sleeps.load(Ordering::Relaxed)
            && self.shared.sleeps.swap(false, Ordering::SeqCst)
        {
            self.shared.wake();
        }
    }

    /// Lines dropped since start.
    pub fn dropped_lines(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }

    /// Blocks until everything appended so far is written, or `limit` has passed.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !(self.shared.is_empty() && self.shared.written.load(Ordering::SeqCst)) {
            if Instant::now() >= deadline {
                return;
            }
            self.shared.wake();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("dropped", &self.shared.dropped).finish_non_exhaustive()
    }
}

impl Shared {
    /// Writes what the buffers hold; true if that was anything.
    fn write_out(&self, taken: &mut Vec<u8>, sink: &mut impl Write) -> bool {
        self.written.store(false, Ordering::SeqCst);
        let mut wrote = false;
        for buffer in &self.buffers {
            // Swapped, so that both vectors keep their capacity.
            std::mem::swap(&mut *buffer.0.lock(), taken);
            if taken.is_empty() {
                continue;
            }
            wrote = true;
            // Nobody is left to tell if standard error is closed.
            let _closed = sink.write_all(taken);
            taken.clear();
        }
        let _closed = sink.flush();
        self.written.store(true, Ordering::SeqCst);
        wrote
    }

    fn is_empty(&self) -> bool {
        self.buffers.iter().all(|buffer| buffer.0.lock().is_empty())
    }

    fn wake(&self) {
        if let Some(writer) = &*self.writer.lock() {
            writer.unpark();
        }
    }
}

/// One event of `tracing`: gathered, and appended when it is complete.
pub struct EventWriter<'a> {
    output: &'a Output,
    event: Vec<u8>,
}

impl Write for EventWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.event.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventWriter<'_> {
    fn drop(&mut self) {
        self.output.append(usize::MAX, |buffer| buffer.extend_from_slice(&self.event));
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter { output: self, event: Vec::new() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sink that can be looked at.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_all_cores_are_written_whole() {
        let written = Written::default();
        let output = Output::start(2, written.clone()).unwrap();

        for core in [0, 1, 7] {
            output.append(core, |line| line.extend_from_slice(format!("core {core}\n").as_bytes()));
        }
        output.flush(Duration::from_secs(20));

        let mut lines: Vec<_> = written.text().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["core 0", "core 1", "core 7"]);
    }

    /// Blocks until it is let go, like a pipe that nobody reads.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _let_go = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_stops_nobody() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let output = Output::start(1, Stuck(stuck)).unwrap();
        let line = vec![b'x'; 64 * 1024];

        for _ in 0..100 {
            output.append(0, |buffer| buffer.extend_from_slice(&line));
        }

        // At most one buffer is with the writer, and one is full.
        assert!(output.dropped_lines().load(Ordering::Relaxed) >= 100 - 2 * 17);
        drop(let_go);
    }
}
