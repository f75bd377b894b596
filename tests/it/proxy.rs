//! The sample plugin `proxy`: what goes through it arrives as it was sent, both ways.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wharf_tests::{Protocol, TestServer, clients, each_protocol};

/// A server of which every byte is known: what it answers is written here, what it got is kept.
struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&kept)));
            }
        });
        Self { address, seen }
    }

    /// The last request, head and body as they came.
    fn last(&self) -> String {
        self.seen.lock().last().unwrap().clone()
    }
}

/// The lines of a head that begin with one of these names, in their order.
fn fields<'a>(head: &'a str, names: &[&str]) -> Vec<&'a str> {
    let is_asked = |line: &&str| names.contains(&line.split(':').next().unwrap());
    head.lines().filter(is_asked).collect()
}

async fn serve(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let Some(head) = until(&mut socket, b"\r\n\r\n").await else { return };
        let lower = head.to_ascii_lowercase();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "/echo" {
            return echo(socket).await;
        }
        let body = if lower.contains("\r\ntransfer-encoding: chunked") {
            until(&mut socket, b"0\r\n").await.unwrap_or_default()
                + &until(&mut socket, b"\r\n").await.unwrap_or_default()
        } else {
            let length = lower.split("\r\ncontent-length: ").nth(1);
            let length = length.and_then(|rest| rest.split('\r').next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            socket.read_exact(&mut body).await.unwrap();
            String::from_utf8_lossy(&body).into_owned()
        };
        let trailers = if lower.contains("\r\ntrailer: ") {
            until(&mut socket, b"\r\n").await.unwrap_or_default()
        } else {
            String::new()
        };
        seen.lock().push(head.clone() + &body + &trailers);
        let answer = match path.split('?').next().unwrap() {
            "/silent" => return std::future::pending().await,
            "/closed" => return,
            "/fields" => {
                "HTTP/1.1 299 Odd\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\nSet-Cookie: a=1\r\n\
                 X-B: 1\r\nSet-Cookie: b=2\r\nX-A: \"v\" ; w\r\nKeep-Alive: timeout=60\r\n\
                 Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nProxy-Connection: x\r\n\
                 Server: origin\r\nContent-Type: text/odd\r\nContent-Length: 5\r\n\r\nhello"
            }
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n",
            "/not-modified" => {
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n"
            }
            "/part" => {
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\n\
                 Content-Length: 3\r\n\r\n234"
            }
            "/trailers" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
            }
            "/until-closed" => {
                let _sent = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nto the end").await;
                return;
            }
            "/cut" => {
                let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.";
                let _sent = socket.write_all(half).await;
                return;
            }
            "/interim" => {
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\
                 Connection: x-hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            }
            "/nonsense" => "HTTP/3.7 maybe\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends every chunk back as it came.
async fn echo(mut socket: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let _gone = tokio::io::copy(&mut reader, &mut writer).await;
}

async fn until(socket: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        text.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// A server whose only plugin is the proxy, at every path.
async fn proxy(upstream: &str, config: &str, more: &str) -> TestServer {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/proxy/proxy.wasm");
    let component = std::fs::read(component).expect("run `cargo xtask guests`");
    let origin = upstream.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let manifest = format!(
        "routes = [\"/*\"]\n[config]\nupstream = \"{upstream}\"\n{config}\n\
         [capabilities]\noutbound = [\"{origin}\"]\n{more}"
    );
    TestServer::builder()
        .plugin("front", &component)
        .manifest("front", &manifest)
        .config("trusted-proxies = [\"127.0.0.1\"]")
        .start()
        .await
}

const SILENT: &str = "via = \"off\"\nforwarded = \"off\"";

each_protocol!(fields_and_status_pass_as_they_are, |protocol| async move {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let mut client = server.client(protocol).await;

    let request = client
        .request(Method::from_bytes(b"X-ODD").unwrap(), "/fields?a=%2F&&b;c=//")
        .header("x-b", "1")
        .header("x-a", "2")
        .header("x-b", "\"3\" , 4")
        .header("via", "1.0 before")
        .header("x-forwarded-for", "1.2.3.4")
        .header("cache-control", "max-age=0");
    let answer = client.send(request.body(Bytes::new()).unwrap()).await;
    let got = origin.last();

    assert!(got.starts_with("X-ODD /fields?a=%2F&&b;c=// HTTP/1.1\r\n"), "{got}");
    assert!(got.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{got}");
    assert_eq!(fields(&got, &["x-b"]), ["x-b: 1", "x-b: \"3\" , 4"]);
    assert_eq!(fields(&got, &["via", "x-forwarded-for"]).len(), 2, "{got}");
    let added = ["x-forwarded-host", "forwarded", "wharf-exchange", "transfer-encoding"];
    assert_eq!(fields(&got, &added), [""; 0], "{got}");
    // Over HTTP/2, the client itself says so.
    let length: &[_] = if protocol == Protocol::H2 { &["content-length: 0"] } else { &[] };
    assert_eq!(fields(&got, &["content-length"]), length, "{got}");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (299, "hello"));
    assert_eq!(answer.header("date"), "Thu, 01 Jan 2015 00:00:00 GMT");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(answer.header("x-a"), "\"v\" ; w");
    assert_eq!(answer.header("server"), "origin");
    assert_eq!(answer.header("content-length"), "5");
    for hop in ["x-hop", "keep-alive", "proxy-connection", "via"] {
        assert!(!answer.headers.contains_key(hop), "{hop}: {answer:?}");
    }
});

each_protocol!(the_upstream_learns_who_asked_unless_it_is_off, |protocol| async move {
    let origin = Origin::start().await;
    let upstream = format!("http://{}/base", origin.address);
    let config = "forwarded = \"both\"\nstrip-prefix = \"/a\"\npreserve-host = \"on\"";
    let server = proxy(&upstream, config, "outbound-host = true").await;
    let mut client = server.client(protocol).await;

    let request = client.request(Method::OPTIONS, "/a/b?c");
    let authority = request.uri_ref().and_then(|uri| uri.authority().map(ToString::to_string));
    let request = request.header("x-forwarded-for", "1.2.3.4").header("max-forwards", "2");
    let answer = client.send(request.body(Bytes::new()).unwrap()).await;
    let got = origin.last();
    let last = client.request(Method::OPTIONS, "/a/b").header("max-forwards", "0");
    let last = client.send(last.body(Bytes::new()).unwrap()).await;

    assert!(got.starts_with("OPTIONS /base/b?c HTTP/1.1\r\nhost: "), "{got}");
    let host = got.split("host: ").nth(1).unwrap().lines().next().unwrap();
    assert!(authority.is_none_or(|authority| authority == host), "{got}");
    assert_ne!(host, origin.address.to_string());
    assert_eq!(fields(&got, &["x-forwarded-for"]), ["x-forwarded-for: 127.0.0.1"]);
    assert_eq!(fields(&got, &["x-forwarded-host"]), [format!("x-forwarded-host: {host}")]);
    assert_eq!(fields(&got, &["x-forwarded-prefix"]), ["x-forwarded-prefix: /a"]);
    assert_eq!(fields(&got, &["max-forwards"]), ["max-forwards: 1"]);
    assert!(got.contains(&format!("\r\nforwarded: for=127.0.0.1;host=\"{host}\";proto=http")));
    assert!(fields(&got, &["via"])[0].ends_with(" wharf"), "{got}");
    assert_eq!(answer.header("via"), "1.1 wharf");
    assert_eq!(last.status, 204);
    assert_eq!(origin.seen.lock().len(), 1);
});

each_protocol!(answers_without_content_keep_their_fields, |protocol| async move {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let mut client = server.client(protocol).await;

    let head = client.request(Method::HEAD, "/head").body(Bytes::new()).unwrap();
    let head = client.send(head).await;
    let conditional = client.request(Method::GET, "/not-modified").header("if-none-match", "\"x\"");
    let fresh = client.send(conditional.body(Bytes::new()).unwrap()).await;
    let ranged = client.request(Method::GET, "/part").header("range", "bytes=2-4");
    let part = client.send(ranged.body(Bytes::new()).unwrap()).await;
    let closed = client.get("/until-closed").await;

    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{head:?}");
    assert_eq!((head.header("content-length"), head.header("etag")), ("1234", "\"x\""));
    assert_eq!((fresh.status.as_u16(), fresh.header("etag")), (304, "\"x\""), "{fresh:?}");
    assert!(fresh.broken.is_none(), "{fresh:?}");
    assert_eq!(fields(&origin.seen.lock()[1], &["if-none-match"]), ["if-none-match: \"x\""]);
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "234"), "{part:?}");
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(fields(&origin.seen.lock()[2], &["range"]), ["range: bytes=2-4"]);
    assert_eq!((closed.text().as_str(), closed.broken), ("to the end", None));
});

each_protocol!(bodies_pass_while_they_are_sent, |protocol| async move {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let mut client = server.client(protocol).await;

    let (mut up, mut down) = client.duplex("/echo").await;
    // The echo is of the chunks themselves: what comes back is what was framed, unframed once.
    for piece in ["one", "two", "three"] {
        up.write(piece).await;
        assert_eq!(down.piece().await.unwrap(), piece);
    }
    up.finish().await;

    assert!(down.piece().await.is_none());
});

each_protocol!(trailers_pass_to_the_client, |protocol| async move {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let mut client = server.client(protocol).await;

    let request = client.request(Method::GET, "/trailers").header("te", "trailers");
    let answer = client.send(request.body(Bytes::new()).unwrap()).await;

    assert_eq!(fields(&origin.last(), &["te"]), ["te: trailers"]);
    assert_eq!(
        (answer.text().as_str(), answer.trailers["x-sum"].to_str().unwrap()),
        ("abc", "6"),
        "{answer:?}"
    );
});

each_protocol!(an_upstream_that_fails_is_a_problem_document, |protocol| async move {
    let origin = Origin::start().await;
    let config = format!("{SILENT}\nfirst-byte-timeout = \"1\"");
    let server = proxy(&format!("http://{}", origin.address), &config, "").await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let without = proxy(&format!("http://{nobody}"), SILENT, "").await;
    let mut client = server.client(protocol).await;
    let mut unreached = without.client(protocol).await;

    for (path, status) in [("/silent", 504), ("/closed", 502), ("/nonsense", 502)] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    let answer = unreached.get("/").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.text().contains("cannot be reached"), "{answer:?}");
    let cut = client.try_send_get("/cut").await;
    assert!(cut.is_err() || cut.is_ok_and(|cut| cut.broken.is_some()), "taken for whole");
});

#[tokio::test]
async fn a_body_of_unknown_length_and_its_trailers_reach_the_upstream() {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let mut socket = TcpStream::connect(server.http.unwrap()).await.unwrap();

    let request = "POST /any HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
                   Expect: 100-continue\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let got = origin.last();

    assert!(answer.ends_with("ok"), "{answer}");
    assert!(got.contains("\r\ntransfer-encoding: chunked\r\n"), "{got}");
    assert!(got.contains("3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"), "{got}");
    assert_eq!(fields(&got, &["expect"]), [""; 0], "{got}");
}

#[tokio::test]
async fn interim_responses_pass_to_clients_that_cope() {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let http = format!("http://{}/interim", server.http.unwrap());
    let https = format!("https://localhost:{}/interim", server.https.unwrap().port());

    for (version, url) in
        [("--http1.1", &http), ("--http2-prior-knowledge", &http), ("--http2", &https)]
    {
        let arguments = ["-skD", "-", version, url];
        let Some(output) = clients::program("curl", &arguments).await else { return };
        let heads = String::from_utf8(output.stdout).unwrap().to_ascii_lowercase();
        let statuses: Vec<_> = heads
            .lines()
            .filter(|line| line.starts_with("http/"))
            .map(|line| line.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(statuses, ["102", "103", "200"], "{version}: {heads}");
        assert!(heads.contains("link: </a.css>") && !heads.contains("x-hop"), "{heads}");
    }
}

#[tokio::test]
async fn curl_sends_and_gets_through_the_proxy_what_it_does_without() {
    let origin = Origin::start().await;
    let server = proxy(&format!("http://{}", origin.address), SILENT, "").await;
    let upload = server.dir().join("upload");
    std::fs::write(&upload, vec![b'u'; 3 << 20]).unwrap();
    let direct = format!("http://{}/any", origin.address);
    let through = format!("http://{}/any", server.http.unwrap());

    for more in [&["-X", "PROPFIND"][..], &["-T", upload.to_str().unwrap()], &["-F", "a=b"]] {
        let mut requests = Vec::new();
        for url in [&direct, &through] {
            let arguments = [&["-sS"][..], more, &[url]].concat();
            let Some(output) = clients::program("curl", &arguments).await else { return };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok", "{more:?}");
            let got = origin.last();
            let (head, body) = got.split_once("\r\n\r\n").unwrap();
            let kept = ["user-agent", "accept", "content-length"];
            let head = head.to_ascii_lowercase();
            let line = head.lines().next().unwrap().to_owned();
            let mut kept: Vec<_> = fields(&head, &kept).into_iter().map(str::to_owned).collect();
            kept.sort();
            requests.push((line, kept, body.len()));
        }
        assert_eq!(requests[0], requests[1], "{more:?}");
    }
}

#[tokio::test]
async fn the_sample_says_what_it_lacks() {
    let server = TestServer::builder().sample("proxy").start().await;

    let answer = server.h1().await.get("/proxy/").await;

    // Nothing listens at the upstream of its example, or something does.
    assert!(answer.status == 502 || answer.status.as_u16() < 500, "{answer:?}");
}
