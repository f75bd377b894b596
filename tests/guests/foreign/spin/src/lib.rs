//! A Spin HTTP component, knowing nothing of Wharf.

use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    format!("hello from foreign_spin at {}", request.uri().path())
}
