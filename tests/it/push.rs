//! Server push over HTTP/2: with the `h2` client, which takes pushes, and with clients that do not.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};
use serde_json::Value;
use tokio::net::TcpStream;
use wharf_tests::{Protocol, TestServer, guest};

/// A connection by prior knowledge that takes pushes.
async fn client(server: &TestServer) -> SendRequest<Bytes> {
    let io = TcpStream::connect(server.http.unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// The answer's `x-push`, and method, path and body of what was pushed.
async fn get(server: &TestServer, target: &str) -> (String, Vec<(String, String, String)>) {
    let mut client = client(server).await;
    let request = Request::get(format!("http://a.test{target}"))
        .header("accept-language", "de")
        .body(())
        .unwrap();

    let (mut response, _) = client.send_request(request, true).unwrap();
    let mut promises = response.push_promises();
    let response = response.await.unwrap();
    let mut pushed = Vec::new();
    while let Some(promise) = promises.push_promise().await {
        let (request, response) = promise.unwrap().into_parts();
        assert_eq!(request.headers()["accept-language"], "de");
        assert!(!request.headers().contains_key("wharf-exchange"));
        let mut text = String::new();
        // The `h2` client does not know that an answer to HEAD has a length and no body.
        if request.method() == Method::GET {
            let mut body = response.await.unwrap().into_body();
            while let Some(data) = body.data().await {
                text.push_str(std::str::from_utf8(&data.unwrap()).unwrap());
            }
        }
        pushed.push((request.method().to_string(), request.uri().to_string(), text));
    }
    let outcome = response.headers()["x-push"].to_str().unwrap().to_owned();
    (outcome, pushed)
}

#[tokio::test]
async fn a_plugin_pushes_what_its_page_needs() {
    let server = TestServer::with("page", &guest("p3_push")).await;

    let (outcome, pushed) =
        get(&server, "/page?push=/page/app.css%3Fv=2&push=/page/app.js&field=x-asset:1").await;

    assert_eq!(outcome, "pushed,pushed");
    let of = |path: &str, body: &str| {
        ("GET".to_owned(), format!("http://a.test{path}"), body.to_owned())
    };
    assert_eq!(
        pushed,
        [of("/page/app.css?v=2", "GET /app.css 1"), of("/page/app.js", "GET /app.js 1")]
    );
    server.until_logged("/page/app.js").await;
}

#[tokio::test]
async fn a_head_is_promised_as_one_and_what_is_not_served_is_404() {
    let server = TestServer::with("page", &guest("p3_push")).await;

    let (_, head) = get(&server, "/page?push=/page/app.css&method=HEAD").await;
    let (_, missing) = get(&server, "/page?push=/nothing/here").await;

    assert_eq!(head[0].0, "HEAD");
    let problem: Value = serde_json::from_str(&missing[0].2).unwrap();
    assert_eq!(problem["status"], 404);
}

#[tokio::test]
async fn what_must_not_be_promised_is_not() {
    let server = TestServer::with("page", &guest("p3_push")).await;

    for target in [
        "/page?push=/a&method=POST",
        "/page?push=https://b.test/a",
        "/page?push=//b.test/a",
        "/page?push=/a%20b",
        "/page?push=/a&field=host:b.test",
        "/page?push=/a&field=content-length:1",
        "/page?push=/a&field=x:%0D%0Ay",
        "/page?push=/a&field=wharf-exchange:1",
    ] {
        let (outcome, pushed) = get(&server, target).await;

        assert_eq!((outcome.as_str(), pushed.len()), ("invalid", 0), "{target}");
    }
}

#[tokio::test]
async fn a_pushed_request_cannot_push() {
    let server = TestServer::with("page", &guest("p3_push")).await;

    let (outcome, pushed) = get(&server, "/page?push=/page/a%3Fpush=/page/b").await;

    assert_eq!(outcome, "pushed");
    assert_eq!(pushed.len(), 1);
}

#[tokio::test]
async fn a_client_that_takes_no_pushes_gets_its_page_and_no_error() {
    let server = TestServer::with("page", &guest("p3_push")).await;

    for protocol in [Protocol::H1, Protocol::H1Tls, Protocol::H2c, Protocol::H2, Protocol::H3] {
        let answer = server.client(protocol).await.get("/page?push=/page/app.css").await;

        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-push"), "unsupported", "{protocol:?}");
    }
}
