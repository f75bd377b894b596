//! What a hostile plugin costs the others: the latency of a small answer, alone and while clients keep
//! calling a guest that misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;

use crate::Options;
use crate::generators::Generator;
use crate::reload::Connection;
use crate::report::{self, Row, say};
use crate::scenarios::places;
use crate::servers::{Server, guest};

/// Clients that call the hostile guest, one request at a time each.
const CALLERS: usize = 4;
/// Limits under which a hostile call ends soon, so that many are made.
const HOSTILE: &str = "[limits]\nrequest-timeout = \"1s\"\ncpu-time = \"500ms\"\n";

/// Measures a plugin beside each hostile guest in turn.
pub(crate) fn neighbours(options: &Options) -> Result<()> {
    if let Some(missing) = Generator::WrkFew.missing() {
        say(&format!("\nneighbours: {missing}"));
        return Ok(());
    }
    let hostile = [
        ("loops for ever", "hostile_loop", ""),
        ("allocates for ever", "hostile_alloc", ""),
        ("floods its output", "hostile_flood_output", "flood"),
        ("writes nothing for ever", "hostile_zero_chunks", ""),
    ];
    let plain = guest(options, "p3_plain")?;
    let guests: Vec<Vec<u8>> =
        hostile.iter().map(|(_, name, _)| guest(options, name)).collect::<Result<_>>()?;
    let mut plugins: Vec<(&str, &[u8], &str)> = vec![("hello", &plain, "")];
    for ((_, name, _), component) in hostile.iter().zip(&guests) {
        plugins.push((name, component, HOSTILE));
    }
    let (server_place, client_place) = places(options);
    let server = Server::wharf(options, server_place, &plugins)?;
    let url = format!("http://{}/hello/", server.http);

    let mut rows: Vec<Row> = vec![Row { name: "alone".to_owned(), runs: Vec::new() }];
    rows.extend(
        hostile
            .iter()
            .map(|(what, ..)| Row { name: format!("beside one that {what}"), runs: Vec::new() }),
    );
    let calls = AtomicU64::new(0);
    for _ in 0..options.rounds {
        for (index, row) in rows.iter_mut().enumerate() {
            let callers = match index.checked_sub(1) {
                Some(which) => {
                    let (_, plugin, path) = hostile[which];
                    Callers::start(&server.http, &format!("/{plugin}/{path}"))
                }
                None => Callers::default(),
            };
            Generator::WrkFew.run(&url, std::time::Duration::from_secs(1), client_place)?;
            let before = server.cpu_us()?;
            let mut run = Generator::WrkFew.run(&url, options.duration(), client_place)?;
            run.cpu_us = server.cpu_us()? - before;
            row.runs.push(run);
            calls.fetch_add(callers.stop(), Ordering::Relaxed);
        }
    }
    report::table("neighbours, HTTP/1.1 (wrk -c8)", &rows);
    say(&format!("hostile calls that ended meanwhile: {}", calls.load(Ordering::Relaxed)));
    Ok(())
}

/// Clients of a hostile guest.
#[derive(Default)]
struct Callers {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Callers {
    fn start(address: &str, path: &str) -> Self {
        let mut callers = Self::default();
        for _ in 0..CALLERS {
            let (stop, ended) = (Arc::clone(&callers.stop), Arc::clone(&callers.ended));
            let (address, path) = (address.to_owned(), path.to_owned());
            callers.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // However it ends, by an answer or a closed connection, it is over.
                    let _ended = Connection::open(&address).and_then(|mut open| open.get(&path));
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        callers
    }

    /// Waits for the last calls; how many there were.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _panicked = thread.join();
        }
        self.ended.load(Ordering::Relaxed)
    }
}
