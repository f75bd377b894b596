//! `/sse/progress/{id}`: how a job is, and how it gets on until it is over.

use std::time::Duration;

use serde_json::json;
use wharf_sdk::hub::Event;
use wharf_sdk::{Error, Request, Response, StatusCode, sse};

use crate::store;

/// The id of the event that says that there is no such job.
const UNKNOWN: &str = "unknown-job";

/// The last event of a job. Its id is always the same, so that whoever comes back with it is known to have
/// seen the end.
pub(crate) fn close(id: &str) -> Event {
    let content = json!({ "type": "close", "message": "Job finished" });
    Event::named("close").id(format!("close-{id}")).json(&content)
}

pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    let id = request.param("id")?;
    let last = request.header("last-event-id").unwrap_or_default();
    let Some(job) = store::find(id).await? else {
        let error = json!({ "error": "Job not found", "job_id": id });
        return whole(&request, last, vec![Event::named("error").id(UNKNOWN).json(&error)]);
    };
    let now = Event::named("progress").json(&job.progress());
    if job.status.is_over() {
        return whole(&request, last, vec![now, close(id)]);
    }
    let stream = sse::stream(&request).topic(store::topic(&job.job_id)).after(job.event);
    // Without an id: what it stands for is in the database, not in the history.
    Ok(stream.first(now).ends_with("close").retry(Duration::from_secs(1)).send()?)
}

/// A stream that has all its events already. The client comes back when it ends, and says which event
/// was the last: 204 tells it to stop (WHATWG HTML §9.2.3).
fn whole(request: &Request, last: &str, events: Vec<Event>) -> Result<Response, Error> {
    if events.last().and_then(|event| event.id.as_deref()) == Some(last) {
        return Ok(Response::new(()).with_status(StatusCode::NO_CONTENT));
    }
    sse::emit(request).run(async move |mut stream| {
        for event in events {
            stream.send(event).await?;
        }
        Ok(())
    })
}
