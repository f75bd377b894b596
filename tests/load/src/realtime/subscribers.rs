//! Ten thousand clients that read what they are sent: one thread, one epoll, one buffer, no parsing.
//!
//! What a server delivers is counted by a byte that is in each event once ([`MARK`]), whatever the
//! framing around it. When it was published stands in the event itself, and is looked at in every
//! sixteenth connection only, so that the client stays cheaper than the servers.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// In each event once, and in nothing else.
pub(crate) const MARK: u8 = b'~';
/// Before the time of publication, which has [`DIGITS`] digits: nanoseconds since [`Subscribers`] began.
const STAMP: &[u8] = b"\"at\":\"";
const DIGITS: usize = 15;
/// Of so many connections one has its times looked at.
const SAMPLED: usize = 16;
/// Connections that wait for their response at once while they are opened.
const OPENING: usize = 64;
/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Publications that are being answered at once.
const PUBLISHING: usize = 16;

/// Says what to publish: the whole HTTP request, for the data of an event.
pub(crate) type PublishRequest<'a> = &'a dyn Fn(&str) -> Vec<u8>;

/// Clients of one server.
pub(crate) struct Subscribers {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    publishers: Vec<Publisher>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    began: Instant,
    /// Events that came.
    pub(crate) received: u64,
    /// Times from publication to receipt, sampled.
    pub(crate) latencies_us: Vec<f64>,
}

struct Socket {
    stream: TcpStream,
    /// The response's head, until it has all come.
    head: Option<Vec<u8>>,
}

struct Publisher {
    /// For the epoll.
    number: u64,
    address: String,
    /// `None` where the server has closed it, as some do after each publication.
    stream: Option<TcpStream>,
    /// What has come of the answer, while there is one to come.
    answer: Option<Vec<u8>>,
}

/// How events are published.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as they are answered.
    Saturating,
    /// One after so long.
    Every(Duration),
}

impl Subscribers {
    /// Opens so many connections, each with this request, and waits for all their responses.
    pub(crate) fn open(address: &str, request: &[u8], count: usize) -> Result<Self> {
        let mut subscribers = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: Vec::with_capacity(count),
            publishers: Vec::new(),
            events: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            began: Instant::now(),
            received: 0,
            latencies_us: Vec::new(),
        };
        let since = Instant::now();
        for number in 0..count {
            let mut stream = TcpStream::connect(address).context("connect")?;
            stream.set_nodelay(true)?;
            stream.write_all(request)?;
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64(number as u64);
            epoll::add(&subscribers.epoll, &stream, data, EventFlags::IN | EventFlags::ET)?;
            subscribers.sockets.push(Socket { stream, head: Some(Vec::new()) });
            if number % OPENING == OPENING - 1 || number + 1 == count {
                while subscribers.opening() {
                    subscribers.receive(Some(Duration::from_millis(100)))?;
                    let waited = since.elapsed() < PATIENCE * 2;
                    ensure!(waited, "only {number} connections were answered in a minute");
                }
            }
        }
        Ok(subscribers)
    }

    fn opening(&self) -> bool {
        let from = self.sockets.len().saturating_sub(OPENING);
        self.sockets[from..].iter().any(|socket| socket.head.is_some())
    }

    /// Opens connections to publish on.
    pub(crate) fn publish_at(&mut self, address: &str) -> Result<()> {
        for number in 0..PUBLISHING {
            let (number, address) = (u64::MAX - number as u64, address.to_owned());
            let mut publisher = Publisher { number, address, stream: None, answer: None };
            publisher.connect(&self.epoll)?;
            self.publishers.push(publisher);
        }
        Ok(())
    }

    /// An event's data of about `bytes`, published now.
    pub(crate) fn data(&self, bytes: usize) -> String {
        let at = self.began.elapsed().as_nanos();
        let stamp = std::str::from_utf8(STAMP).unwrap_or_default();
        let padding = bytes.saturating_sub(STAMP.len() + DIGITS + 14);
        let mark = char::from(MARK);
        format!("{{{stamp}{at:0DIGITS$}\",\"text\":\"{:.>padding$}{mark}\"}}", "")
    }

    /// Publishes so many events of so many bytes and reads until each subscriber has got `each` of
    /// them. The time is from the first publication to the last receipt.
    pub(crate) fn fan_out(
        &mut self,
        events: usize,
        bytes: usize,
        pace: Pace,
        request: PublishRequest<'_>,
        each: usize,
    ) -> Result<Duration> {
        self.latencies_us.clear();
        let expected = self.received + (self.sockets.len() * each) as u64;
        let begun = Instant::now();
        let mut published = 0;
        let mut progress = (self.received, begun);
        while self.received < expected || published < events {
            let due = match pace {
                Pace::Saturating => true,
                Pace::Every(period) => begun.elapsed() >= period * published as u32,
            };
            let idle = self.publishers.iter().position(|publisher| publisher.answer.is_none());
            match idle {
                Some(idle) if due && published < events => {
                    self.publishers[idle].connect(&self.epoll)?;
                    let request = request(&self.data(bytes));
                    self.publishers[idle].publish(&request)?;
                    published += 1;
                }
                _ => self.receive(Some(Duration::from_millis(1)))?,
            }
            if self.received > progress.0 {
                progress = (self.received, Instant::now());
            }
            if progress.1.elapsed() > PATIENCE {
                bail!("{} events never came", expected - self.received);
            }
        }
        Ok(begun.elapsed())
    }

    /// Publishes one event after the other, for ten seconds at the most, each when the one before has
    /// come and its publication was answered. Does not sleep meanwhile, so that the client's own waking is not measured.
    pub(crate) fn ping(
        &mut self,
        events: usize,
        bytes: usize,
        request: PublishRequest<'_>,
    ) -> Result<()> {
        self.latencies_us.clear();
        let until = Instant::now() + Duration::from_secs(10);
        for _ in 0..events {
            if Instant::now() > until {
                break;
            }
            let expected = self.received + self.sockets.len() as u64;
            self.publishers[0].connect(&self.epoll)?;
            let request = request(&self.data(bytes));
            self.publishers[0].publish(&request)?;
            let begun = Instant::now();
            while self.received < expected || self.publishers[0].answer.is_some() {
                self.receive(Some(Duration::ZERO))?;
                ensure!(begun.elapsed() < PATIENCE, "an event never came");
            }
        }
        Ok(())
    }

    /// Lets the WebSockets in turn say something that each gets, `ahead` at once, and reads until all
    /// have got all of it.
    pub(crate) fn chat(&mut self, messages: usize, bytes: usize, ahead: usize) -> Result<Duration> {
        self.latencies_us.clear();
        let all = self.sockets.len() as u64;
        let from = self.received;
        let begun = Instant::now();
        let mut progress = (from, begun);
        let mut said = 0;
        while self.received < from + all * messages as u64 {
            let heard = (self.received - from) / all;
            if said < messages && (said as u64) < heard + ahead as u64 {
                let message = message(&self.data(bytes));
                self.sockets[said % all as usize].stream.write_all(&message)?;
                said += 1;
                continue;
            }
            self.receive(Some(Duration::from_millis(1)))?;
            if self.received > progress.0 {
                progress = (self.received, Instant::now());
            }
            ensure!(progress.1.elapsed() < PATIENCE, "a message never came");
        }
        Ok(begun.elapsed())
    }

    /// Reads for so long.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        while let Some(left) = time.checked_sub(begun.elapsed()) {
            self.receive(Some(left))?;
        }
        Ok(())
    }

    /// Reads what there is; waits for something at most so long.
    fn receive(&mut self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map(Timespec::try_from).transpose()?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let number = event.data.u64();
            let publisher = usize::try_from(u64::MAX - number)
                .ok()
                .and_then(|number| self.publishers.get_mut(number));
            match publisher {
                Some(publisher) => publisher.read(&mut self.buffer)?,
                None => self.read(number as usize)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<()> {
        let socket = &mut self.sockets[number];
        loop {
            let read = match socket.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let come = &self.buffer[..read];
            if let Some(head) = &mut socket.head {
                head.extend_from_slice(come);
                if let Some(at) = find(head, b"\r\n\r\n") {
                    let status = head.get(9..12).unwrap_or_default();
                    if status != b"200" && status != b"101" {
                        bail!("refused: {}", String::from_utf8_lossy(&head[..at]));
                    }
                    socket.head = None;
                }
            } else if come[0] == 0x89 {
                // A WebSocket ping without data; a masked pong.
                socket.stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0])?;
            }
            let marks = come.iter().filter(|byte| **byte == MARK).count() as u64;
            self.received += marks;
            if marks > 0 && number.is_multiple_of(SAMPLED) {
                let now = self.began.elapsed().as_nanos() as f64;
                let stamps = come.windows(STAMP.len() + DIGITS).filter(|w| w.starts_with(STAMP));
                let times = stamps.filter_map(|stamp| {
                    std::str::from_utf8(&stamp[STAMP.len()..]).ok()?.parse::<f64>().ok()
                });
                self.latencies_us.extend(times.map(|at| (now - at) / 1000.0));
            }
            // Edge-triggered: a short read has emptied the socket.
            if read < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

impl Publisher {
    fn connect(&mut self, epoll: &OwnedFd) -> Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64(self.number);
            epoll::add(epoll, &stream, data, EventFlags::IN | EventFlags::ET)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    fn publish(&mut self, request: &[u8]) -> Result<()> {
        self.stream.as_mut().context("not connected")?.write_all(request).context("publish")?;
        self.answer = Some(Vec::new());
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let read = match stream.read(buffer) {
            Ok(0) if self.answer.is_none() => {
                self.stream = None;
                return Ok(());
            }
            Ok(0) => bail!("the server did not answer a publication"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(answer) = &mut self.answer else { return Ok(()) };
        answer.extend_from_slice(&buffer[..read]);
        let Some(at) = find(answer, b"\r\n\r\n") else { return Ok(()) };
        let head = std::str::from_utf8(&answer[..at])?.to_ascii_lowercase();
        ensure!(head.contains(" 20"), "not published: {}", String::from_utf8_lossy(answer));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(Ok(0), |length| length.trim().parse::<usize>())?;
        if answer.len() >= at + 4 + length {
            self.answer = None;
            if head.contains("connection: close") {
                self.stream = None;
            }
        }
        Ok(())
    }
}

/// A text message of a client (RFC 6455 §5.2), masked with zeros: that leaves it as it is.
fn message(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend(length.unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
