//! The sample plugin `download`: files up and down.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wharf_tests::{Answer, Client, Protocol, TestServer, clients, each_protocol};

const NAME: &str = "Gr%C3%BC%C3%9Fe%20%E6%B8%AC.txt";

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("download").start().await
}

fn uploads(server: &TestServer) -> PathBuf {
    server.data().join("plugins/download/files/uploads")
}

/// Uploads `content`; where it is then.
async fn upload(client: &mut Client, name: &str, content: impl Into<Bytes>) -> String {
    let answer = client.post(&format!("/download?name={name}"), content).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.header("location").to_owned()
}

async fn get(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = client.request(Method::GET, path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(Bytes::new()).unwrap()).await
}

each_protocol!(an_upload_comes_back_whole_and_in_parts, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let content: Vec<u8> = (0..300_000u32).map(|i| (i * 7 / 3) as u8).collect();

    let path = upload(&mut client, NAME, content.clone()).await;
    let whole = client.get(&path).await;
    let etag = whole.header("etag").to_owned();
    let part = get(&mut client, &path, &[("range", "bytes=1000-1999")]).await;
    let last = get(&mut client, &path, &[("range", "bytes=-5")]).await;
    let parts = get(&mut client, &path, &[("range", "bytes=0-9,200000-200009")]).await;
    let outside = get(&mut client, &path, &[("range", "bytes=300000-")]).await;
    let same = get(&mut client, &path, &[("range", "bytes=0-0"), ("if-range", &etag)]).await;
    let other = get(&mut client, &path, &[("range", "bytes=0-0"), ("if-range", "\"x\"")]).await;
    let known = get(&mut client, &path, &[("if-none-match", &etag)]).await;

    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &content[..]));
    assert!(etag.starts_with('"'), "{etag}");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert!(!whole.header("last-modified").is_empty());
    let disposition = whole.header("content-disposition");
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert!(disposition.contains(&format!("filename*=UTF-8''{NAME}")), "{disposition}");
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &content[1000..2000]));
    assert_eq!(part.header("content-range"), "bytes 1000-1999/300000");
    assert_eq!((last.status.as_u16(), &last.body[..]), (206, &content[299_995..]));
    assert_eq!(parts.status, 206);
    assert!(parts.header("content-type").starts_with("multipart/byteranges"), "{parts:?}");
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), "bytes */300000");
    assert_eq!((same.status.as_u16(), same.body.len()), (206, 1));
    assert_eq!((other.status.as_u16(), other.body.len()), (200, 300_000));
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
});

each_protocol!(head_tells_what_get_would, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let path = upload(&mut client, "a.txt", "content").await;

    for path in [&path, "/stream-video/sample", "/download/limited", "/download", "/downloads"] {
        let head = client.request(Method::HEAD, path).body(Bytes::new()).unwrap();
        let head = client.send(head).await;

        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
        assert!(!head.header("content-length").is_empty(), "{path}");
        assert!(!head.header("content-type").is_empty(), "{path}");
    }
});

each_protocol!(a_file_that_is_sent_once_is_gone, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let path = upload(&mut client, "a.txt", "content").await;
    let once = format!("{path}?once=1");

    let part = get(&mut client, &once, &[("range", "bytes=0-2")]).await;
    let head = client.request(Method::HEAD, &once).body(Bytes::new()).unwrap();
    let head = client.send(head).await;
    let whole = client.get(&once).await;

    assert_eq!((part.status.as_u16(), &part.body[..]), (206, b"con".as_slice()));
    assert_eq!(head.status, 200);
    assert_eq!(whole.text(), "content");
    server.until_get(&path, |answer| answer.status == 404).await;
});

#[tokio::test]
async fn uploads_survive_a_restart_and_can_be_deleted() {
    let server = server().await;
    let mut client = server.h1().await;
    let path = upload(&mut client, "kept.txt", "content").await;

    let server = server.restart().await;
    let mut client = server.h1().await;
    let kept = client.get(&path).await;
    let list = client.get("/download").await.json();
    let delete = client.request(Method::DELETE, &path).body(Bytes::new()).unwrap();
    let deleted = client.send(delete).await;

    assert_eq!(kept.text(), "content");
    assert_eq!(list[0]["name"], "kept.txt", "{list}");
    assert_eq!(list[0]["location"], path, "{list}");
    assert_eq!(deleted.status, 204);
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(fs::read_dir(uploads(&server)).unwrap().count(), 0);
}

each_protocol!(the_file_of_a_form_is_kept, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let form = "--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n\
                --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../ü.txt\"\r\n\
                content-type: text/plain\r\n\r\nline\r\n--a\r\n--b--\r\n";
    let send = async |client: &mut Client, body: String| {
        let request = client.request(Method::POST, "/download");
        let request = request.header("content-type", "multipart/form-data; boundary=b");
        client.send(request.body(body.into()).unwrap()).await
    };

    let kept = send(&mut client, form.to_owned()).await;
    let cut = send(&mut client, form.replace("--b--", "--b")).await;

    assert_eq!(kept.status, 201, "{kept:?}");
    assert_eq!(kept.json()["name"], "ü.txt");
    let file = client.get(kept.header("location")).await;
    assert_eq!(file.text(), "line\r\n--a");
    assert_eq!(cut.status, 400, "{cut:?}");
});

#[tokio::test]
async fn curl_uploads_forms_and_bodies() {
    let server = server().await;
    let origin = format!("http://{}", server.http.unwrap());
    let file = server.dir().join("Zoë's report.txt");
    fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
    let form = format!("file=@{}", file.display());
    let raw = format!("@{}", file.display());

    let url = format!("{origin}/download");
    let Some(form) = clients::program("curl", &["-sS", "-F", &form, &url]).await else { return };
    let url = format!("{origin}/download?name=raw.txt");
    let arguments = ["-sS", "--http2-prior-knowledge", "--data-binary", &raw, &url];
    let raw = clients::program("curl", &arguments).await.unwrap();

    let form: serde_json::Value = serde_json::from_slice(&form.stdout).unwrap();
    let raw: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!((&form["name"], &form["size"]), (&"Zoë's report.txt".into(), &(3 << 20).into()));
    assert_eq!((&raw["name"], &raw["size"]), (&"raw.txt".into(), &(3 << 20).into()));
}

each_protocol!(what_is_wrong_is_a_problem, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (method, path, status) in [
        (Method::GET, "/download/0123456789abcdef", 404),
        (Method::GET, "/download/..%2F..%2Fbuiltin", 404),
        (Method::GET, "/download/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        (Method::GET, "/stream-video/nothing", 404),
        (Method::DELETE, "/download/0123456789abcdef", 404),
        (Method::GET, "/download/limited?rate=0", 400),
        (Method::GET, "/download/limited?rate=fast", 400),
        (Method::POST, "/download", 400),
        (Method::POST, "/download?name=..", 400),
        (Method::PUT, "/download", 405),
        (Method::POST, "/stream-video/sample", 405),
        (Method::GET, "/api/upload/a.txt", 405),
    ] {
        let request = client.request(method.clone(), path).body(Bytes::new()).unwrap();
        let answer = client.send(request).await;

        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{path}");
    }
});

each_protocol!(names_cannot_leave_their_field_or_folder, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (given, kept) in [
        ("..%2F..%2Fescape.txt", "escape.txt"),
        ("a%0D%0Aset-cookie:%20x=1", "aset-cookie: x=1"),
        ("quote%22;filename=evil.exe", "quote\";filename=evil.exe"),
        ("..%5C..%5Cb.txt", "b.txt"),
        ("nul%00.txt", "nul.txt"),
    ] {
        let path = upload(&mut client, given, "x").await;
        let answer = client.get(&path).await;

        assert_eq!(answer.status, 200, "{given}");
        assert!(answer.header("set-cookie").is_empty(), "{answer:?}");
        let id = path.rsplit('/').next().unwrap();
        assert!(uploads(&server).join(id).join(kept).is_file(), "{given}");
    }
    assert!(!uploads(&server).join("../escape.txt").exists());
});

#[tokio::test]
async fn an_upload_that_is_broken_off_leaves_nothing() {
    let server = server().await;
    let mut client = server.h1().await;
    upload(&mut client, "whole", "whole").await;
    let parts = || {
        let entries = fs::read_dir(uploads(&server)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    };

    let mut stream = TcpStream::connect(server.http.unwrap()).await.unwrap();
    let half = "POST /download?name=half HTTP/1.1\r\nhost: a\r\ncontent-length: 9999\r\n\r\nhalf";
    stream.write_all(half.as_bytes()).await.unwrap();
    eventually(|| parts() == 1).await;
    drop(stream);

    eventually(|| parts() == 0).await;
    let list = client.get("/download").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}

async fn eventually(fits: impl Fn() -> bool) {
    let begun = Instant::now();
    while !fits() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_by_its_length() {
    let server = server().await;
    let url = format!("https://localhost:{}/download?name=large", server.https.unwrap().port());
    let file = server.dir().join("large");
    // Of holes alone: nothing of it is on disk.
    fs::File::create(&file).unwrap().set_len(2 << 30).unwrap();
    let file = file.to_str().unwrap();

    for version in ["--http1.1", "--http2"] {
        let told = "%{http_code} %{content_type}";
        let arguments =
            ["-sk", version, "-X", "POST", "-T", file, "-o", "/dev/null", "-w", told, &url];
        let Some(output) = clients::program("curl", &arguments).await else { return };

        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told, "413 application/problem+json", "{version}");
    }
}

each_protocol!(the_video_is_sent_in_ranges, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let source =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/download/src/sample.mp4");
    let source = fs::read(source).unwrap();
    let size = source.len();

    let whole = client.get("/stream-video/sample").await;
    let begin = get(&mut client, "/stream-video/sample", &[("range", "bytes=0-")]).await;
    let part = get(&mut client, "/stream-video/sample", &[("range", "bytes=90000-90999")]).await;
    let outside = get(&mut client, "/stream-video/sample", &[("range", "bytes=999999-")]).await;

    assert_eq!(whole.header("content-type"), "video/mp4");
    assert!(whole.body == source);
    assert_eq!((begin.status.as_u16(), begin.body.len()), (206, size));
    assert_eq!(part.header("content-range"), format!("bytes 90000-90999/{size}"));
    assert!(part.body[..] == source[90_000..91_000]);
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
});

each_protocol!(a_limited_download_takes_its_time_alone, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let path = "/download/limited?rate=2000000";
    // The file is made at the first use.
    get(&mut client, path, &[("range", "bytes=0-0")]).await;
    let begun = Instant::now();

    let slow = get(&mut client, path, &[("range", "bytes=0-3999999")]).await;
    let took = begun.elapsed();

    assert_eq!((slow.status.as_u16(), slow.body.len()), (206, 4_000_000));
    // 2 s, and not much sooner for what may be sent at once; later is the machine's business.
    assert!(took > Duration::from_millis(1_800), "{took:?}");
    let begun = Instant::now();
    let fast = get(&mut client, "/download/limited?rate=1000000000", &[]).await;
    assert_eq!(fast.body.len(), 16 << 20);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
});

#[tokio::test]
async fn an_upload_over_http_1_closes_its_connection() {
    let server = server().await;

    let over_h1 = server.h1().await.post("/api/upload/a.txt", "content").await;
    let over_h2 = server.client(Protocol::H2).await.post("/api/upload/b.txt", "content").await;

    assert_eq!((over_h1.status, over_h1.header("connection")), (StatusCode::CREATED, "close"));
    assert_eq!((over_h2.status, over_h2.header("connection")), (StatusCode::CREATED, ""));
}

#[tokio::test]
async fn the_page_uploads_seeks_and_measures() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(seen) = clients::browser("files.mjs", &[&origin]).await else { return };

    let duration = seen["duration"].as_f64().unwrap();
    assert!((11.5..12.5).contains(&duration), "{seen}");
    let pictures: Vec<_> = (0..3).map(|i| seen["seeks"][i]["picture"].as_f64().unwrap()).collect();
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2], "{seen}");
    for range in seen["ranges"].as_array().unwrap() {
        assert_eq!(range["status"], 206, "{seen}");
        assert!(range["asked"].as_str().unwrap().starts_with("bytes="), "{seen}");
    }
    let steps = seen["upload"]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| (0.01..0.99).contains(&step.as_f64().unwrap())), "{seen}");
    assert!(seen["upload"]["state"].as_str().unwrap().contains("kept at /download/"), "{seen}");
    assert_eq!(seen["listed"], "Grüße 測試.bin", "{seen}");
    assert_eq!(seen["saved"], "Grüße 測試.bin", "{seen}");
    assert!(seen["limited"]["state"].as_str().unwrap().starts_with("16.0 MiB in "), "{seen}");
    assert_eq!(seen["errors"].as_array().unwrap().len(), 0, "{seen}");
}
