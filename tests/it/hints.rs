//! The sample plugin `hints`: what a browser can fetch before there is a page.

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use wharf_tests::{Protocol, TestServer, clients, each_protocol};

const LINKS: [&str; 3] = [
    "</css/critical.css>; rel=preload; as=style",
    "</js/app.js>; rel=preload; as=script",
    "</fonts/main.woff2>; rel=preload; as=font; type=\"font/woff2\"; crossorigin",
];

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("hints").start().await
}

fn origin(server: &TestServer) -> String {
    format!("https://localhost:{}", server.https.unwrap().port())
}

each_protocol!(pages_name_their_files_and_serve_them, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for page in ["/app?wait=0", "/dashboard?wait=0"] {
        // The crate h3 0.0.8 takes an interim head for the response; to HEAD there is none.
        let method = if protocol == Protocol::H3 { Method::HEAD } else { Method::GET };
        let request = client.request(method, page).body(Bytes::new()).unwrap();
        let answer = client.send(request).await;

        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{page}");
        let links: Vec<_> = answer.headers.get_all("link").iter().collect();
        assert_eq!(links.len(), 3, "{page}");
        for link in links {
            let path = link.to_str().unwrap().split(['<', '>']).nth(1).unwrap();
            let file = client.get(path).await;
            assert_eq!(file.status, 200, "{path}");
            assert_eq!(file.header("cache-control"), "public, max-age=3600", "{path}");

            let again = client.request(Method::GET, path);
            let again = again.header("if-none-match", file.header("etag"));
            let again = client.send(again.body(Bytes::new()).unwrap()).await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path}");
        }
    }
});

each_protocol!(bad_waits_and_methods_are_problems, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let bad = client.get("/app?wait=long").await;
    let post = client.post("/app", "x").await;
    let head = client.request(Method::HEAD, "/dashboard").body(Bytes::new()).unwrap();
    let head = client.send(head).await;

    assert_eq!(bad.status, 400);
    assert_eq!(bad.header("content-type"), "application/problem+json");
    assert_eq!(post.status, 405);
    assert_eq!(post.header("content-type"), "application/problem+json");
    assert!(post.header("allow").contains("GET"), "{post:?}");
    assert_eq!(head.status, 200);
    assert_eq!(head.headers.get_all("link").iter().count(), 3);
    assert!(head.body.is_empty());
});

#[tokio::test]
async fn hints_come_before_the_page_over_each_protocol() {
    let server = server().await;
    let origin = origin(&server);
    let url = format!("{origin}/app?wait=300");

    for version in ["--http1.1", "--http2"] {
        let arguments = ["-sk", "-o", "/dev/null", "-D", "-", version, &url];
        let Some(output) = clients::program("curl", &arguments).await else { return };
        let heads = String::from_utf8(output.stdout).unwrap();
        let (hints, page) = heads.split_once("\r\n\r\n").unwrap();
        assert!(hints.contains(" 103"), "{heads}");
        assert!(page.contains(" 200"), "{heads}");
        for link in LINKS {
            assert!(hints.contains(link) && page.contains(link), "{heads}");
        }
    }
    if let Some(seen) = clients::python("h3_client.py", &[&url]).await {
        let interim = seen[0]["interim"].to_string();
        assert_eq!(seen[0]["status"], 200, "{seen:?}");
        assert!(interim.contains("103") && interim.contains("</js/app.js>"), "{interim}");
    }
}

#[tokio::test]
async fn files_are_pushed_to_a_client_that_enabled_it() {
    let server = server().await;
    let origin = origin(&server);

    let Some(seen) = clients::node("http2.mjs", &[&origin, "/app?wait=300"]).await else { return };

    assert_eq!(seen["headers"][":status"], 200, "{seen}");
    let pushes = seen["pushes"].as_array().unwrap();
    let paths: Vec<_> =
        pushes.iter().map(|push| push["request"][":path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/css/critical.css", "/js/app.js", "/fonts/main.woff2"]);
    assert_eq!(pushes[0]["request"]["accept"], "text/css,*/*;q=0.1");
    for push in pushes {
        assert_eq!(push["response"][":status"], 200, "{push}");
        assert_eq!(push["error"], Value::Null, "{push}");
        let length: usize = push["response"]["content-length"].as_str().unwrap().parse().unwrap();
        // One character a byte: the client reads Latin-1.
        assert_eq!(push["body"].as_str().unwrap().chars().count(), length, "{push}");
    }
}

#[tokio::test]
async fn nothing_is_pushed_to_a_client_that_did_not_enable_it() {
    let server = server().await;
    let origin = origin(&server);

    let arguments = [&*origin, "/dashboard?wait=100", "--no-push"];
    let Some(seen) = clients::node("http2.mjs", &arguments).await else { return };

    assert_eq!(seen["headers"][":status"], 200, "{seen}");
    assert_eq!(seen["error"], Value::Null, "{seen}");
    assert_eq!(seen["pushes"].as_array().unwrap().len(), 0, "{seen}");
    assert_eq!(seen["interim"].as_array().unwrap().len(), 1, "{seen}");
}

#[tokio::test]
async fn a_browser_has_the_files_before_the_page() {
    let server = server().await;
    let origin = origin(&server);

    // Long enough for a browser that has little of the machine to ask for all of them.
    let arguments = [&*origin, "/app?wait=8000"];
    let Some(seen) = clients::browser("early_hints.mjs", &arguments).await else { return };

    let resources = seen["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 3, "{seen}");
    for resource in resources {
        assert_eq!(resource["by"], "early-hints", "{seen}");
        assert_eq!(resource["cached"], true, "{seen}");
    }
    assert!(seen["hinted"].as_f64() < seen["arrived"].as_f64(), "{seen}");
    assert_eq!(seen["font"], true, "{seen}");
    assert!(seen["verdict"].as_str().unwrap().starts_with("3 of 3 files came early"), "{seen}");
    assert_eq!(seen["errors"].as_array().unwrap().len(), 0, "{seen}");
    // The server's own account: the files were asked for and answered while the page was not there.
    server.until_logged("GET /app").await;
    let log = server.log();
    let line = |path: &str| log.lines().position(|line| line.contains(path)).unwrap();
    for path in ["GET /css/critical.css", "GET /js/app.js", "GET /fonts/main.woff2"] {
        assert!(line(path) < line("GET /app"), "{log}");
    }
}
