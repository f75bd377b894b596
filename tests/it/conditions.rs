//! Conditions and ranges by the host, where the plugin leaves them (RFC 9110 §13, §14).

use bytes::Bytes;
use http::Method;
use wharf_tests::{Answer, Client, TestServer, clients, each_protocol, guest};

const DATE: &str = "Sat, 29 Oct 1994 19:43:31 GMT";

async fn server() -> TestServer {
    TestServer::builder()
        .plugin("text", &guest("p3_stream"))
        .plugin("echo", &guest("p3_echo"))
        .plugin("hello", &guest("p2_hello"))
        .plugin("plain", &guest("p3_plain"))
        .start()
        .await
}

async fn ask(client: &mut Client, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(method, path);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(Bytes::new()).unwrap()).await
}

each_protocol!(a_content_without_a_tag_gets_one, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    for path in ["/plain", "/hello", "/hello?size=40000"] {
        let first = client.get(path).await;
        let tag = first.header("etag").to_owned();
        let again = ask(&mut client, Method::GET, path, &[("if-none-match", &tag)]).await;
        let other = ask(&mut client, Method::GET, path, &[("if-none-match", "\"other\"")]).await;
        let failed = ask(&mut client, Method::GET, path, &[("if-match", "\"other\"")]).await;
        let part = [("range", "bytes=2-9"), ("if-range", &*tag)];
        let part = ask(&mut client, Method::GET, path, &part).await;

        assert!(tag.starts_with('"') && tag.len() > 10, "{path} {first:?}");
        assert_eq!(first.header("accept-ranges"), "bytes", "{path}");
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, &*tag), "{path}");
        assert!(again.body.is_empty());
        assert_eq!((other.status.as_u16(), other.header("etag")), (200, &*tag), "{path}");
        assert_eq!(failed.status, 412, "{path}");
        assert_eq!(failed.header("cache-control"), "no-store");
        assert_eq!(part.status, 206, "{path}");
        assert_eq!(part.header("content-range"), format!("bytes 2-9/{}", first.body.len()));
        assert_eq!(part.body, first.body.slice(2..10), "{path}");
    }
});

each_protocol!(the_plugins_validators_count, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    // A stream with trailers and without a length: its tag and date are the plugin's.
    let dated = format!("set=last-modified:{}", DATE.replace(' ', "%20"));
    let path = &format!("/text?chunks=200&size=1000&set=etag:%22v1%22&{dated}");
    for (clause, method, fields, status) in [
        ("§13.1.2", Method::GET, &[("if-none-match", "\"v0\", W/\"v1\"")][..], 304),
        ("§13.1.2", Method::HEAD, &[("if-none-match", "*")], 304),
        ("§13.1.3", Method::GET, &[("if-modified-since", DATE)], 304),
        ("§13.1.1", Method::GET, &[("if-match", "\"v0\"")], 412),
        ("§13.1.1", Method::GET, &[("if-match", "\"v1\"")], 200),
        ("§14.2 of unknown length", Method::GET, &[("range", "bytes=0-9")], 200),
    ] {
        let answer = ask(&mut client, method, path, fields).await;

        assert_eq!(answer.status, status, "{clause} {answer:?}");
        assert!(!answer.header("date").is_empty());
        if status == 304 {
            assert_eq!(answer.header("etag"), "\"v1\"");
            assert_eq!(answer.header("content-type"), "");
        }
    }
});

each_protocol!(parts_are_cut_out_of_streams, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let path = "/text?chunks=300&size=1000&set=etag:%22v1%22&set=content-length:300000&set=content-type:text/plain";
    let whole: Vec<u8> = (0..300).flat_map(|at| [b'a' + (at % 26) as u8; 1000]).collect();

    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=999-1000", 999, 1000),
        ("bytes=150000-", 150_000, 299_999),
        ("bytes=-1500", 298_500, 299_999),
    ] {
        let part = ask(&mut client, Method::GET, path, &[("range", range)]).await;

        assert_eq!(part.status, 206, "{part:?}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/300000"));
        assert!(part.body == whole[first..=last], "{range}");
        assert_eq!(part.broken, None);
    }
    let none = ask(&mut client, Method::GET, path, &[("range", "bytes=300000-")]).await;
    assert_eq!((none.status.as_u16(), none.header("content-range")), (416, "bytes */300000"));
    let stale = [("range", "bytes=0-0"), ("if-range", "\"v0\"")];
    assert_eq!(ask(&mut client, Method::GET, path, &stale).await.body.len(), 300_000);
    let many = ask(&mut client, Method::GET, path, &[("range", "bytes=1000-1001,5-6")]).await;
    assert!(many.header("content-type").starts_with("multipart/byteranges"), "{many:?}");
    assert_eq!(many.text().matches("content-range: bytes ").count(), 2);
});

each_protocol!(unsafe_methods_and_refused_ranges_are_the_plugins_business, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let fields = [("if-match", "\"x\""), ("content-type", "text/plain")];
    let posted = ask(&mut client, Method::POST, "/echo", &fields).await;
    let range = [("range", "bytes=0-1")];
    let refused = "/text?chunks=1&size=100&set=accept-ranges:none&set=etag:%22a%22";
    let refused = ask(&mut client, Method::GET, refused, &range).await;
    let secret = "/text?chunks=1&size=100&set=cache-control:no-store";
    let secret = ask(&mut client, Method::GET, secret, &[("if-none-match", "*")]).await;
    let weak = "/text?chunks=1&size=100&set=etag:W/%22a%22";
    let weak = ask(&mut client, Method::GET, weak, &range).await;

    assert_eq!(posted.status, 200);
    assert_eq!(refused.status, 200);
    assert_eq!((secret.status.as_u16(), secret.header("etag")), (200, ""));
    assert_eq!((weak.status.as_u16(), weak.header("accept-ranges")), (200, ""));
});

#[tokio::test]
async fn curl_resumes_a_download_of_a_plugin() {
    let server = server().await;
    let url = format!(
        "http://{}/text?chunks=300&size=1000&set=etag:%22v1%22&set=content-length:300000",
        server.http.unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let whole: Vec<u8> = (0..300).flat_map(|at| [b'a' + (at % 26) as u8; 1000]).collect();
    std::fs::write(&file, &whole[..123_456]).unwrap();

    let arguments = ["-sS", "--fail", "-C", "-", "-o", file.to_str().unwrap(), &url];
    let Some(output) = clients::program("curl", &arguments).await else { return };

    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(&file).unwrap() == whole);
}

#[tokio::test]
async fn curl_compares_tags() {
    let server = server().await;
    let url = format!("http://{}/hello", server.http.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let tag = folder.path().join("tag");
    let tag = tag.to_str().unwrap();
    let arguments = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--etag-save",
        tag,
        "--etag-compare",
        tag,
        &url,
    ];

    let mut statuses = Vec::new();
    for _ in 0..2 {
        let Some(output) = clients::program("curl", &arguments).await else { return };
        statuses.push(String::from_utf8(output.stdout).unwrap());
    }

    assert_eq!(statuses, ["200", "304"]);
}
