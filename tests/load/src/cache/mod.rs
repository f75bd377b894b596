//! The shared cache: hits beside a native server, varnish and nginx; ten thousand clients at one cold
//! object; a gigabyte; stale while revalidated; memory under random load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::Semaphore;

mod clients;
mod fronts;

use self::clients::{Client, block_on, one};
use crate::generators::Generator;
use crate::report::{figure, quantile, say};
use crate::scenarios::{self, Contender, compare};
use crate::servers::Server;
use crate::{Options, machine};

/// What of it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Hits of 100 bytes and of 10 KB.
    Hits,
    /// Ten thousand clients that ask for one object which nobody has.
    Collapse,
    /// An object of 1 GiB.
    Large,
    /// Clients of an object that is stale and being revalidated.
    Stale,
    /// Random entries for minutes.
    Memory,
}

const GIB: u64 = 1 << 30;
/// Clients at once, and how many of them connect at once.
const CROWD: usize = 10_000;
const CONNECTING: usize = 64;
/// How long the plugin takes for the object that they ask for.
const COLD: Duration = Duration::from_secs(1);
/// How long the plugin takes for one that is being revalidated, and how long clients ask for it.
const SLOW: Duration = Duration::from_millis(500);
const ASKING: Duration = Duration::from_secs(8);
/// Of the random load: clients, different entries, and the cache's size, all of it in MiB.
const LOADING: usize = 8;
const ENTRIES: u64 = 2_000;
const SIZE_MIB: u64 = 128;

/// Measures all of `options.cache_parts`.
pub(crate) fn cache(options: &Options) -> Result<()> {
    let parts = match &options.cache_parts[..] {
        [] => Part::value_variants(),
        some => some,
    };
    for part in parts {
        match part {
            Part::Hits => hits(options)?,
            Part::Collapse => collapse(options)?,
            Part::Large => large(options)?,
            Part::Stale => stale(options)?,
            Part::Memory => memory(options)?,
        }
    }
    Ok(())
}

/// Hits, which no plugin and no origin sees.
fn hits(options: &Options) -> Result<()> {
    let place = scenarios::places(options).0;
    // In front of the others; it has nothing to do once they have the object.
    let origin = Server::native(place)?;
    for (bytes, path, cached) in [
        ("100 bytes", "/bytes/100", "/cached/?bytes=100"),
        ("10 KB", "/bytes/10240", "/cached/?bytes=10240"),
    ] {
        for (version, generator) in
            [("HTTP/1.1 (wrk -c64)", Generator::Wrk), ("h2c (h2load -c32 -m10)", Generator::H2load)]
        {
            let http2 = generator == Generator::H2load;
            let mut contenders = vec![
                Contender { name: "native hyper", server: Server::native(place)?, path },
                Contender {
                    name: "wharf, a hit",
                    server: fronts::wharf(options, place, "", "")?,
                    path: cached,
                },
            ];
            for (name, server) in [
                ("varnish, a hit", fronts::varnish(place, &origin.http)),
                ("nginx proxy_cache, a hit", fronts::nginx(place, &origin.http, http2)),
            ] {
                match server {
                    Ok(server) => contenders.push(Contender { name, server, path }),
                    Err(error) => say(&format!("{name}: {error:#}")),
                }
            }
            let title = format!("cache, {bytes}, {version}");
            compare(options, &title, generator, false, &contenders)?;
        }
    }
    Ok(())
}

/// How often the plugin was called.
fn calls(server: &Server) -> Result<u64> {
    let socket = std::net::TcpStream::connect(&server.http)?;
    let told = http1_text(socket, "/cached/calls")?;
    Ok(told.trim().parse().unwrap_or(0))
}

fn http1_text(mut socket: std::net::TcpStream, path: &str) -> Result<String> {
    use std::io::{Read, Write};

    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}

/// One cold object, ten thousand clients.
fn collapse(options: &Options) -> Result<()> {
    machine::allow_files();
    say(&format!("\n{CROWD} clients ask at once for one object; the plugin takes {COLD:?}"));
    for round in 0..options.rounds {
        let server = fronts::wharf(options, scenarios::places(options).0, "", "")?;
        let path = format!("/cached/?count&delay_ms={}", COLD.as_millis());
        let (waits, wrong) = block_on(crowd(&server.http, &path))?;
        figure(&format!("round {}: calls of the plugin", round + 1), &calls(&server)?.to_string());
        figure("  clients without the answer of that call", &wrong.to_string());
        let ms = |share| format!("{:.0} ms", quantile(waits.iter().copied(), share));
        figure("  waits: median", &ms(0.5));
        figure("  the longest", &ms(1.0));
    }
    Ok(())
}

/// The waits of clients that ask at the same time, in milliseconds, and how many got something wrong.
async fn crowd(authority: &str, path: &str) -> Result<(Vec<f64>, usize)> {
    let connecting = Semaphore::new(CONNECTING);
    let clients = try_join_all((0..CROWD).map(|_| async {
        let _turn = connecting.acquire().await?;
        Client::connect(authority).await
    }))
    .await?;
    let answers =
        join_all(clients.into_iter().map(|mut client| async move { client.get(path).await })).await;
    let is_right = |answer: &Result<clients::Got>| {
        answer.as_ref().is_ok_and(|got| (got.status, got.call) == (200, Some(1)))
    };
    let wrong = answers.iter().filter(|answer| !is_right(answer)).count();
    let waits = answers.iter().flatten().map(|got| got.took.as_secs_f64() * 1e3).collect();
    Ok((waits, wrong))
}

/// A gigabyte: larger than what is stored, and stored.
fn large(options: &Options) -> Result<()> {
    say("\n1 GiB through the cache: memory (Pss) above what it was before");
    let limits = "[limits]\nbody = \"4GiB\"\ncpu-time = \"60s\"\nrequest-timeout = \"60s\"\n";
    let server = fronts::wharf(options, scenarios::places(options).0, "", limits)?;
    let before = server.settled_pss_kib()?;
    for name in ["one client", "a second one"] {
        let watch = Watch::begin(&server)?;
        let got = one(&server.http, &format!("/cached/?bytes={GIB}"))?;
        let most = watch.end();
        ensure!(got.bytes == GIB, "{name}: {} bytes", got.bytes);
        let seconds = got.took.as_secs_f64();
        figure(&format!("{name}: MB/s"), &format!("{:.0}", GIB as f64 / 1e6 / seconds));
        figure("  at most", &format!("{} KiB", most.saturating_sub(before)));
    }
    Ok(())
}

/// Clients that ask for an object with a second of freshness, whose plugin is slow.
fn stale(options: &Options) -> Result<()> {
    const ASKERS: usize = 50;
    say(&format!("\nstale-while-revalidate: a plugin that takes {SLOW:?}, {ASKERS} clients"));
    let server = fronts::wharf(options, scenarios::places(options).0, "", "")?;
    let path = format!(
        "/cached/?count&delay_ms={}&cc=max-age=1,stale-while-revalidate=3600",
        SLOW.as_millis()
    );
    one(&server.http, &path)?;
    let waits: Vec<f64> = block_on(async {
        let until = Instant::now() + ASKING;
        let asked = try_join_all((0..ASKERS).map(|_| async {
            let mut client = Client::connect(&server.http).await?;
            let mut waits = Vec::new();
            while Instant::now() < until {
                let got = client.get(&path).await?;
                ensure!(got.status == 200, "{}", got.status);
                waits.push(got.took.as_secs_f64() * 1e3);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(waits)
        }))
        .await?;
        Ok(asked.concat())
    })?;
    figure("answers", &waits.len().to_string());
    figure("calls of the plugin, the first included", &calls(&server)?.to_string());
    figure("median wait", &format!("{:.2} ms", quantile(waits.iter().copied(), 0.5)));
    figure("the longest", &format!("{:.1} ms", quantile(waits.iter().copied(), 1.0)));
    Ok(())
}

/// Entries of 100 bytes to 10 MB, more of them than there is room for.
fn memory(options: &Options) -> Result<()> {
    let lasts = Duration::from_secs_f64(options.minutes * 60.0);
    say(&format!(
        "\nmemory: a cache of {SIZE_MIB} MiB, entries of 100 bytes to 10 MB, {LOADING} clients, {lasts:?}"
    ));
    let config = format!("[cache]\nsize = \"{SIZE_MIB}MiB\"\n");
    let manifest = format!("[cache]\nsize = \"{SIZE_MIB}MiB\"\nlargest = \"16MiB\"\n");
    let server = fronts::wharf(options, scenarios::places(options).0, &config, &manifest)?;
    // What is not the cache's: instances, buffers, code that runs for the first time.
    block_on(load(&server.http, Duration::from_secs(2), "no-store"))?;
    let before = server.settled_pss_kib()?;
    let watch = Watch::begin(&server)?;
    let answers = block_on(load(&server.http, lasts, "max-age=3600"))?;
    let most = watch.end();
    let after = server.settled_pss_kib()?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let share = |kib: u64| 100.0 * mib(kib.saturating_sub(before)) / SIZE_MIB as f64;
    figure("answers", &answers.to_string());
    figure("before", &format!("{:.1} MiB", mib(before)));
    figure("at most", &format!("{:.1} MiB", mib(most)));
    figure("  above before, of the configured size", &format!("{:.1} %", share(most)));
    figure("at rest afterwards", &format!("{:.1} MiB", mib(after)));
    figure("  above before, of the configured size", &format!("{:.1} %", share(after)));
    Ok(())
}

/// Clients that ask for random entries; how many answers they got.
async fn load(authority: &str, lasts: Duration, control: &str) -> Result<u64> {
    let until = Instant::now() + lasts;
    let answers = AtomicU64::new(0);
    try_join_all((0..LOADING).map(|number| {
        let answers = &answers;
        async move {
            let mut client = Client::connect(authority).await?;
            let mut random = Random(number as u64 + 1);
            while Instant::now() < until {
                let entry = random.next() % ENTRIES;
                let path = format!("/cached/?entry={entry}&bytes={}&cc={control}", size_of(entry));
                let got = client.get(&path).await?;
                ensure!(got.bytes == size_of(entry), "entry {entry}: {} bytes", got.bytes);
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }))
    .await?;
    Ok(answers.into_inner())
}

/// An entry's size: as many of each power of ten.
fn size_of(entry: u64) -> u64 {
    let position = Random(entry + 1).next() % 1_000;
    (100.0 * 10f64.powf(position as f64 / 200.0)) as u64
}

/// Xorshift, so that every run asks for the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let mut x = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
}

/// Looks at a server's memory while something else is done.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn begin(server: &Server) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let pid = server.pid();
        let first = server.pss_kib()?;
        let thread = std::thread::spawn(move || {
            let mut most = first;
            while !over.load(Ordering::Relaxed) {
                most = most.max(machine::pss_kib(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(100));
            }
            most
        });
        Ok(Self { is_over, thread })
    }

    /// The most that it was, in KiB.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_all_sizes_from_100_bytes_to_10_mb() {
        let sizes: Vec<u64> = (0..ENTRIES).map(size_of).collect();

        assert!(sizes.iter().all(|size| (100..=10_000_000).contains(size)));
        assert!(sizes.iter().any(|size| *size < 200));
        assert!(sizes.iter().any(|size| *size > 5_000_000));
        assert!(sizes.iter().sum::<u64>() > (4 * SIZE_MIB) << 20, "they would all fit");
    }
}
