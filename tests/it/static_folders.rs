//! Folders that a manifest serves without any code.

use std::fs;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{Answer, Client, TestServer, each_protocol, guest};

/// The plugin folder `site` with `public` at `/assets`, and whatever `manifest` says besides.
async fn site(manifest: &str) -> TestServer {
    let manifest = format!("{manifest}\n[static]\n\"/assets\" = \"public\"\n");
    let server = TestServer::builder()
        .plugin("mw", &guest("mw_p3"))
        .manifest("mw", "routes = []")
        .plugin("mw2", &guest("mw_p2"))
        .manifest("mw2", "routes = []")
        .file("site/plugin.toml", manifest.as_bytes())
        .file("site/site.wasm", &guest("p3_hello"))
        .file("site/secret.txt", b"secret")
        .file("site/public/index.html", b"<h1>index</h1>")
        .file("site/public/app.js", b"let plain;")
        .file("site/public/app.js.br", b"brotli")
        .file("site/public/app.js.gz", b"gzip")
        .file("site/public/sub/index.html", b"<h1>sub</h1>")
        .file("site/public/sub/n\u{f6} 1.txt", b"0123456789")
        .file("site/public/empty/x.png", b"png")
        .file("site/public/.env", b"secret")
        .file("site/public/.git/config", b"secret")
        .start()
        .await;
    let public = server.plugins().join("site/public");
    symlink("../secret.txt", public.join("out.txt")).unwrap();
    symlink("/etc/passwd", public.join("passwd")).unwrap();
    symlink("..", public.join("up")).unwrap();
    server
}

async fn ask(client: &mut Client, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = client.request(method, path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(Bytes::new()).unwrap()).await
}

each_protocol!(a_folder_is_served_by_the_manifest_alone, |protocol| async move {
    let server = site("routes = [\"/*\"]").await;
    let mut client = server.client(protocol).await;

    let script = client.get("/assets/app.js").await;
    assert_eq!((script.status.as_u16(), &*script.text()), (200, "let plain;"));
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(script.header("x-content-type-options"), "nosniff");
    assert_eq!(script.header("cache-control"), "no-cache");
    assert_eq!(script.header("vary"), "Accept-Encoding");
    assert_eq!(script.header("accept-ranges"), "bytes");
    let etag = script.header("etag").to_owned();

    let same = ask(&mut client, Method::GET, "/assets/app.js", &[("if-none-match", &etag)]).await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (304, &*etag));
    assert_eq!(same.header("cache-control"), "no-cache");
    let coded =
        ask(&mut client, Method::GET, "/assets/app.js", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!((coded.header("content-encoding"), &*coded.text()), ("br", "brotli"));
    let head = ask(&mut client, Method::HEAD, "/assets/app.js", &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "10"));
    assert!(head.body.is_empty());
    let path = "/assets/sub/n%C3%B6%201.txt";
    let part = ask(&mut client, Method::GET, path, &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status.as_u16(), &*part.text()), (206, "234"));
    let beyond = ask(&mut client, Method::GET, path, &[("range", "bytes=10-")]).await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, "bytes */10"));

    assert_eq!(client.get("/assets/").await.text(), "<h1>index</h1>");
    assert_eq!(client.get("/assets/sub/").await.text(), "<h1>sub</h1>");
    assert_eq!(client.get("/assets/sub/?x=1").await.status, 200);
    for (path, location) in [
        ("/assets", "/assets/"),
        ("/assets/sub", "/assets/sub/"),
        ("/assets/sub?a=b", "/assets/sub/?a=b"),
    ] {
        let answer = client.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (301, location));
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let refused = ask(&mut client, method, "/assets/app.js", &[]).await;
        assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "GET, HEAD"));
    }
    // What is no file of the folder is not the plugin's either; everything else is.
    assert_eq!(client.get("/assets/none").await.status, 404);
    assert_eq!(client.get("/assets/empty/").await.status, 404);
    assert_eq!(client.get("/assetsx").await.status, 200);
    assert_eq!(client.get("/else").await.status, 200);
});

#[tokio::test]
async fn traversal_and_hidden_files_are_404_in_every_spelling() {
    let server = site("").await;
    let address = server.http.unwrap();

    for path in [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "%2e%2e%2fsecret.txt",
        "%252e%252e/secret.txt",
        "%252e%252e%252fsecret.txt",
        "..%5csecret.txt",
        "%2e%2e%5csecret.txt",
        ".%2e/secret.txt",
        "sub/../../secret.txt",
        "sub/%2e%2e/app.js",
        "./app.js",
        "sub//../app.js",
        "//app.js",
        "sub//index.html",
        "app.js%00",
        "app.js%00.png",
        "%00",
        "sub%2findex.html",
        "sub%5cindex.html",
        ".env",
        "%2eenv",
        ".git/config",
        ".git/",
        "out.txt",
        "passwd",
        "up/secret.txt",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "app.js/",
        "%zz",
        "%",
        "%c0%ae%c0%ae/secret.txt",
        "..;/secret.txt",
        "plugin.toml",
        "site.wasm",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET /site/assets/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(
            !answer.contains("\r\n\r\nsecret") && !answer.contains("root:"),
            "{path}: {answer}"
        );
    }
}

each_protocol!(a_plugin_without_routes_has_its_folder_below_its_prefix, |protocol| async move {
    let server = site("").await;
    let mut client = server.client(protocol).await;

    assert_eq!(client.get("/site/assets/app.js").await.text(), "let plain;");
    assert_eq!(client.get("/site/assets/sub").await.header("location"), "/site/assets/sub/");
    assert_eq!(client.get("/site/assets").await.header("location"), "/site/assets/");
    assert_eq!(client.get("/assets/app.js").await.status, 404);
    assert!(client.get("/site/x").await.text().starts_with("hello"));
});

each_protocol!(middleware_wraps_the_folder_as_well, |protocol| async move {
    for (middleware, marked) in [("mw", "p3"), ("mw2", "p2")] {
        let server = site(&format!("middleware = [\"{middleware}\"]")).await;
        let mut client = server.client(protocol).await;

        let file = ask(&mut client, Method::GET, "/site/assets/app.js", &[("range", "bytes=0-2")]);
        let file = file.await;
        assert_eq!((file.status.as_u16(), &*file.text()), (206, "let"), "{middleware}: {file:?}");
        assert!(!file.headers.contains_key("wharf-reply"));
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        if marked == "p3" {
            assert_eq!(file.header("x-mw"), marked);
        }
        let folder = client.get("/site/assets/sub").await;
        assert_eq!(folder.header("location"), "/site/assets/sub/");
        assert_eq!(client.get("/site/assets/none").await.status, 404);
        let posted = ask(&mut client, Method::POST, "/site/assets/app.js", &[]).await;
        assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, "GET, HEAD"));
    }
});

#[tokio::test]
async fn middleware_that_refuses_guards_the_files() {
    let server = TestServer::builder()
        .plugin("mw", &guest("mw_p3"))
        .manifest("mw", "routes = []")
        .plugin("site", &guest("p3_hello"))
        .manifest(
            "site",
            "routes = [\"/api\"]\nmiddleware = [\"mw\"]\n[static]\n\"/\" = \"public\"",
        )
        .file("public/blocked", b"secret")
        .file("public/index.html", b"index")
        .start()
        .await;
    let mut client = server.h1().await;

    let blocked = client.get("/blocked").await;
    let index = client.get("/").await;

    assert_eq!((blocked.status.as_u16(), &*blocked.text()), (403, "blocked by mw_p3"));
    assert_eq!((index.status.as_u16(), &*index.text()), (200, "index"));
    assert!(client.get("/api").await.text().starts_with("hello"));
    // A change shows at once.
    fs::write(server.plugins().join("public/index.html"), "new index").unwrap();
    assert_eq!(client.get("/").await.text(), "new index");
}

#[tokio::test]
async fn two_plugins_cannot_claim_one_folder_path() {
    let server = site("routes = [\"/x\"]").await;
    server.install("late", &guest("p3_hello"));
    fs::write(server.plugins().join("late.toml"), "routes = [\"/assets/*\"]").unwrap();

    let entry = server.until_registered("late", |entry| !entry["last_error"].is_null()).await;

    assert!(entry["last_error"].as_str().unwrap().contains("/assets/*"), "{entry}");
    assert_eq!(server.h1().await.get("/assets/app.js").await.text(), "let plain;");
}

#[tokio::test]
async fn curl_takes_coded_files() {
    let server = site("").await;
    let gzip = Command::new("gzip")
        .args(["--keep", "--force"])
        .arg(server.plugins().join("site/public/app.js"))
        .status()
        .await
        .unwrap();
    assert!(gzip.success());

    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20", "--insecure", "--http2"])
        .args(["--header", "accept-encoding: gzip", "--compressed"])
        .arg(format!("https://{}/site/assets/app.js", server.https.unwrap()))
        .output()
        .await
        .unwrap();

    assert_eq!(String::from_utf8_lossy(&output.stdout), "let plain;", "{output:?}");
}
