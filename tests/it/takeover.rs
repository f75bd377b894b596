//! Restart without a gap: a new process takes over the sockets, and nobody notices.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinSet;
use wharf_tests::{Client, Protocol, TestServer, each_protocol, guest};

/// Takeovers under load: few where everything is tested, 20 and more by hand.
fn rounds() -> usize {
    std::env::var("WHARF_TAKEOVERS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

async fn shop() -> TestServer {
    TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .plugin("sleep", &guest("p3_sleep"))
        .plugin("stream", &guest("p3_stream"))
        .start()
        .await
}

/// Clients that ask without a pause, and everything that went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: JoinSet<Result<(), String>>,
}

impl Load {
    /// `keep` clients with a connection for as long as the server lets them, and `renew` with one
    /// for each request.
    fn of(server: &TestServer, protocol: Protocol, keep: usize, renew: usize) -> Self {
        let mut load =
            Self { stop: Arc::default(), asked: Arc::default(), clients: JoinSet::new() };
        let address = match protocol {
            Protocol::H1 | Protocol::H2c => server.http.unwrap(),
            _ => server.https.unwrap(),
        };
        for client in 0..keep + renew {
            let (stop, asked, ca) = (Arc::clone(&load.stop), Arc::clone(&load.asked), server.ca());
            load.clients.spawn(async move {
                let connect = async || match protocol {
                    Protocol::H1 => Client::h1(address).await,
                    Protocol::H1Tls => Client::h1_tls(address, &ca).await,
                    Protocol::H2c => Client::h2c(address).await,
                    Protocol::H2 => Client::h2(address, &ca).await,
                    Protocol::H3 => Client::h3(address, &ca).await,
                };
                let mut connection = connect().await;
                while !stop.load(Ordering::Relaxed) {
                    match connection.get_if_open("/shop").await {
                        Ok(Some(answer)) if answer.status == 200 => {
                            asked.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Some(answer)) => return Err(format!("{protocol:?}: {answer:?}")),
                        Ok(None) => connection = connect().await,
                        Err(error) => return Err(format!("{protocol:?}: {error:?}")),
                    }
                    if client >= keep {
                        connection = connect().await;
                    }
                }
                Ok(())
            });
        }
        load
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for some more answers.
    async fn goes_on(&mut self) {
        let before = self.asked();
        while self.asked() < before + 50 {
            if let Some(failed) = self.clients.try_join_next() {
                panic!("{:?}", failed.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            assert_eq!(ended.unwrap(), Ok(()));
        }
        self.asked()
    }
}

each_protocol!(takeovers_under_load_fail_no_request, |protocol| async move {
    let mut server = shop().await;
    let mut load = Load::of(&server, protocol, 4, 4);
    let mut secure = (protocol == Protocol::H1).then(|| Load::of(&server, Protocol::H1Tls, 2, 2));
    load.goes_on().await;

    let mut old = Vec::new();
    for _ in 0..rounds() {
        old.push(server.take_over(&[]).await);
        load.goes_on().await;
    }

    let answers = load.end().await;
    if let Some(secure) = secure.take() {
        secure.end().await;
    }
    for old in &mut old {
        assert_eq!(old.wait().await, Some(0), "{}", server.log());
    }
    eprintln!("{protocol:?}: {answers} answers over {} takeovers", old.len());
});

each_protocol!(what_was_begun_in_the_old_process_ends_whole, |protocol| async move {
    let mut server = shop().await;
    let mut client = server.client(protocol).await;
    let mut idle = server.client(protocol).await;
    assert_eq!(idle.get("/shop").await.status, 200);
    let mut stream = client.open("/stream?chunks=40&size=1000&delay_ms=50").await;
    stream.piece().await.unwrap();

    let mut old = server.take_over(&[]).await;

    assert!(old.is_running(), "{}", server.log());
    let mut received = 0;
    while let Some(piece) = stream.piece().await {
        received += piece.len();
    }
    assert!(received >= 38_000 && received < 40_000, "{received}");
    // What a client keeps open without asking takes one more request, or is closed in good order.
    let last = idle.get_if_open("/shop").await.unwrap();
    assert!(last.is_none_or(|answer| answer.status == 200), "{}", server.log());
    assert_eq!(server.client(protocol).await.get("/shop").await.status, 200);
    drop((stream, client));
    assert_eq!(old.wait().await, Some(0), "{}", server.log());
});

#[tokio::test]
async fn an_idle_client_may_ask_once_more() {
    let mut server = shop().await;
    let mut client = server.h1().await;
    let mut fresh = server.h1().await;
    assert_eq!(client.get("/shop").await.status, 200);

    let _old = server.take_over(&[]).await;

    for client in [&mut client, &mut fresh] {
        let answer = client.get("/shop").await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"));
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_process_that_serves() {
    let mut server = shop().await;
    let admin = server.admin.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let probes = {
        let stop = Arc::clone(&stop);
        async move {
            let mut probes = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = Client::h1(admin).await.get("/readyz").await;
                assert_eq!(answer.status, 200, "{answer:?} after {probes} probes");
                probes += 1;
            }
            probes
        }
    };
    let taking = async {
        for _ in 0..2 {
            let _draining = server.take_over(&[]).await;
        }
        stop.store(true, Ordering::Relaxed);
    };

    let (probes, ()) = tokio::join!(probes, taking);

    assert!(probes > 10, "{probes}");
}

#[tokio::test]
async fn a_process_that_cannot_start_changes_nothing() {
    let mut server = shop().await;
    let mut load = Load::of(&server, Protocol::H2, 2, 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();

    // A wrong configuration, an address that another has, and an end while it compiles.
    let wrong = server.successor(&["--drain-limit", "2h"]).wait().await.unwrap();
    let in_use = server.successor(&["--http", &taken]).wait().await.unwrap();
    let mut killed = server.successor(&["--http", "127.0.0.1:0"]);
    let begun = std::time::Instant::now();
    while server.log().matches("a takeover begins").count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    killed.kill().await.unwrap();
    load.goes_on().await;

    assert_eq!((wrong.code(), in_use.code()), (Some(2), Some(1)), "{}", server.log());
    server.until_logged("serving on").await;
    let _old = server.take_over(&[]).await;
    load.end().await;
}

#[tokio::test]
async fn a_second_taker_is_refused_while_one_is_under_way() {
    let server = shop().await;
    let mut first = server.successor(&[]);
    let first_pid = first.id().unwrap();
    server.until_logged("a takeover begins").await;
    // It stands still with the sockets in its hands.
    let stopped = Command::new("kill").args(["-STOP", &first_pid.to_string()]).status().await;
    assert!(stopped.unwrap().success());
    if server.log().contains("taken over pid") {
        return;
    }

    let second = server.successor(&[]).wait().await.unwrap();

    assert_eq!(second.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("another takeover is under way"), "{}", server.log());
    assert_eq!(server.h1().await.get("/shop").await.status, 200);
    first.kill().await.unwrap();
}

#[tokio::test]
async fn the_number_of_cores_may_change() {
    let mut server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .arguments(&["--threads", "1"])
        .start()
        .await;
    let mut loads: Vec<_> = [Protocol::H1, Protocol::H2, Protocol::H3]
        .map(|protocol| Load::of(&server, protocol, 1, 2))
        .into();

    let mut old = Vec::new();
    for threads in ["3", "2", "1", "4"] {
        let wharf = ["--threads", threads];
        old.push(server.take_over(&wharf).await);
        for load in &mut loads {
            load.goes_on().await;
        }
    }

    for load in loads {
        load.end().await;
    }
    for old in &mut old {
        assert_eq!(old.wait().await, Some(0), "{}", server.log());
    }
}

#[tokio::test]
async fn listeners_may_move_and_go() {
    let mut server = shop().await;
    let before = server.http.unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let mut old = server.take_over(&["--http", &free.to_string(), "--http3", "off"]).await;

    assert_eq!(Client::h1(free).await.get("/shop").await.status, 200);
    let answer = server.client(Protocol::H2).await.get("/shop").await;
    assert_eq!((answer.status.as_u16(), answer.header("alt-svc")), (200, ""));
    assert_eq!(old.wait().await, Some(0), "{}", server.log());
    assert!(std::net::TcpStream::connect(before).is_err());
}

#[tokio::test]
async fn nothing_is_left_open_over_a_chain_of_takeovers() {
    let mut server = TestServer::builder().arguments(&["--threads", "2"]).start().await;
    let open = |server: &TestServer| {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
    };
    server.take_over(&[]).await.wait().await;
    let first = open(&server);

    for _ in 0..rounds() {
        assert_eq!(server.take_over(&[]).await.wait().await, Some(0));
    }

    // The links of a process that is gone stay until the next takeover finds them closed.
    assert!(open(&server) <= first + 2, "{} after {first}", open(&server));
}

#[tokio::test]
async fn without_a_process_to_take_over_it_simply_starts() {
    let mut server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .env("WHARF_TAKEOVER", "on")
        .start()
        .await;
    assert_eq!(server.h1().await.get("/shop").await.status, 200);

    // What a killed process leaves is in nobody's way.
    server.signal("KILL").await;
    server.wait().await;
    let _gone = server.take_over(&[]).await;
}

#[tokio::test]
async fn a_long_data_folder_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d/".repeat(80)).to_str().unwrap().to_owned();
    let mut server = TestServer::builder().arguments(&["--data", &long]).start().await;

    let mut old = server.take_over(&[]).await;

    assert_eq!(old.wait().await, Some(0), "{}", server.log());
}

#[tokio::test]
async fn sigusr2_starts_the_successor() {
    let server = shop().await;
    let old = server.pid();
    let mut load = Load::of(&server, Protocol::H1, 2, 2);

    server.signal("USR2").await;

    let begun = std::time::Instant::now();
    let new = loop {
        let text = std::fs::read_to_string(server.dir().join("ready.json")).unwrap_or_default();
        let ready: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match ready["pid"].as_u64() {
            Some(pid) if pid != u64::from(old) => break pid,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", server.log());
    };
    load.goes_on().await;
    load.end().await;
    let ended = Command::new("kill").arg(new.to_string()).status().await;
    assert!(ended.unwrap().success());
    server.until_logged("is_handed_over=false").await;
}

/// Binds what `LISTEN_FDS` passes, and becomes the program that follows.
const LAUNCHER: &str = "
import os, socket, sys
passed = sys.argv[1].split(',')
sockets = []
port = 0
for kind in filter(None, passed):
    name, _, kind = kind.partition('=')
    kind = {'tcp': socket.SOCK_STREAM, 'idle': socket.SOCK_STREAM, 'udp': socket.SOCK_DGRAM}[kind]
    one = socket.socket(socket.AF_INET, kind)
    one.bind(('127.0.0.1', port if name == 'https-udp' else 0))
    if passed[len(sockets)].endswith('=tcp'):
        one.listen(64)
    if name == 'https':
        port = one.getsockname()[1]
    sockets.append(one.detach())
os.environ['LISTEN_FDS'] = str(len(sockets))
os.environ['LISTEN_FDNAMES'] = ':'.join(kind.partition('=')[0] for kind in passed)
os.environ['LISTEN_PID'] = str(os.getpid())
above = [os.dup2(one, 100 + i, inheritable=False) for i, one in enumerate(sockets)]
for i, one in enumerate(above):
    os.dup2(one, 3 + i, inheritable=True)
os.execv(sys.argv[2], sys.argv[2:])
";

fn launcher(passed: &str) -> Command {
    let mut launcher = Command::new("python3");
    launcher.args(["-c", LAUNCHER, passed]);
    launcher
}

#[tokio::test]
async fn sockets_that_a_service_manager_passes_are_served_and_taken_over() {
    let mut server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .arguments(&["--threads", "2"])
        .start_by(launcher("admin=tcp,http=tcp,https=tcp,https-udp=udp"))
        .await;
    let ask = async |server: &TestServer| {
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            assert_eq!(server.client(protocol).await.get("/shop").await.status, 200);
        }
        assert_eq!(Client::h1(server.admin.unwrap()).await.get("/readyz").await.status, 200);
    };
    ask(&server).await;

    let mut old = server.take_over(&[]).await;

    ask(&server).await;
    assert_eq!(old.wait().await, Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_single_socket_without_a_name_is_the_cleartext_listeners() {
    let server =
        TestServer::builder().plugin("shop", &guest("p3_hello")).start_by(launcher("=tcp")).await;

    assert_eq!(server.h1().await.get("/shop").await.status, 200);
    assert_eq!(server.client(Protocol::H3).await.get("/shop").await.status, 200);
}

#[tokio::test]
async fn passed_sockets_that_cannot_be_served_are_told_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    for (passed, arguments, expected) in [
        ("http=idle", &[][..], "descriptor 3 (http): it is not a listening TCP socket"),
        ("http=udp", &[], "it is named for TCP, and is a UDP socket"),
        ("http=tcp", &["--http", "off"], "its listener is off"),
        ("https-udp=udp", &["--http3", "off"], "HTTP/3 is off"),
        ("https-udp=udp", &[], "HTTPS is not on the same port"),
        ("http=tcp,http=tcp", &[], "its listener has another address already"),
    ] {
        let output = launcher(passed)
            .arg(wharf_tests::wharf())
            .arg("serve")
            .args(arguments)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();

        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{passed}: {told}");
        assert!(told.contains(expected), "{passed}: {told}");
    }
    for (count, expected) in [("x", "LISTEN_FDS is `x`"), ("7", "descriptor 3 (unnamed)")] {
        let output = Command::new(wharf_tests::wharf())
            .arg("serve")
            .env("LISTEN_FDS", count)
            .current_dir(dir.path())
            .output()
            .await
            .unwrap();

        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{count}: {told}");
        assert!(told.contains(expected), "{count}: {told}");
    }
}
