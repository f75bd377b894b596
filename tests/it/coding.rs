//! Content coding by the host: what plugins answer, as clients that others wrote decode it.

use std::io::Read;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};
use http::Method;
use serde_json::Value;
use wharf_tests::{Answer, Client, TestServer, clients, each_protocol, guest};

/// 20,000 bytes of text in one response of `p3_stream`.
const TEXT: &str = "/text?chunks=20&size=1000&set=content-type:text/plain";

async fn server() -> TestServer {
    TestServer::builder()
        .plugin("text", &guest("p3_stream"))
        .plugin("echo", &guest("p3_echo"))
        .plugin("hello", &guest("p2_hello"))
        .start()
        .await
}

fn text() -> Vec<u8> {
    (0..20).flat_map(|at| [b'a' + at; 1000]).collect()
}

fn gunzip(coded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).unwrap();
    plain
}

async fn ask(client: &mut Client, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(method, path);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(Bytes::new()).unwrap()).await
}

each_protocol!(text_is_coded_as_the_client_likes_it, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let tagged = format!("{TEXT}&set=etag:%22a%22");

    let plain = ask(&mut client, Method::GET, &tagged, &[]).await;
    let coded = ask(&mut client, Method::GET, &tagged, &[("accept-encoding", "gzip")]).await;
    let head = ask(&mut client, Method::HEAD, &tagged, &[("accept-encoding", "gzip")]).await;
    let same = [("accept-encoding", "gzip"), ("if-none-match", coded.header("etag"))];
    let same = ask(&mut client, Method::GET, &tagged, &same).await;
    let refused = [("accept-encoding", "br;q=0, gzip;q=0")];
    let refused = ask(&mut client, Method::GET, &tagged, &refused).await;

    assert_eq!(plain.body, text());
    assert_eq!(plain.header("etag"), "\"a\"");
    assert_eq!(plain.header("vary"), "Accept-Encoding");
    assert_eq!(coded.header("content-encoding"), "gzip", "{coded:?}");
    assert_eq!(coded.header("etag"), "W/\"a\"");
    assert_eq!(coded.header("vary"), "Accept-Encoding");
    assert_eq!(gunzip(&coded.body), text());
    assert!(coded.body.len() < 1000, "{}", coded.body.len());
    assert_eq!(head.header("content-length"), "", "{head:?}");
    assert_eq!(same.status, 304);
    assert_eq!(same.header("etag"), "W/\"a\"");
    assert_eq!(refused.header("content-encoding"), "");
    assert_eq!(refused.body, text());
});

each_protocol!(a_chunk_arrives_before_the_next_is_made, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let fields = [("content-type", "text/plain"), ("accept-encoding", "gzip")];

    let (mut outgoing, mut incoming) = client.duplex_with("/echo", &fields).await;
    assert_eq!(incoming.headers["content-encoding"], "gzip");
    let mut decoder = Decompress::new_gzip(15);
    for round in 0..100 {
        let line = format!("line {round} of a stream whose next line waits for this one\n");
        outgoing.write(line.clone()).await;
        let mut plain = Vec::new();
        // The server has nothing more to send until it gets the next line.
        while plain.len() < line.len() {
            let piece = incoming.piece().await.unwrap();
            let mut room = vec![0; 4096];
            let (read, given) = (decoder.total_in(), decoder.total_out());
            decoder.decompress(&piece, &mut room, FlushDecompress::Sync).unwrap();
            assert_eq!(decoder.total_in() - read, piece.len() as u64);
            plain.extend_from_slice(&room[..(decoder.total_out() - given) as usize]);
        }
        assert_eq!(String::from_utf8(plain).unwrap(), line);
    }
    outgoing.finish().await;

    while incoming.piece().await.is_some() {}
});

each_protocol!(what_may_hold_secrets_or_is_no_text_stays_as_it_is, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let chunks = "/text?chunks=2&size=1000";
    for (what, path, fields) in [
        ("it sets a cookie", format!("{TEXT}&set=set-cookie:a%3Db"), &[][..]),
        ("a cookie came", TEXT.to_owned(), &[("cookie", "a=b")]),
        ("an authorization came", TEXT.to_owned(), &[("authorization", "Basic eA==")]),
        ("no text", chunks.to_owned(), &[]),
        ("events", format!("{chunks}&set=content-type:text/event-stream"), &[]),
        ("coded already", format!("{TEXT}&set=content-encoding:x-own"), &[]),
        ("not to be transformed", format!("{TEXT}&set=cache-control:no-transform"), &[]),
        ("short", "/text?chunks=1&size=1023&set=content-type:text/plain".to_owned(), &[]),
        ("not found", "/nowhere".to_owned(), &[]),
    ] {
        let fields = [&[("accept-encoding", "gzip, br, zstd")], fields].concat();

        let answer = ask(&mut client, Method::GET, &path, &fields).await;

        assert!(matches!(answer.header("content-encoding"), "" | "x-own"), "{what}: {answer:?}");
    }
});

#[tokio::test]
async fn answers_of_wasi_0_2_are_coded_too() {
    let server = server().await;
    for size in [1023, 1024, 10_000, 60_000, 500_000] {
        let mut client = server.h1().await;
        let path = format!("/hello?size={size}");

        let plain = client.get(&path).await;
        let coded = ask(&mut client, Method::GET, &path, &[("accept-encoding", "gzip")]).await;

        assert_eq!(plain.body.len(), size);
        assert_eq!(coded.header("content-encoding"), if size < 1024 { "" } else { "gzip" });
        let decoded = if size < 1024 { coded.body.to_vec() } else { gunzip(&coded.body) };
        assert!(decoded == plain.body, "{size}");
    }
}

#[tokio::test]
async fn curl_decodes_every_coding() {
    let server = server().await;
    let ca = server.ca();
    let ca = ca.to_str().unwrap();
    let origin = format!("https://localhost:{}", server.https.unwrap().port());
    let long = "/text?chunks=2000&size=1000&set=content-type:application/json";
    for version in ["--http1.1", "--http2"] {
        for (accepted, expected) in [
            ("gzip", "gzip"),
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip, br, zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.5, zstd;q=0.1", "gzip"),
        ] {
            for (path, length) in [(TEXT, 20_000), (long, 2_000_000)] {
                let url = format!("{origin}{path}");
                let accepted = format!("accept-encoding: {accepted}");
                let arguments = [
                    "-sS",
                    "--cacert",
                    ca,
                    version,
                    "--compressed",
                    "-H",
                    &accepted,
                    "-w",
                    "%{stderr}%{header_json}",
                    &url,
                ];

                let Some(output) = clients::program("curl", &arguments).await else { return };

                let said = String::from_utf8_lossy(&output.stderr);
                let headers: Value = serde_json::from_str(&said).expect(&said);
                assert_eq!(headers["content-encoding"][0], expected, "{headers}");
                assert_eq!(output.stdout.len(), length);
                assert!(output.stdout.starts_with(&text()[..19_000]));
            }
        }
    }
}

#[tokio::test]
async fn node_and_chromium_decode_what_they_ask_for() {
    let server = server().await;
    let origin = format!("http://localhost:{}", server.http.unwrap().port());
    let secure = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(seen) = clients::browser("coding.mjs", &[&origin, &secure, TEXT]).await else {
        return;
    };

    for coding in ["gzip", "br"] {
        let node = &seen["node"][coding];
        assert_eq!(node["coding"], coding, "{seen}");
        assert_eq!(node["length"], 20_000, "{seen}");
        assert_eq!(node["right"], true, "{seen}");
    }
    let chromium = &seen["chromium"];
    assert_eq!(chromium["length"], 20_000, "{seen}");
    assert!(["zstd", "br", "gzip"].contains(&chromium["coding"].as_str().unwrap()), "{seen}");
    assert!(chromium["encoded"].as_u64().unwrap() < 2000, "{seen}");
    assert_eq!(chromium["decoded"], 20_000, "{seen}");
}

#[tokio::test]
async fn aioquic_gets_a_coded_body() {
    let server = server().await;
    let url = format!("https://localhost:{}{TEXT}", server.https.unwrap().port());
    let arguments = ["--header", "accept-encoding: gzip", &url];

    let Some(seen) = clients::python("h3_client.py", &arguments).await else { return };

    assert_eq!(seen[0]["status"], 200, "{seen:?}");
    assert!(seen[0]["headers"].to_string().contains("gzip"), "{seen:?}");
    assert_eq!(seen[0]["body"].as_str().unwrap().as_bytes(), text());
}
