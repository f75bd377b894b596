//! Reload under load: how long from the rename to the first answer by new code, and whether any
//! request fails meanwhile. Also plain connections for whoever needs many.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Options;
use crate::machine::Place;
use crate::report::{figure, quantile, say};
use crate::servers::{Server, guest};

/// What `p3_hello` answers with, and what is patched in its component to make another version.
const MARKER: &[u8] = b"WHARF-VERSION-00";
/// Replacements of each kind.
const REPLACEMENTS: usize = 20;
/// Versions that are compiled before the load begins.
const KNOWN: [usize; 2] = [98, 99];
/// How long a replacement may take to be served.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that keep asking.
const BACKGROUND: usize = 4;

/// Replaces a component again and again while it is served.
pub(crate) fn reload(options: &Options) -> Result<()> {
    say("\nreload under load, from rename to the first answer by new code");
    let component = guest(options, "p3_hello")?;
    let server = Server::wharf(options, Place::Anywhere, &[("hello", &component, "")])?;
    for known in KNOWN {
        replace(&server, &component, known)?;
        // Until its optimised code is in the cache: the compiler waits a second before it begins.
        std::thread::sleep(Duration::from_secs(2));
        server.settle()?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (answered, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..BACKGROUND)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), server.http.clone());
            let (answered, failed) = (Arc::clone(&answered), Arc::clone(&failed));
            std::thread::spawn(move || ask_on(&address, &stop, &answered, &failed))
        })
        .collect();

    let mut seen = Vec::new();
    for known in KNOWN.iter().cycle().take(REPLACEMENTS) {
        seen.push(replace(&server, &component, *known)?);
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut fresh = Vec::new();
    for number in 1..=REPLACEMENTS {
        fresh.push(replace(&server, &component, number)?);
        std::thread::sleep(Duration::from_millis(500));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
    }

    times("Rust, compiled before", &seen);
    times("Rust, compiled afresh", &fresh);
    let (answered, failed) = (answered.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    figure("requests meanwhile, failed", &format!("{answered}, {failed}"));
    ensure!(failed == 0, "requests failed while plugins were replaced");
    for (language, plugin) in [("JavaScript", "hello-js"), ("Python", "hello-python")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(plugin);
        match fs::read(folder.join(plugin).with_extension("wasm")) {
            Ok(component) => large(options, language, &component)?,
            Err(_) => say(&format!("{language}: {plugin} is not built: run `cargo xtask guests`")),
        }
    }
    Ok(())
}

fn times(name: &str, times: &[Duration]) {
    let ms = |share| quantile(times.iter().map(|time| time.as_secs_f64() * 1e3), share);
    figure(
        &format!("{name}: median, p95, longest of {}", times.len()),
        &format!("{:.1} {:.1} {:.1} ms", ms(0.5), ms(0.95), ms(1.0)),
    );
}

/// The same for a component that carries a language's engine.
fn large(options: &Options, language: &str, component: &[u8]) -> Result<()> {
    const EACH: u32 = 4;
    const MANIFEST: &str = "[limits]\nmemory = \"256MiB\"\n";
    let server =
        Server::wharf(options, Place::Anywhere, &[("hello", &numbered(component, 0), MANIFEST)])?;
    let mut fresh = Vec::new();
    for number in 1..=EACH {
        fresh.push(replace_large(&server, &numbered(component, number))?);
        // Until its optimised code is there, which is what the second half returns to.
        std::thread::sleep(Duration::from_secs(2));
        server.settle()?;
    }
    let mut seen = Vec::new();
    for number in 1..=EACH {
        seen.push(replace_large(&server, &numbered(component, number))?);
        std::thread::sleep(Duration::from_millis(500));
    }
    times(&format!("{language}, compiled afresh"), &fresh);
    times(&format!("{language}, compiled before"), &seen);
    Ok(())
}

/// The component with a custom section at its end: other bytes, the same behaviour.
fn numbered(component: &[u8], number: u32) -> Vec<u8> {
    let mut numbered = component.to_vec();
    numbered.extend_from_slice(&[0, 6, 1, b'n']);
    numbered.extend_from_slice(&number.to_le_bytes());
    numbered
}

/// Renames a component over the plugin; the time until it is the version that is served and answers.
fn replace_large(server: &Server, component: &[u8]) -> Result<Duration> {
    let aside = server.dir().join("next.wasm");
    fs::write(&aside, component)?;
    let mut admin = Connection::open(&server.admin)?;
    let mut version = || -> Result<String> {
        let (_, body) = admin.get("/plugins")?;
        let plugins: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(plugins[0]["version"].as_str().unwrap_or_default().to_owned())
    };
    let before = version()?;

    let begun = Instant::now();
    fs::rename(&aside, server.plugins().join("hello.wasm"))?;
    while version()? == before {
        ensure!(begun.elapsed() < PATIENCE, "not served after {PATIENCE:?}:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    // Whatever it says to the path, it is its own code that says it.
    Connection::open(&server.http)?.get("/hello/")?;
    Ok(begun.elapsed())
}

/// Renames version `number` over the plugin and asks until it answers.
fn replace(server: &Server, component: &[u8], number: usize) -> Result<Duration> {
    let marker = format!("WHARF-VERSION-{number:02}");
    let aside = server.dir().join("next.wasm");
    fs::write(&aside, patched(component, marker.as_bytes())?)?;
    let mut connection = Connection::open(&server.http)?;

    let begun = Instant::now();
    fs::rename(&aside, server.plugins().join("hello.wasm"))?;
    loop {
        let (status, body) = connection.get("/hello/")?;
        if status == 200 && contains(&body, marker.as_bytes()) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > PATIENCE {
            bail!("{marker} is not served after {PATIENCE:?}:\n{}", server.log());
        }
    }
}

fn patched(component: &[u8], marker: &[u8]) -> Result<Vec<u8>> {
    let at = component
        .windows(MARKER.len())
        .position(|window| window == MARKER)
        .context("the guest has no version marker")?;
    let mut patched = component.to_vec();
    patched[at..at + marker.len()].copy_from_slice(marker);
    Ok(patched)
}

fn contains(body: &[u8], marker: &[u8]) -> bool {
    body.windows(marker.len()).any(|window| window == marker)
}

fn ask_on(address: &str, stop: &AtomicBool, answered: &AtomicU64, failed: &AtomicU64) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(address),
        }
        .and_then(|mut open: Connection| open.get("/hello/").map(|answer| (open, answer.0)));
        match asked {
            Ok((open, 200)) => {
                answered.fetch_add(1, Ordering::Relaxed);
                connection = Some(open);
            }
            Ok(_) | Err(_) => {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A blocking HTTP/1.1 connection, for answers with a length or in chunks.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // The buffers of thousands of idle connections should not be ours.
        Ok(Self { reader: BufReader::with_capacity(1024, socket) })
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).context("no status")?.parse()?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", _)) => is_chunked = true,
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        if !is_chunked {
            body.resize(length, 0);
            self.reader.read_exact(&mut body)?;
            return Ok((status, body));
        }
        loop {
            let size = usize::from_str_radix(&self.line()?, 16)?;
            let start = body.len();
            body.resize(start + size, 0);
            self.reader.read_exact(&mut body[start..])?;
            // The line end of the chunk; after the last one, the empty line after trailers.
            while !self.line()?.is_empty() {}
            if size == 0 {
                return Ok((status, body));
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

/// Open connections that have had one answer each.
pub(crate) fn connections(address: &str, path: &str, count: u64) -> Result<Vec<Connection>> {
    (0..count)
        .map(|_| {
            let mut connection = Connection::open(address)?;
            let (status, _) = connection.get(path)?;
            ensure!(status == 200, "{path}: {status}");
            Ok(connection)
        })
        .collect()
}
