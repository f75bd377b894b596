//! An axum router under wstd, knowing nothing of Wharf: `/`, `/greet/{name}`, `/sleep`, `/echo`.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};

#[wstd_axum::http_server]
fn main() -> Router {
    Router::new()
        .route("/", get(async || "hello from foreign_wstd_axum"))
        .route("/greet/{name}", get(greet))
        .route("/sleep", get(sleep))
        .route("/echo", post(async |body: String| body))
}

async fn greet(Path(name): Path<String>) -> String {
    format!("greetings, {name}")
}

async fn sleep() -> &'static str {
    wstd::task::sleep(Duration::from_millis(20).into()).await;
    "slept"
}
