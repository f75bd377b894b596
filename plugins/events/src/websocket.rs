//! `/api/realtime/websocket/info`: where the WebSockets are.

use serde_json::json;
use wharf_sdk::{Error, Request, Response, StatusCode, header};

/// The paths that the plugin `chat` serves.
const CHAT: &str = "/ws/chat";
const ECHO: &str = "/ws/echo";

pub(crate) async fn info(request: Request) -> Result<Response, Error> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let authority = authority.or_else(|| request.header("host"));
    let scheme = if request.uri().scheme_str() == Some("https") { "wss" } else { "ws" };
    // Relative where the client did not say whom it asks (HTTP/1.0).
    let base = authority.map_or_else(String::new, |authority| format!("{scheme}://{authority}"));
    let info = json!({
        "websocket_url": format!("{base}{CHAT}"),
        "endpoints": { "chat": format!("{base}{CHAT}"), "echo": format!("{base}{ECHO}") },
        // What carries them: RFC 6455, RFC 8441, RFC 9220.
        "protocols": ["http/1.1", "h2", "h3"],
        // Sec-WebSocket-Version.
        "version": "13",
    });
    Response::json(&info)?
        .with_header(header::CACHE_CONTROL, "no-cache, max-age=60")?
        .with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?
        .with_header(header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type")
}

/// Tells scripts of other origins that they may (Fetch, §3.2).
pub(crate) async fn preflight(_: Request) -> Result<Response, Error> {
    Response::new(())
        .with_status(StatusCode::NO_CONTENT)
        .with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?
        .with_header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS")?
        .with_header(header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type")?
        .with_header(header::ACCESS_CONTROL_MAX_AGE, "86400")?
        .with_header(header::ALLOW, "GET, HEAD, OPTIONS")
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, block_on};

    #[test]
    fn the_sockets_are_where_the_client_asks() {
        for (uri, expected) in [
            ("https://a.example:8443/api/realtime/websocket/info", "wss://a.example:8443/ws/chat"),
            ("http://[::1]:80/api/realtime/websocket/info", "ws://[::1]:80/ws/chat"),
        ] {
            let mut response = answer(Method::GET, uri, ());
            let text = block_on(response.body_mut().text(1 << 10)).unwrap();

            let info: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(info["websocket_url"], expected);
            assert_eq!(response.header("cache-control"), Some("no-cache, max-age=60"));
            assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        }
    }
}
