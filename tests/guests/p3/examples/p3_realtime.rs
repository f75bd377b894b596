//! Topics for tests and load: README.md tells how.

use wharf_sdk::hub::{self, Event};
use wharf_sdk::{Error, Request, Response, Router, StatusCode, sse};

wharf_sdk::serve!(routes);

const LIMIT: usize = 1 << 20;

fn routes() -> Router {
    Router::new().get("/events", events).post("/publish", publish)
}

async fn events(request: Request) -> Result<Response, Error> {
    Ok(sse::stream(&request).topic(topic(&request)).resume().send()?)
}

async fn publish(mut request: Request) -> Result<Response, Error> {
    let topic = topic(&request);
    let times: u32 = request.parse_query("times")?.unwrap_or(1);
    let data = request.text(LIMIT).await?;
    for _ in 0..times {
        hub::publish(topic.clone(), Event::new(data.clone())).await?;
    }
    Ok(Response::new(()).with_status(StatusCode::NO_CONTENT))
}

fn topic(request: &Request) -> String {
    request.query("topic").unwrap_or("load".into()).into_owned()
}
