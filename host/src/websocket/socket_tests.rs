use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::*;
use crate::drain::Drain;
use crate::http::conn::Conn;
use crate::hub::Counted;
use crate::websocket::frame::unmask;
use crate::websocket::sockets::Unsent;
use crate::websocket::{Identity, Listener, Message, PING_INTERVAL, Payload, Sockets};

/// What the listener was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Message(Payload),
    Closed(u16, String),
}

/// Tells what it is told; messages take as long as `slow` says.
#[derive(Debug)]
struct Recorder {
    told: mpsc::UnboundedSender<Told>,
    slow: Option<Arc<Notify>>,
    echo: bool,
    running: Arc<AtomicUsize>,
}

impl Listener for Recorder {
    fn message(
        &self,
        socket: &Arc<Handle>,
        message: Payload,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let (told, slow, running) =
            (self.told.clone(), self.slow.clone(), Arc::clone(&self.running));
        let echo = self.echo.then(|| Arc::clone(socket));
        Box::pin(async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            if let Some(slow) = slow {
                slow.notified().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            if message == Payload::Text("trap".to_owned()) {
                return Err(Fault::Failed);
            }
            if let Some(socket) = echo {
                let answer = match &message {
                    Payload::Text(text) => Message::text(text),
                    Payload::Binary(bytes) => Message::binary(bytes),
                };
                let _gone = socket.send_when_possible(answer).await;
            }
            let _nobody_listens = told.send(Told::Message(message));
            Ok(())
        })
    }

    fn closed(&self, _: &Arc<Handle>, code: u16, reason: String) -> BoxFuture<'static, ()> {
        let _nobody_listens = self.told.send(Told::Closed(code, reason));
        Box::pin(async {})
    }
}

/// A socket over a pipe, and both its sides.
struct Pair {
    client: DuplexStream,
    told: mpsc::UnboundedReceiver<Told>,
    handle: Arc<Handle>,
    sockets: Arc<Sockets>,
    drain: Drain,
    task: JoinHandle<SwitchEnd>,
}

struct Setup {
    settings: Settings,
    slow: Option<Arc<Notify>>,
    echo: bool,
    pipe: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            settings: Settings {
                max_message: 100_000,
                idle_timeout: Duration::from_secs(60),
                ping_interval: Some(PING_INTERVAL),
                rate: None,
                deflate: None,
            },
            slow: None,
            echo: false,
            pipe: 64 * 1024,
        }
    }
}

impl Setup {
    fn begin(self) -> Pair {
        let (sender, told) = mpsc::unbounded_channel();
        let listener =
            Recorder { told: sender, slow: self.slow, echo: self.echo, running: Arc::default() };
        let drain = Drain::new();
        let sockets = Sockets::new(Arc::new(listener), drain.clone());
        let identity = Identity::new(&Conn::unconnected(0), None, Vec::new());
        let open = sockets.open(&Arc::from("chat"), counted(), identity);
        let handle = Arc::clone(&open.handle);
        let accepted =
            Accepted { open, settings: self.settings, feed: None, opening: None, closing: None };
        let (client, server) = duplex(self.pipe);
        let promised = Box::new(accepted.promised());
        let task = drain.clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        task.spawn(async move {
            let limits = Limits::default();
            let _nobody_waits = end.send(promised.run(Box::new(server), &limits).await);
        });
        #[expect(clippy::disallowed_methods, reason = "waits for the end, in a test")]
        let task = tokio::spawn(async move { ended.await.unwrap_or(Err(BodyError::Gone)) });
        Pair { client, told, handle, sockets, drain, task }
    }
}

fn counted() -> Counted {
    Counted::one(&Arc::default(), 1).expect("it is the first")
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    assert!(payload.len() < 126);
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend_from_slice(payload);
    unmask(&mut mask.clone(), &mut frame[6..]);
    frame
}

impl Pair {
    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.client.write_all(&masked(first, payload)).await.expect("the server reads");
    }

    /// The next frame of the server's.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.client.read_u8().await.expect("there is a frame");
        let length = match self.client.read_u8().await.expect("there is a length") {
            126 => usize::from(self.client.read_u16().await.expect("there is a length")),
            127 => self.client.read_u64().await.expect("there is a length") as usize,
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.client.read_exact(&mut payload).await.expect("there is a payload");
        (first, payload)
    }

    async fn told(&mut self) -> Told {
        self.told.recv().await.expect("the listener lives")
    }

    /// Reads to the end of the stream.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.client.read_to_end(&mut rest).await.expect("it ends");
        rest
    }
}

fn said(code: u16, reason: &str) -> Vec<u8> {
    close::payload(code, reason)
}

#[tokio::test(start_paused = true)]
async fn messages_go_to_the_listener_and_back_in_order() {
    let mut pair = Setup { echo: true, ..Setup::default() }.begin();

    for n in 0..20 {
        pair.send(0x81, format!("{n}").as_bytes()).await;
    }

    for n in 0..20 {
        assert_eq!(pair.frame().await, (0x81, format!("{n}").into_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_answered_and_told_once() {
    for (payload, expected) in [
        (said(1000, "done"), Told::Closed(1000, "done".to_owned())),
        (said(4321, ""), Told::Closed(4321, String::new())),
        (Vec::new(), Told::Closed(1005, String::new())),
    ] {
        let mut pair = Setup::default().begin();

        pair.send(0x88, &payload).await;

        let code = &payload[..payload.len().min(2)];
        assert_eq!(pair.frame().await, (0x88, code.to_vec()));
        assert!(pair.rest().await.is_empty(), "our side ends first");
        drop(pair.client);
        assert_eq!(pair.told.recv().await, Some(expected));
        assert!(pair.task.await.unwrap().is_ok());
        assert_eq!(pair.handle.send(Message::text("late")), Err(Unsent::Gone));
        drop(pair.handle);
        pair.drain.finish(Duration::from_secs(1)).await;
        assert!(pair.sockets.is_empty());
        drop(pair.sockets);
        assert_eq!(pair.told.recv().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_lost_is_told_as_1006() {
    let mut pair = Setup::default().begin();
    pair.send(0x81, b"last").await;

    drop(pair.client);

    assert_eq!(pair.told.recv().await, Some(Told::Message(Payload::Text("last".to_owned()))));
    assert_eq!(pair.told.recv().await, Some(Told::Closed(1006, String::new())));
    assert!(pair.task.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_after_the_message_that_is_being_taken() {
    let slow = Arc::new(Notify::new());
    let mut pair = Setup { slow: Some(Arc::clone(&slow)), ..Setup::default() }.begin();
    pair.send(0x81, b"slow").await;
    pair.send(0x88, &said(1000, "")).await;
    assert_eq!(pair.frame().await.0, 0x88);
    drop(pair.client);
    assert!(pair.task.await.unwrap().is_ok());
    assert!(pair.told.try_recv().is_err());

    slow.notify_one();

    assert_eq!(pair.told.recv().await, Some(Told::Message(Payload::Text("slow".to_owned()))));
    assert_eq!(pair.told.recv().await, Some(Told::Closed(1000, String::new())));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_read_while_its_message_is_being_taken() {
    let slow = Arc::new(Notify::new());
    let mut pair = Setup { slow: Some(Arc::clone(&slow)), pipe: 1024, ..Setup::default() }.begin();

    pair.send(0x81, b"first").await;
    pair.send(0x89, b"still there?").await;
    assert_eq!(pair.frame().await, (0x8a, b"still there?".to_vec()));
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(20), pair.send(0x82, &[0; 100])).await.is_ok() {
        sent += 1;
        assert!(sent < 500, "back-pressure reaches the client");
    }

    assert!(pair.told.try_recv().is_err());
    slow.notify_one();
    assert_eq!(pair.told().await, Told::Message(Payload::Text("first".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn violations_are_said_and_end_it() {
    for (wire, code) in [
        (masked(0x83, b""), 1002),
        (vec![0x81, 0x01, b'x'], 1002),
        (masked(0x81, b"\xff"), 1007),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        (masked(0x81, b"trap"), 1011),
    ] {
        let mut pair = Setup::default().begin();

        pair.client.write_all(&wire).await.unwrap();
        if code != 1011 {
            pair.client.write_all(&[0x55; 3000]).await.unwrap();
        }

        let (first, payload) = pair.frame().await;
        assert_eq!((first, &payload[..2]), (0x88, &u16::to_be_bytes(code)[..]));
        assert!(pair.rest().await.is_empty());
        drop(pair.client);
        let Some(Told::Closed(told, _)) = pair.told.recv().await else { panic!("it is told") };
        assert_eq!(told, code);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_goes_before_the_close() {
    let mut pair = Setup::default().begin();
    for n in 0..3 {
        pair.handle.send(Message::text(&format!("{n}"))).unwrap();
    }

    pair.handle.close(4000, "enough").unwrap();
    assert_eq!(pair.handle.send(Message::text("late")), Err(Unsent::Gone));
    assert_eq!(pair.handle.close(1000, ""), Err(Unsent::Gone));

    for n in 0..3 {
        assert_eq!(pair.frame().await, (0x81, format!("{n}").into_bytes()));
    }
    assert_eq!(pair.frame().await, (0x88, said(4000, "enough")));
    pair.send(0x81, b"ignored").await;
    pair.send(0x88, &said(4000, "")).await;
    assert!(pair.rest().await.is_empty());
    drop(pair.client);
    assert_eq!(pair.told.recv().await, Some(Told::Closed(4000, String::new())));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_nobody_answers_ends_all_the_same() {
    let mut pair = Setup::default().begin();

    pair.handle.close(1000, "").unwrap();

    assert_eq!(pair.told().await, Told::Closed(1006, String::new()));
    assert!(pair.task.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_waits() {
    let mut pair = Setup { pipe: 64, ..Setup::default() }.begin();
    let mut queued = 0;
    while pair.handle.send(Message::text("0123456789")).is_ok() {
        queued += 1;
        tokio::task::yield_now().await;
    }
    assert!((64..80).contains(&queued), "{queued}");
    let (handle, waiting) = (Arc::clone(&pair.handle), Arc::new(AtomicUsize::new(0)));
    let done = Arc::clone(&waiting);
    pair.drain.spawn(async move {
        handle.send_when_possible(Message::text("at last")).await.unwrap();
        done.store(1, Ordering::SeqCst);
    });
    tokio::task::yield_now().await;
    assert_eq!(waiting.load(Ordering::SeqCst), 0);

    for _ in 0..queued {
        assert_eq!(pair.frame().await.1, b"0123456789");
    }

    assert_eq!(pair.frame().await.1, b"at last");
    let large = Message::binary(&vec![0; 2 << 20]);
    pair.handle.send(Arc::clone(&large)).expect("alone, it may be larger than the bound");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_is_asked_and_a_silent_one_given_up() {
    let begun = Instant::now();
    let mut pair = Setup::default().begin();

    assert_eq!(pair.frame().await, (0x89, Vec::new()));
    assert_eq!(begun.elapsed().as_secs(), 25);
    pair.send(0x8a, b"").await;
    assert_eq!(pair.frame().await, (0x89, Vec::new()));
    assert_eq!(begun.elapsed().as_secs(), 50);
    assert_eq!(pair.frame().await, (0x89, Vec::new()));
    assert_eq!(begun.elapsed().as_secs(), 75);
    let (first, payload) = pair.frame().await;
    assert_eq!((first, &payload[..2]), (0x88, &u16::to_be_bytes(1001)[..]));
    assert_eq!(begun.elapsed().as_secs(), 25 + 60);

    assert_eq!(pair.told().await, Told::Closed(1006, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let begun = Instant::now();
    let mut pair = Setup { pipe: 64, ..Setup::default() }.begin();

    pair.handle.send(Message::binary(&[0; 1000])).unwrap();

    assert_eq!(pair.told().await, Told::Closed(1006, String::new()));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_drop_by_drop_is_given_up() {
    let begun = Instant::now();
    let mut pair = Setup::default().begin();
    pair.client.write_all(&[0x82, 0xfe, 0x7f, 0xff, 0, 0, 0, 0]).await.unwrap();

    let code = loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if let Ok(told) = pair.told.try_recv() {
            break told;
        }
        let _ended = pair.client.write_all(b"x").await;
    };

    assert_eq!(code, Told::Closed(1008, "message too slow".to_owned()));
    assert!((60..75).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn messages_past_the_rate_are_not_read() {
    let begun = Instant::now();
    let mut setup = Setup { echo: true, ..Setup::default() };
    setup.settings.rate = Some((2, 4));
    let mut pair = setup.begin();

    for _ in 0..8 {
        pair.send(0x81, b"x").await;
    }
    for _ in 0..4 {
        pair.frame().await;
    }
    assert_eq!(begun.elapsed().as_secs(), 0);
    for _ in 0..4 {
        pair.frame().await;
    }

    assert!((1900..2200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_and_bounded() {
    let mut pair = Setup { pipe: 256, ..Setup::default() }.begin();
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), pair.send(0x89, &[b'p'; 100])).await.is_ok()
    {
        sent += 1;
        assert!(sent < 200, "the client takes no answers, so it is not read");
    }

    // The one that was cut off.
    for _ in 0..sent {
        assert_eq!(pair.frame().await, (0x8a, vec![b'p'; 100]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_with_1001_within_its_spread() {
    let begun = Instant::now();
    let mut pair = Setup::default().begin();
    let (sockets, drain) = (Arc::clone(&pair.sockets), pair.drain.clone());
    let watching = sockets.drained();
    drain.begin();
    watching.await;

    let (first, payload) = pair.frame().await;

    assert_eq!((first, &payload[..2]), (0x88, &u16::to_be_bytes(1001)[..]));
    assert!(begun.elapsed() <= crate::websocket::DRAIN_SPREAD);
    pair.send(0x88, &said(1001, "")).await;
    drop(pair.client);
    assert_eq!(pair.told.recv().await, Some(Told::Closed(1001, String::new())));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_never_begins_is_told_only_where_it_was_promised() {
    let told: Arc<Mutex<Vec<u16>>> = Arc::default();

    #[derive(Debug)]
    struct Codes(Arc<Mutex<Vec<u16>>>);
    impl Listener for Codes {
        fn message(&self, _: &Arc<Handle>, _: Payload) -> BoxFuture<'static, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }
        fn closed(&self, _: &Arc<Handle>, code: u16, _: String) -> BoxFuture<'static, ()> {
            self.0.lock().push(code);
            Box::pin(async {})
        }
    }

    let drain = Drain::new();
    let sockets = Sockets::new(Arc::new(Codes(Arc::clone(&told))), drain.clone());
    let accept = || {
        let identity = Identity::new(&Conn::unconnected(0), None, Vec::new());
        let open = sockets.open(&Arc::from("chat"), counted(), identity);
        let settings = Setup::default().settings;
        Accepted { open, settings, feed: None, opening: None, closing: None }
    };

    drop(accept());
    drop(accept().promised());
    drain.finish(Duration::from_secs(1)).await;

    assert_eq!(*told.lock(), [1006]);
    assert!(sockets.is_empty());
}

#[test]
fn an_idle_socket_is_small() {
    // All that lies there for it beside its handle and its stream, while nothing happens.
    assert!(size_of::<Engine<'_>>() <= 768, "{}", size_of::<Engine<'_>>());
    assert!(size_of::<Handle>() <= 512, "{}", size_of::<Handle>());
}
