//! Files as replies: `wharf:host/files`, whatever the protocol, and whatever the client tries.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{Answer, Client, TestServer, each_protocol, guest};

const SIZE: usize = 1_000_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// A server with the plugin `f`, which may read and write `data` and read `shared`; `data/x.mp4` is
/// [`content`].
async fn server() -> TestServer {
    let builder = TestServer::builder().plugin("f", &guest("p3_file_reply")).manifest(
        "f",
        "[capabilities]\nfiles = { data = \"rw\", shared = \"r\" }\n[limits]\nconcurrency = 64",
    );
    let server = builder.start().await;
    fs::write(data(&server).join("x.mp4"), content()).unwrap();
    server
}

fn data(server: &TestServer) -> PathBuf {
    server.data().join("plugins/f/data")
}

async fn ask(client: &mut Client, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = client.request(method, path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(Bytes::new()).unwrap()).await
}

async fn get(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(client, Method::GET, path, fields).await
}

const X: &str = "/f?path=data/x.mp4";

each_protocol!(a_file_is_sent_whole_in_part_and_not_at_all, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let content = content();

    let whole = get(&mut client, X, &[]).await;
    assert_eq!(whole.status, 200);
    assert!(whole.body == content && whole.broken.is_none());
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), SIZE.to_string());
    assert!(whole.headers.contains_key("last-modified"));
    assert!(!whole.headers.contains_key("wharf-reply"));
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    let head = ask(&mut client, Method::HEAD, X, &[("range", "bytes=0-9")]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), SIZE.to_string());
    assert_eq!(head.header("etag"), etag);

    let part = get(&mut client, X, &[("range", "bytes=100-299")]).await;
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), format!("bytes 100-299/{SIZE}"));
    assert_eq!(part.header("content-length"), "200");
    assert!(part.body == content[100..300]);

    let suffix = get(&mut client, X, &[("range", "bytes=-7"), ("if-range", &etag)]).await;
    assert_eq!(suffix.status, 206);
    assert!(suffix.body == content[SIZE - 7..]);
    let changed = get(&mut client, X, &[("range", "bytes=-7"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status.as_u16(), changed.body.len()), (200, SIZE));

    let beyond = get(&mut client, X, &[("range", &format!("bytes={SIZE}-"))]).await;
    assert_eq!((beyond.status.as_u16(), beyond.body.len()), (416, 0));
    assert_eq!(beyond.header("content-range"), format!("bytes */{SIZE}"));

    let same = get(&mut client, X, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    assert_eq!(same.header("etag"), etag);
    let modified = whole.header("last-modified");
    let same = get(&mut client, X, &[("if-modified-since", modified)]).await;
    assert_eq!(same.status, 304);
    let failed = get(&mut client, X, &[("if-match", "\"other\"")]).await;
    assert_eq!((failed.status.as_u16(), failed.body.len()), (412, 0));

    // The connection is as good as ever.
    assert_eq!(get(&mut client, X, &[("range", "bytes=0-0")]).await.body.len(), 1);
});

/// The parts of a multipart body: their `content-range`, and their bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut rest = &answer.body[..];
    let mut parts = Vec::new();
    let open = format!("--{boundary}\r\n");
    loop {
        rest = rest.strip_prefix(open.as_bytes()).unwrap();
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 4..];
        let range = head.split("content-range: ").nth(1).unwrap().to_owned();
        let (from, to) =
            range.trim_start_matches("bytes ").split('/').next().unwrap().split_once('-').unwrap();
        let length = to.parse::<usize>().unwrap() + 1 - from.parse::<usize>().unwrap();
        parts.push((range, rest[..length].to_vec()));
        rest = rest[length..].strip_prefix(b"\r\n").unwrap();
        if rest == format!("--{boundary}--\r\n").as_bytes() {
            return parts;
        }
    }
}

each_protocol!(several_ranges_come_as_parts, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let content = content();

    let answer = get(&mut client, X, &[("range", "bytes=900000-900009, 0-4, -3")]).await;

    assert_eq!(answer.status, 206);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert!(!answer.headers.contains_key("content-range"));
    let parts = parts(&answer);
    assert_eq!(parts[0].0, format!("bytes 900000-900009/{SIZE}"));
    assert!(parts[0].1 == content[900_000..900_010]);
    assert!(parts[1].1 == content[..5] && parts[2].1 == content[SIZE - 3..]);
});

each_protocol!(range_bombs_cost_no_more_than_the_file, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let many: Vec<String> = (0..1000).map(|at| format!("{at}-{at}")).collect();
    let spread: Vec<String> = (0..200).map(|at| format!("{}-{}", at * 500, at * 500)).collect();

    for set in [
        many.join(","),
        spread.join(","),
        vec!["0-"; 1000].join(","),
        vec!["0-999999"; 200].join(","),
        format!("0-{}", ",5-".repeat(200)),
    ] {
        let answer = get(&mut client, X, &[("range", &format!("bytes={set}"))]).await;
        let status = answer.status.as_u16();
        assert!(status == 200 || status == 206, "{status} for {set}");
        assert!(answer.body.len() <= SIZE + 16 * 200, "{} for {set}", answer.body.len());
        assert!(answer.broken.is_none());
    }
    for set in ["bytes=5-4", "bytes=", "bytes=a-b", "bytes=--1", "lines=1-2", "bytes 0-1"] {
        let answer = get(&mut client, X, &[("range", set)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, SIZE), "{set}");
    }
});

each_protocol!(what_the_plugin_says_is_kept_where_the_file_says_nothing, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let set = "&set=x-a:b|cache-control:max-age%3D60|etag:%22own%22|content-length:3";
    let own = get(&mut client, &format!("{X}{set}"), &[]).await;
    assert_eq!((own.status.as_u16(), own.body.len()), (200, SIZE), "{:?}", own.headers);
    assert_eq!((own.header("x-a"), own.header("cache-control")), ("b", "max-age=60"));
    assert_eq!(own.header("etag"), "\"own\"");
    let same = get(&mut client, &format!("{X}{set}"), &[("if-none-match", "\"own\"")]).await;
    assert_eq!((same.status.as_u16(), same.header("cache-control")), (304, "max-age=60"));

    // RFC 9110 §13.2.1, §14.2: neither conditions nor ranges count for what is not a 200.
    let fields = [("range", "bytes=0-1"), ("if-none-match", "*")];
    let error = get(&mut client, &format!("{X}&status=404"), &fields).await;
    assert_eq!((error.status.as_u16(), error.body.len()), (404, SIZE));
    let posted = ask(&mut client, Method::POST, X, &fields).await;
    assert_eq!((posted.status.as_u16(), posted.body.len()), (200, SIZE));
    let nothing = get(&mut client, &format!("{X}&status=204"), &[]).await;
    assert_eq!((nothing.status.as_u16(), nothing.body.len()), (204, 0));
});

#[tokio::test]
async fn names_and_types_inject_nothing() {
    let server = server().await;
    let mut client = server.h1().await;

    for (name, expected) in [
        ("a%20b.mp4", "attachment; filename=\"a b.mp4\""),
        (
            "na%C3%AFve%E2%82%AC.mp4",
            "attachment; filename=\"na_ve_.mp4\"; filename*=UTF-8''na%C3%AFve%E2%82%AC.mp4",
        ),
        ("a%0d%0aset-cookie:%20x=1", "attachment; filename=\"aset-cookie: x=1\""),
        ("..%2f..%2fetc%2fpasswd", "attachment; filename=\"passwd\""),
        ("..%5c..%5cboot.ini", "attachment; filename=\"boot.ini\""),
        ("x%E2%80%AEfdp.exe", "attachment; filename=\"xfdp.exe\""),
        ("", "attachment; filename=\"x.mp4\""),
    ] {
        let answer = get(&mut client, &format!("{X}&attachment={name}"), &[]).await;
        assert_eq!(answer.header("content-disposition"), expected, "{name}");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    let inline = get(&mut client, &format!("{X}&inline=a%22b&type=text/x-own"), &[]).await;
    assert!(inline.header("content-disposition").starts_with("inline; filename=\"a_b\""));
    assert_eq!(inline.header("content-type"), "text/x-own");
    let broken = get(&mut client, &format!("{X}&type=a%0d%0ab:c"), &[]).await;
    assert_eq!((broken.status.as_u16(), broken.header("x-error")), (500, "invalid"));
}

#[tokio::test]
async fn nothing_outside_the_grant_is_sent() {
    let server = server().await;
    let data = data(&server);
    fs::write(server.data().join("plugins/f/secret"), "secret").unwrap();
    fs::write(server.data().join("secret"), "secret").unwrap();
    fs::create_dir(data.join("sub")).unwrap();
    symlink("../secret", data.join("out")).unwrap();
    symlink("/etc/passwd", data.join("absolute")).unwrap();
    symlink("..", data.join("up")).unwrap();
    symlink("/proc/self/root/etc/passwd", data.join("magic")).unwrap();
    symlink("x.mp4", data.join("link.mp4")).unwrap();
    let fifo = Command::new("mkfifo").arg(data.join("fifo")).status().await.unwrap();
    assert!(fifo.success());
    let mut client = server.h1().await;

    for path in [
        "",
        "data",
        "data/",
        "data/.",
        "data/..",
        "data/../secret",
        "data/../../../secret",
        "data/../data/x.mp4",
        "data/sub/../x.mp4",
        "data/sub/../../secret",
        "data//x.mp4",
        "data/./x.mp4",
        "./data/x.mp4",
        "/data/x.mp4",
        "data/x.mp4/",
        "//etc/passwd",
        "/etc/passwd",
        "../secret",
        "etc/passwd",
        "other/x.mp4",
        "shared/../data/x.mp4",
        "data/x.mp4%00",
        "data/%00",
        "data%00/x.mp4",
        "data/out",
        "data/absolute",
        "data/up/secret",
        "data/magic",
        "data/sub",
        "data/fifo",
        "data/%252e%252e/secret",
        "data%5c..%5csecret",
        "data/none",
    ] {
        let answer = get(&mut client, &format!("/f?path={path}"), &[]).await;
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        let text = answer.text();
        assert!(!answer.header("x-error").is_empty() && text.starts_with('`'), "{path}: {text}");
        assert!(!text.contains("secret") || path.contains("secret"), "{path}: {text}");
    }
    assert_eq!(get(&mut client, "/f?path=data/link.mp4", &[]).await.body.len(), SIZE);
    let once = get(&mut client, "/f?path=shared/x.mp4&once=1", &[]).await;
    assert_eq!(once.header("x-error"), "not-granted");
    let link = get(&mut client, "/f?path=data/link.mp4&once=1", &[]).await;
    assert_eq!(link.header("x-error"), "invalid");
}

each_protocol!(a_file_for_one_download_is_deleted_only_when_all_of_it_was_sent, |protocol| {
    async move {
        let server = server().await;
        let file = data(&server).join("x.mp4");
        let once = format!("{X}&once=1");
        let mut client = server.client(protocol).await;
        let etag = get(&mut client, X, &[]).await.header("etag").to_owned();

        let part = get(&mut client, &once, &[("range", "bytes=0-99")]).await;
        assert_eq!(part.status, 206);
        let all = get(&mut client, &once, &[("range", "bytes=0-")]).await;
        assert_eq!((all.status.as_u16(), all.body.len()), (206, SIZE));
        assert_eq!(get(&mut client, &once, &[("if-none-match", &etag)]).await.status, 304);
        assert_eq!(ask(&mut client, Method::HEAD, &once, &[]).await.status, 200);
        assert_eq!(get(&mut client, &format!("{once}&status=404"), &[]).await.status, 404);
        {
            // Leaves in the middle.
            let mut leaving = server.client(protocol).await;
            let mut incoming = leaving.open(&format!("{once}&rate=100000")).await;
            assert!(incoming.piece().await.is_some());
        }
        assert!(file.exists());

        // Two at once are both whole: the one that is still sent when the other deletes it, too.
        let mut other = server.client(protocol).await;
        let mut slow = other.open(&format!("{once}&rate=2000000")).await;
        let mut sent = slow.piece().await.unwrap().to_vec();
        let fast = get(&mut client, &once, &[]).await;
        while let Some(piece) = slow.piece().await {
            sent.extend_from_slice(&piece);
        }
        assert!(fast.body == content() && fast.broken.is_none());
        assert!(sent == content());
        server.until_get(X, |answer| answer.status == 500).await;
        assert!(!file.exists());
    }
});

#[tokio::test]
async fn a_file_that_was_replaced_meanwhile_is_not_deleted() {
    let server = server().await;
    let file = data(&server).join("x.mp4");
    let mut client = server.h1().await;

    let mut incoming = client.open(&format!("{X}&once=1&rate=2000000")).await;
    fs::write(data(&server).join("new"), "new").unwrap();
    fs::rename(data(&server).join("new"), &file).unwrap();
    let mut sent = Vec::new();
    while let Some(piece) = incoming.piece().await {
        sent.extend_from_slice(&piece);
    }

    assert!(sent == content());
    server.until_logged("sent and not deleted").await;
    assert_eq!(fs::read_to_string(file).unwrap(), "new");
}

each_protocol!(a_file_that_shrinks_while_it_is_sent_breaks_off, |protocol| async move {
    let server = server().await;
    let file = fs::OpenOptions::new().write(true).open(data(&server).join("x.mp4")).unwrap();

    let path = format!("{X}&rate=1000000");
    let mut client = server.client(protocol).await;
    let shrinking = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        file.set_len(500_000).unwrap();
    };
    let (answer, ()) = tokio::join!(get(&mut client, &path, &[]), shrinking);

    assert_eq!(answer.header("content-length"), SIZE.to_string());
    assert!(answer.body.len() < SIZE && answer.broken.is_some(), "{:?}", answer.broken);
});

#[tokio::test]
async fn a_file_that_the_kernel_sends_breaks_off_where_it_shrinks() {
    // More than sockets hold.
    const LARGE: usize = 64 << 20;
    let server = server().await;
    fs::write(data(&server).join("large"), vec![b'x'; LARGE]).unwrap();
    let mut socket = TcpStream::connect(server.http.unwrap()).await.unwrap();

    let request = "GET /f?path=data/large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1 << 20];
    socket.read_exact(&mut answer).await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(data(&server).join("large")).unwrap();
    file.set_len(2 << 20).unwrap();
    let _reset_or_end = socket.read_to_end(&mut answer).await;

    let head = String::from_utf8_lossy(&answer[..1000]);
    assert!(head.contains(&format!("content-length: {LARGE}\r\n")), "{head}");
    assert!(answer.len() < LARGE, "{}", answer.len());
}

#[tokio::test]
async fn coded_siblings_are_sent_to_clients_that_prefer_them() {
    let server = server().await;
    let data = data(&server);
    fs::write(data.join("a.js"), "plain").unwrap();
    fs::write(data.join("a.js.br"), "brotli").unwrap();
    fs::write(data.join("a.js.gz"), "gzipped").unwrap();
    let mut client = server.h1().await;

    let mut tags = Vec::new();
    for (accept, coding, body) in [
        ("gzip, br", "br", "brotli"),
        ("gzip;q=1, br;q=0.5", "gzip", "gzipped"),
        ("zstd, gzip", "gzip", "gzipped"),
        ("zstd", "", "plain"),
        ("identity, br;q=0.1", "", "plain"),
        ("br;q=0, gzip;q=0", "", "plain"),
    ] {
        let fields = [("accept-encoding", accept)];
        let answer = get(&mut client, "/f?path=data/a.js&pre=1", &fields).await;
        assert_eq!((answer.header("content-encoding"), &*answer.text()), (coding, body));
        assert_eq!(answer.header("vary"), "Accept-Encoding", "{accept}");
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        tags.push(answer.header("etag").to_owned());
    }
    assert!(tags[0] != tags[1] && tags[1] == tags[2] && tags[0] != tags[3]);
    let fields = [("accept-encoding", "br"), ("if-none-match", tags[0].as_str())];
    assert_eq!(get(&mut client, "/f?path=data/a.js&pre=1", &fields).await.status, 304);
    let without = get(&mut client, "/f?path=data/a.js", &[("accept-encoding", "br")]).await;
    assert_eq!((&*without.text(), without.header("vary")), ("plain", ""));

    let old = fs::OpenOptions::new().write(true).open(data.join("a.js.br")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    let fresh = get(&mut client, "/f?path=data/a.js&pre=1", &[("accept-encoding", "br")]).await;
    assert_eq!(fresh.text(), "plain");
}

#[tokio::test]
async fn a_reply_is_good_for_its_exchange_alone() {
    let server = server().await;
    let mut client = server.h1().await;

    assert_eq!(get(&mut client, X, &[]).await.body.len(), SIZE);
    let again = get(&mut client, &format!("{X}&again=1"), &[]).await;

    assert_eq!(again.text(), "the plugin's own");
    assert!(!again.headers.contains_key("wharf-reply"));
    server.until_logged("unknown reply token").await;
}

#[tokio::test]
async fn deadline_and_rate_hold_for_files() {
    let server = server().await;
    let begun = tokio::time::Instant::now();

    let answer = server.h1().await.get(&format!("{X}&rate=1000000")).await;

    assert_eq!(answer.body.len(), SIZE);
    let seconds = begun.elapsed().as_secs_f64();
    assert!(seconds > 0.85, "{seconds}");
}

each_protocol!(a_guest_of_wasi_0_2_sends_files_as_well, |protocol| async move {
    let server = TestServer::builder()
        .plugin("f", &guest("p2_file_reply"))
        .manifest("f", "[capabilities]\nfiles = { data = \"r\" }")
        .start()
        .await;
    fs::write(data(&server).join("n\u{f6}.txt"), "hello").unwrap();
    let mut client = server.client(protocol).await;

    let path = "/f?path=data/n%C3%B6.txt";
    let answer = get(&mut client, path, &[("range", "bytes=1-2")]).await;

    assert_eq!((answer.status.as_u16(), &*answer.text()), (206, "el"));
    assert_eq!(
        answer.headers["content-disposition"],
        HeaderValue::from_static("attachment; filename=\"n_.txt\"; filename*=UTF-8''n%C3%B6.txt")
    );
    let none = get(&mut client, "/f?path=data/none", &[]).await;
    assert_eq!((none.status.as_u16(), none.header("x-error")), (500, "not-found"));
});

#[tokio::test]
async fn curl_resumes_and_takes_ranges() {
    let server = server().await;
    let content = content();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x");
    for (arguments, url) in [
        (&["--http1.1"][..], format!("http://{}{X}", server.http.unwrap())),
        (&["--http2", "--insecure"], format!("https://{}{X}", server.https.unwrap())),
    ] {
        let curl = |more: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", "--max-time", "20"]);
            command.args(arguments).args(more).arg("--output").arg(&target).arg(&url);
            command
        };

        assert!(curl(&["-r", "5-14"]).status().await.unwrap().success());
        assert!(fs::read(&target).unwrap() == content[5..15]);
        fs::write(&target, &content[..1234]).unwrap();
        assert!(curl(&["-C", "-"]).status().await.unwrap().success());
        assert!(fs::read(&target).unwrap() == content);
    }
}
