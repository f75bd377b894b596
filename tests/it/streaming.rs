//! The sample plugin `streaming`: bodies that move while somebody looks at them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{Protocol, TestServer, clients, each_protocol};

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("streaming").start().await
}

/// The log that the tests let the plugin follow.
fn log(server: &TestServer) -> PathBuf {
    server.data().join("plugins/streaming/logs/app.log")
}

fn append(log: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(log).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

each_protocol!(lines_arrive_one_by_one, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let mut stream = client.open("/api/stream").await;
    let mut pieces = Vec::new();
    while let Some(piece) = stream.piece().await {
        pieces.push(String::from_utf8(piece.to_vec()).unwrap());
    }

    assert_eq!(stream.headers["content-type"], "application/x-ndjson");
    let expected: String = (0..10).map(|i| format!("{{\"chunk\":{i}}}\n")).collect();
    assert_eq!(pieces.concat(), expected);
    assert!(pieces.len() > 1, "all came at once");
});

each_protocol!(another_exchange_fits_between_two_chunks, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut flush = client.open("/flush").await;
    assert_eq!(flush.line().await.as_deref(), Some("First chunk"));

    // In the order of this list, at each wake.
    let first = tokio::select! {
        biased;
        line = flush.line() => format!("{line:?}"),
        answer = async { server.h1().await.get("/connections").await } => {
            format!("connections {}", answer.status)
        }
    };

    assert_eq!(first, "connections 200 OK");
    assert_eq!(flush.line().await.as_deref(), Some("Second chunk"));
    assert_eq!(flush.line().await, None);
});

each_protocol!(buffered_chunks_arrive_together, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let begun = Instant::now();

    let mut buffered = client.open("/buffered").await;
    let first = buffered.piece().await.unwrap();
    let waited = begun.elapsed();
    let mut text = first.to_vec();
    while let Some(piece) = buffered.piece().await {
        text.extend_from_slice(&piece);
    }

    assert_eq!(String::from_utf8(text).unwrap(), "First chunk\nSecond chunk\n");
    // The second is written a second after the first.
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
});

each_protocol!(a_response_past_the_deadline_of_its_plugin_is_cut_off, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let begun = Instant::now();

    let late = client.get("/deadline?ms=300").await;
    let waited = begun.elapsed();
    let on_time = server.client(protocol).await.get("/deadline?ms=20000&work=100").await;

    assert_eq!(late.status, 200);
    assert!(late.broken.is_some(), "{late:?}");
    assert!(late.text().starts_with("0 ms of 300 ms\n"), "{late:?}");
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert!(on_time.broken.is_none(), "{on_time:?}");
});

each_protocol!(ten_thousand_lines_are_answered_in_lock_step, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let (mut outgoing, mut incoming) = client.duplex("/duplex").await;
    for i in 0..10_000 {
        outgoing.write(format!("line {i}\n")).await;
        assert_eq!(incoming.line().await, Some(format!("line {i}")));
    }
    outgoing.write("no line feed").await;
    outgoing.finish().await;

    assert_eq!(incoming.line().await.as_deref(), Some("no line feed"));
    assert_eq!(incoming.line().await, None);
});

each_protocol!(the_checksum_comes_after_the_body, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let request = client.request(Method::GET, "/trailers").header("te", "trailers");

    let answer = client.send(request.body(Bytes::new()).unwrap()).await;

    assert_eq!(answer.header("trailer"), "X-Checksum");
    assert!(answer.text().starts_with("The checksum of this body"), "{answer:?}");
    assert_eq!(
        answer.trailers["x-checksum"],
        "8cf4f0aaca25f8ccbba7a3f3cf897ca915a03bca2f934f4e783bff7aeda929c0"
    );
});

#[tokio::test]
async fn http1_clients_that_do_not_ask_get_no_trailers() {
    let server = server().await;

    let http1 = server.h1().await.get("/trailers").await;
    let http2 = server.client(Protocol::H2).await.get("/trailers").await;

    assert_eq!(http1.header("trailer"), "");
    assert!(http1.trailers.is_empty(), "{:?}", http1.trailers);
    assert_eq!(http2.trailers.len(), 1);
    assert_eq!(http1.body, http2.body);
}

each_protocol!(a_log_is_followed_through_rotation_and_truncation, |protocol| async move {
    let server = server().await;
    let log = log(&server);
    append(&log, "before\n");
    let mut client = server.client(protocol).await;
    let mut tail = client.open("/logs/tail?name=app.log").await;
    assert_eq!(tail.status, 200);

    append(&log, "one\ntw");
    assert_eq!(tail.line().await.as_deref(), Some("one"));
    append(&log, "o\n");
    assert_eq!(tail.line().await.as_deref(), Some("two"));

    append(&log, "last of the old\n");
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    append(&log, "first of the new\n");
    assert_eq!(tail.line().await.as_deref(), Some("last of the old"));
    assert_eq!(tail.line().await.as_deref(), Some("first of the new"));

    fs::write(&log, "short\n").unwrap();
    assert_eq!(tail.line().await.as_deref(), Some("short"));
    append(&log, "end\n");
    assert_eq!(tail.line().await.as_deref(), Some("end"));
});

#[tokio::test]
async fn following_a_log_ends_when_the_client_leaves() {
    for protocol in [Protocol::H1, Protocol::H1Tls, Protocol::H2, Protocol::H3] {
        let server = server().await;
        append(&log(&server), "before\n");
        let mut client = server.client(protocol).await;

        let tail = client.open("/logs/tail?name=app.log").await;
        drop((tail, client));

        server.until_logged("GET /logs/tail").await;
    }
}

each_protocol!(work_for_a_client_that_left_is_cancelled, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut long = client.open("/long").await;
    assert_eq!(long.line().await.as_deref(), Some("Progress: 10%"));
    let left = Instant::now();

    drop((long, client));
    server.until_printed("streaming", "request cancelled").await;

    // Not with the next line, which would be a second later.
    assert!(left.elapsed() < Duration::from_millis(800), "{:?}", left.elapsed());
    server.until_registered("streaming", |entry| entry["in_flight"] == 0).await;
});

#[tokio::test]
async fn a_curl_that_is_killed_cancels_its_request() {
    let server = server().await;
    let ca = server.ca();
    let https = format!("https://localhost:{}/long", server.https.unwrap().port());
    let http = format!("http://{}/long", server.http.unwrap());

    for (cancelled, (version, url)) in
        [("--http1.1", &http), ("--http1.1", &https), ("--http2", &https)].iter().enumerate()
    {
        let mut curl = Command::new("curl")
            .args(["-s", "-N", version, "--cacert", ca.to_str().unwrap(), url])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = [0; "Progress: 10%".len()];
        curl.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
        let killed = Instant::now();

        curl.kill().await.unwrap();
        let cancellations = || {
            let log = server.data().join("logs/plugins/streaming.log");
            let log = fs::read_to_string(log).unwrap_or_default();
            log.matches("request cancelled").count()
        };
        while cancellations() <= cancelled && killed.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        assert!(killed.elapsed() < Duration::from_millis(800), "{version} {url}");
    }
    server.until_registered("streaming", |entry| entry["in_flight"] == 0).await;
}

#[tokio::test]
async fn a_client_that_has_only_finished_sending_gets_the_whole_response() {
    let server = server().await;
    let mut socket = TcpStream::connect(server.http.unwrap()).await.unwrap();

    socket.write_all(b"GET /flush HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"First chunk\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    socket.shutdown().await.unwrap();
    socket.read_to_end(&mut answer).await.unwrap();

    // Probes are zeros before the size of the next chunk (RFC 9112 §7.1).
    let answer = String::from_utf8(answer).unwrap();
    let (_, rest) = answer.split_once("First chunk\n\r\n").unwrap();
    assert!(rest.starts_with("00") && rest.contains("Second chunk"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn only_files_right_in_the_granted_folder_can_be_followed() {
    let server = server().await;
    let folder = server.data().join("plugins/streaming/logs");
    fs::create_dir(folder.join("folder")).unwrap();
    fs::write(folder.join("folder/app.log"), "").unwrap();
    fs::write(folder.join("../outside.log"), "").unwrap();
    std::os::unix::fs::symlink("../outside.log", folder.join("link.log")).unwrap();
    let mut client = server.h1().await;

    for name in [
        "missing.log",
        "",
        ".",
        "..",
        "folder",
        "folder/app.log",
        "folder%2Fapp.log",
        "../outside.log",
        "%2e%2e%2foutside.log",
        "link.log",
        "/etc/passwd",
        "app.log%00",
    ] {
        let answer = client.get(&format!("/logs/tail?name={name}")).await;

        assert_eq!(answer.status, 404, "{name}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(client.get("/logs/tail").await.status, 400);
}

#[tokio::test]
async fn closing_the_progress_page_ends_the_work() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(seen) = clients::browser("progress.mjs", &[&origin]).await else { return };

    assert!(seen["before"].as_str().unwrap().starts_with("Progress: "), "{seen}");
    server.until_printed("streaming", "request cancelled").await;
    // The second page has followed what became of the first one's work.
    let journal = seen["journal"].as_str().unwrap();
    assert!(journal.contains("request cancelled after step"), "{seen}");
}

each_protocol!(a_bad_item_does_not_stop_the_rest, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let answer = client.post("/api/bulk-process", r#"{"items":["a",null,{"id":3}]}"#).await;

    assert_eq!(answer.header("content-type"), "text/event-stream");
    let text = answer.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["started", "success", "error", "success", "completed"]);
    assert!(text.contains("data: {\"status\":\"started\",\"total\":3}\n"), "{text}");
    assert!(text.ends_with("\"total\":3,\"succeeded\":2,\"failed\":1}\n\n"), "{text}");
});

#[tokio::test]
async fn bad_bulk_requests_are_problems() {
    let server = server().await;
    let mut client = server.h1().await;

    for (body, status) in [("{\"items\":", 400), ("{}", 422), ("{\"items\":1}", 422)] {
        let answer = client.post("/api/bulk-process", body).await;

        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}

each_protocol!(the_image_comes_whole_in_many_pieces, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let mut response = client.open("/image/progressive").await;
    let mut image = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = response.piece().await {
        image.extend_from_slice(&piece);
        pieces += 1;
    }

    assert_eq!(response.headers["content-type"], "image/jpeg");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/streaming/src/wharf.jpg");
    assert!(image == fs::read(source).unwrap(), "{} bytes came", image.len());
    assert!(pieces >= 8, "{pieces} pieces");
});

each_protocol!(connections_are_counted_by_state, |protocol| async move {
    let server = server().await;

    let states = server.client(protocol).await.get("/connections").await.json();

    assert_eq!(states["active"], 1, "{states}");
    assert_eq!(states["hijacked"], 0, "{states}");
    for state in ["new", "idle", "closed"] {
        assert!(states[state].is_u64(), "{states}");
    }
});

#[tokio::test]
async fn head_begins_nothing() {
    let server = server().await;
    append(&log(&server), "before\n");
    let mut client = server.h1().await;

    for path in [
        "/streaming",
        "/progress",
        "/api/stream",
        "/flush",
        "/buffered",
        "/deadline?ms=1",
        "/long",
        "/image/progressive",
        "/trailers",
        "/connections",
        "/logs/tail?name=app.log",
    ] {
        let request = client.request(Method::HEAD, path).body(Bytes::new()).unwrap();

        let answer = client.send(request).await;

        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{path}");
        assert!(!answer.header("content-type").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn the_page_runs_its_own_script_only() {
    let server = server().await;

    let page = server.h1().await.get("/streaming").await;

    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(policy.contains("script-src 'sha256-"), "{policy}");
    assert!(page.text().contains("/api/stream"));
}
