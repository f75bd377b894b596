//! The Rust sample plugin: what the host knows of a connection, and an echo that streams.

mod page;

use serde::Serialize;
use wharf_sdk::{Error, Request, Response, Router, header};

fn routes() -> Router {
    Router::new()
        .get("/protocol", protocol)
        .get("/api/realtime/connection", connection)
        .post("/echo", echo)
}

wharf_sdk::serve!(routes);

/// The facts of one exchange. Those of TLS are null on a cleartext connection, all but
/// `language` on a host that has no `wharf:host/exchange` to tell them.
#[derive(Default, Serialize)]
struct Facts {
    protocol: Option<&'static str>,
    tls_version: Option<String>,
    cipher: Option<String>,
    alpn: Option<String>,
    sni: Option<String>,
    peer: Option<String>,
    connection_id: Option<u64>,
    requests: Option<u64>,
    early_data: bool,
    request_id: Option<String>,
    route: Option<String>,
    language: &'static str,
}

/// As JSON, or as a page for a browser.
async fn protocol(request: Request) -> Result<Response, Error> {
    let facts = facts(&request);
    let response = if request.prefers("text/html", "application/json") {
        page::page(&facts)?
    } else {
        Response::json(&facts)?
    };
    response.with_header(header::CACHE_CONTROL, "no-store")?.with_header(header::VARY, "accept")
}

/// As JSON; `plugin.toml` says how long the connection is kept.
async fn connection(request: Request) -> Result<Response, Error> {
    Response::json(&facts(&request))?.with_header(header::CACHE_CONTROL, "no-store")
}

fn facts(request: &Request) -> Facts {
    let mut facts = Facts { language: "Rust", ..Facts::default() };
    if let Some(exchange) = request.exchange() {
        let connection = exchange.connection();
        facts.protocol = Some(connection.protocol.as_str());
        facts.peer = Some(connection.peer);
        facts.connection_id = Some(connection.id);
        facts.requests = Some(connection.requests);
        facts.request_id = Some(exchange.request_id());
        facts.route = Some(exchange.route());
        if let Some(tls) = connection.tls {
            facts.tls_version = Some(tls.version);
            facts.cipher = Some(tls.cipher);
            facts.alpn = tls.alpn;
            facts.sni = tls.sni;
            facts.early_data = tls.early_data;
        }
    }
    facts
}

/// Gives the body back as it arrives. It is not read here, so the host joins its two ends and
/// its trailers follow it.
async fn echo(request: Request) -> Result<Response, Error> {
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    Ok(response)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::{Body, HeaderMap, HeaderValue, Method};

    use super::*;

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    #[test]
    fn echo_returns_body_content_type_and_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        let body = Body::from("content").with_trailers(trailers);
        let mut request = Request::new(Method::POST, "/echo", body).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("text/x-test"));

        let mut response = block_on(routes().handle(request));

        assert_eq!(response.header("content-type"), Some("text/x-test"));
        assert_eq!(block_on(response.body_mut().bytes(100)).unwrap(), "content");
        let trailers = block_on(response.body_mut().trailers()).unwrap().unwrap();
        assert_eq!(trailers["x-checksum"], "7");
    }

    #[test]
    fn protocol_answers_without_an_exchange() {
        let request = Request::new(Method::GET, "/protocol", ()).unwrap();

        let mut response = block_on(routes().handle(request));

        let text = block_on(response.body_mut().text(1000)).unwrap();
        assert!(text.contains(r#""language":"Rust""#), "{text}");
        assert!(text.contains(r#""protocol":null"#), "{text}");
    }
}
