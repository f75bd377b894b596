//! `/sse/time`: the time, once a second.

use std::time::SystemTime;

use wharf_sdk::hub::{self, Event};
use wharf_sdk::{Error, Request, Response, StatusCode, header, sse};

use crate::tick::{next_slot, slot};

/// Slots between two events of a stream.
const EVERY: u64 = 10;

/// A stream is one of ten: those whose seconds begin in the same slot.
fn topic(slot: u64) -> String {
    format!("time/{}", slot % EVERY)
}

pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    sse::stream(&request)
        .topic(topic(next_slot()))
        .drop_oldest()
        .send()?
        .with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
}

/// Tells scripts of other origins that they may (Fetch, §3.2).
pub(crate) async fn preflight(_: Request) -> Result<Response, Error> {
    Response::new(())
        .with_status(StatusCode::NO_CONTENT)
        .with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?
        .with_header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS")?
        .with_header(header::ACCESS_CONTROL_ALLOW_HEADERS, "Cache-Control, Last-Event-ID")?
        .with_header(header::ACCESS_CONTROL_MAX_AGE, "86400")?
        .with_header(header::ALLOW, "GET, HEAD, OPTIONS")
}

/// Publishes the time that is due, if anybody of this slot listens.
pub(crate) async fn tick(due: SystemTime) -> Result<(), Error> {
    let topic = topic(slot(due));
    if hub::subscriber_count(&topic)? > 0 {
        let time = humantime::format_rfc3339_seconds(due).to_string();
        hub::publish(topic, Event::new(time)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_same_tenth_of_every_second_is_one_topic() {
        let at = |milliseconds| {
            topic(slot(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)))
        };

        assert_eq!(at(1_700_000_000_350), "time/3");
        assert_eq!(at(1_700_000_001_399), "time/3");
        assert_eq!(at(1_700_000_001_400), "time/4");
    }
}
