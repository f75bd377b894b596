//! Requests to other servers: JSON from one, and a proxy that streams both ways. Needs
//! `outbound = ["http://127.0.0.1:8000"]` under `[capabilities]`.

use std::time::Duration;

use wharf_sdk::client::{self, Timeouts};
use wharf_sdk::{Error, Request, Response, Router};

const UPSTREAM: &str = "http://127.0.0.1:8000";

fn routes() -> Router {
    Router::new().get("/title/{id}", title).any("/proxy/*", proxy)
}

/// `?` answers 504 where the upstream is too slow and 502 where it is not there.
async fn title(request: Request) -> Result<Response, Error> {
    let id: u32 = request.parse_param("id")?;
    let mut reply = client::get(format!("{UPSTREAM}/posts/{id}"))
        .header("accept", "application/json")
        .timeout(Duration::from_secs(2))
        .send()
        .await?;
    if reply.status() == 404 {
        return Err(Error::not_found());
    }
    let post: serde_json::Value = reply.body_mut().json(64 << 10).await?;
    Response::json(&serde_json::json!({ "title": post["title"] }))
}

/// The bodies stay with the host: they are passed on, not read.
async fn proxy(mut request: Request) -> Result<Response, Error> {
    *request.uri_mut() = format!("{UPSTREAM}/{}", request.param("*")?).parse()?;
    let first_byte = Some(Duration::from_secs(10));
    Ok(client::send(request, Timeouts { first_byte, ..Timeouts::default() }).await?)
}

wharf_sdk::serve!(routes);
