//! Many subscribers who are cut off again and again while events are published to a durable topic,
//! across a change of the plugin and a restart of the server: each gets every event once, in order.
//!
//! `WHARF_STORM=1` runs all of it: 1,000 subscribers, 20 times, 50,000 events.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wharf_tests::{Client, TestServer, guest};

const MANIFEST: &str = "\
[capabilities]
hub = { publish = [\"durable/*\"], subscribe = [\"durable/*\"] }
[[topic]]
pattern = \"durable/*\"
durable = true
events = 100000
bytes = \"64MiB\"
age = \"2h\"
";
/// Publishers at once, so that the disk is asked for several events together, and what each of them
/// publishes with one request.
const PUBLISHERS: usize = 8;
const AT_ONCE: usize = 10;
/// When a client comes back that could not connect or was cut off by the server.
const PAUSE: Duration = Duration::from_millis(20);
/// Without any event for so long a subscriber is without one.
const STALLED: Duration = Duration::from_secs(180);
/// What no event has as its data.
const END: usize = usize::MAX;

struct Storm {
    subscribers: usize,
    cuts: usize,
    events: usize,
}

fn storm() -> Storm {
    match std::env::var_os("WHARF_STORM") {
        Some(_) => Storm { subscribers: 1000, cuts: 20, events: 50_000 },
        None => Storm { subscribers: 100, cuts: 5, events: 3000 },
    }
}

/// What all who take part share.
struct Shared {
    /// How often all were cut off, and where the server listens now.
    now: watch::Receiver<(usize, SocketAddr)>,
    /// What came, in its order: whoever gets an event first says what it is, for all others.
    order: Mutex<Vec<usize>>,
    received: AtomicUsize,
    connections: AtomicUsize,
    told_lost: AtomicUsize,
}

#[derive(Debug)]
enum Broken {
    /// It comes back.
    Connection,
    /// It got what it should not have got.
    Wrong(String),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Connection
    }
}

/// One subscriber: raw, so that a thousand of them cost this process little.
struct Subscriber {
    shared: Arc<Shared>,
    now: watch::Receiver<(usize, SocketAddr)>,
    last_id: String,
    got: usize,
    is_over: bool,
}

impl Subscriber {
    async fn run(mut self) -> Result<usize, String> {
        while !self.is_over {
            match self.follow().await {
                Ok(()) => {}
                Err(Broken::Wrong(what)) => return Err(what),
                Err(Broken::Connection) => sleep(PAUSE).await,
            }
        }
        Ok(self.got)
    }

    /// One connection, until all are cut off or the last event has come.
    async fn follow(&mut self) -> Result<(), Broken> {
        let (_, address) = *self.now.borrow_and_update();
        let mut stream = TcpStream::connect(address).await?;
        let (query, header) = match self.last_id.as_str() {
            "" => ("&start=earliest", String::new()),
            id => ("", format!("Last-Event-ID: {id}\r\n")),
        };
        let request = format!(
            "GET /hub/stream?topic=durable/storm{query} HTTP/1.1\r\nHost: wharf\r\n{header}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = BytesMut::with_capacity(16 << 10);
        let (mut has_status, mut id) = (false, String::new());
        loop {
            let read = tokio::select! {
                // In the middle of whatever comes.
                _ = self.now.changed() => return Ok(()),
                read = timeout(STALLED, stream.read_buf(&mut bytes)) => read,
            };
            match read {
                Ok(Ok(0)) | Ok(Err(_)) => return Err(Broken::Connection),
                Ok(Ok(_)) => {}
                Err(_elapsed) => {
                    let (got, id) = (self.got, &self.last_id);
                    return Err(Broken::Wrong(format!("nothing came after {got} ({id})")));
                }
            }
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line = bytes.split_to(end);
                bytes.advance(1);
                let line = std::str::from_utf8(&line).unwrap().trim_end_matches('\r');
                if !has_status {
                    // No plugin for the moment.
                    if line != "HTTP/1.1 200 OK" {
                        return Err(Broken::Connection);
                    }
                    has_status = true;
                    self.shared.connections.fetch_add(1, Ordering::Relaxed);
                } else if line == "x-resumption: lost" {
                    self.shared.told_lost.fetch_add(1, Ordering::Relaxed);
                } else if let Some(text) = line.strip_prefix("id: ") {
                    text.clone_into(&mut id);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    // Each event is one line of data: with that it is there.
                    std::mem::swap(&mut self.last_id, &mut id);
                    self.got(data)?;
                }
            }
            if self.is_over {
                return Ok(());
            }
        }
    }

    fn got(&mut self, data: &str) -> Result<(), Broken> {
        let number = if data == "end" { END } else { data.parse().unwrap() };
        let mut order = self.shared.order.lock();
        match order.get(self.got) {
            None => order.push(number),
            Some(expected) if *expected == number => {}
            Some(expected) => {
                let (got, id) = (self.got, &self.last_id);
                let what = format!("the {got}th was {number}, not {expected}, id {id}");
                return Err(Broken::Wrong(what));
            }
        }
        self.got += 1;
        self.is_over = number == END;
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Publishes what `next` gives it, until `events` are through; what was acknowledged, and what may or
/// may not have been published because the server went away.
async fn publish(
    mut now: watch::Receiver<(usize, SocketAddr)>,
    next: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    events: usize,
) -> (Vec<usize>, Vec<usize>) {
    let (mut acknowledged, mut uncertain) = (Vec::new(), Vec::new());
    loop {
        let (_, address) = *now.borrow_and_update();
        if TcpStream::connect(address).await.is_err() {
            sleep(PAUSE).await;
            continue;
        }
        // It may go away just now; the harness panics then.
        let Ok(mut client) = tokio::spawn(Client::h1(address)).await else { continue };
        loop {
            let from = next.fetch_add(AT_ONCE, Ordering::Relaxed);
            if from >= events {
                return (acknowledged, uncertain);
            }
            let numbers = from..from + AT_ONCE;
            let path = format!("/hub/many?topic=durable/storm&from={from}&count={AT_ONCE}");
            let request = client.request(http::Method::POST, &path).body(bytes::Bytes::new());
            match client.try_send(request.unwrap()).await {
                Ok(answer) if answer.status == 200 => acknowledged.extend(numbers),
                Ok(_) => uncertain.extend(numbers),
                Err(_) => {
                    uncertain.extend(numbers);
                    done.fetch_add(AT_ONCE, Ordering::Relaxed);
                    break;
                }
            }
            done.fetch_add(AT_ONCE, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_cut_off_again_and_again_get_every_event_once() {
    let Storm { subscribers, cuts, events } = storm();
    let begun = Instant::now();
    let config = "[limits]\nconnections = 5000\nconnections-per-address = 5000";
    let mut server = TestServer::builder()
        .plugin("hub", &guest("p3_hub"))
        .manifest("hub", MANIFEST)
        .config(config)
        .start()
        .await;
    let (tell, now) = watch::channel((0, server.http.unwrap()));
    let shared = Arc::new(Shared {
        now: now.clone(),
        order: Mutex::default(),
        received: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
        told_lost: AtomicUsize::new(0),
    });
    let mut all = JoinSet::new();
    for _ in 0..subscribers {
        let (shared, now) = (Arc::clone(&shared), shared.now.clone());
        let last_id = String::new();
        all.spawn(Subscriber { shared, now, last_id, got: 0, is_over: false }.run());
    }
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        publishers.spawn(publish(now.clone(), Arc::clone(&next), Arc::clone(&done), events));
    }

    for cut in 1..=cuts {
        while done.load(Ordering::Relaxed) < cut * events / (cuts + 1) {
            if let Some(ended) = all.try_join_next() {
                panic!("{:?}\n{}", ended.unwrap(), server.log());
            }
            sleep(Duration::from_millis(5)).await;
        }
        if cut == cuts / 3 + 1 {
            // The same component with a section of its own more.
            let mut changed = guest("p3_hub");
            changed.extend([0, 3, 1, b'x', 0]);
            server.install("hub", &changed);
        }
        if cut == cuts * 2 / 3 + 1 {
            server.signal("KILL").await;
            server = server.restart().await;
        }
        tell.send((cut, server.http.unwrap())).unwrap();
    }
    let (mut acknowledged, mut uncertain) = (BTreeSet::new(), BTreeSet::new());
    while let Some(published) = publishers.join_next().await {
        let (sure, unsure) = published.unwrap();
        acknowledged.extend(sure);
        uncertain.extend(unsure);
    }
    let published = begun.elapsed();
    let last = server.h1().await.post("/hub/publish?topic=durable/storm", "end").await;
    assert_eq!(last.status, 200, "{last:?}");
    let mut counts = BTreeSet::new();
    while let Some(ended) = all.join_next().await {
        match ended.unwrap() {
            Ok(count) => counts.insert(count),
            Err(wrong) => panic!("{wrong}\n{}", server.log()),
        };
    }

    let mut order = shared.order.lock().clone();
    assert_eq!(order.pop(), Some(END));
    assert_eq!(counts, BTreeSet::from([order.len() + 1]), "all get as many");
    let distinct: BTreeSet<usize> = order.iter().copied().collect();
    assert_eq!(distinct.len(), order.len(), "none is there twice");
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let foreign: Vec<_> = distinct
        .iter()
        .filter(|one| !acknowledged.contains(one) && !uncertain.contains(one))
        .collect();
    assert!(foreign.is_empty(), "never published: {foreign:?}");
    assert_eq!(shared.told_lost.load(Ordering::Relaxed), 0, "nobody is told of a loss");
    eprintln!(
        "{subscribers} subscribers, {cuts} cuts, {} events ({} not acknowledged): {} connections, {} \
         deliveries; published in {published:.1?}, all over after {:.1?}",
        order.len(),
        uncertain.len(),
        shared.connections.load(Ordering::Relaxed),
        shared.received.load(Ordering::Relaxed),
        begun.elapsed(),
    );
}
