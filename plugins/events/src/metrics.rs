//! `/sse/live-metrics`: how the server does, at the interval that a client wants.

use std::cell::Cell;
use std::time::SystemTime;

use serde::Serialize;
use wharf_sdk::hub::{self, Event};
use wharf_sdk::metrics::{self, Figures};
use wharf_sdk::{Error, Request, Response, sse};

use crate::tick::{SLOT, next_slot};

/// All streams follow this one as well, which never has an event: it counts them.
const ANY: &str = "metrics";
/// The interval of those who name none.
const DEFAULT_INTERVAL: u64 = 50;
/// The longest interval.
const MAX_INTERVAL: u64 = 600;
/// Up to a second, intervals have steps of a slot; longer ones are whole seconds.
const SECOND: u64 = 10;

thread_local! {
    /// The latest sample and the one before: rates are of the time since the latter, a second or two.
    static SAMPLES: Cell<[Option<Figures>; 2]> = const { Cell::new([None, None]) };
}

/// What a client sees.
#[derive(Debug, Serialize)]
struct Metrics {
    /// Percent of the cores that serve.
    cpu: f64,
    /// Bytes of the server.
    memory: u64,
    /// Bytes of the machine.
    memory_total: u64,
    /// Those who follow something: event streams and WebSockets.
    active_users: u64,
    requests_per_second: f64,
    requests: u64,
    in_flight: u64,
    connections: u64,
    /// Seconds.
    uptime: f64,
    /// Seconds since 1970.
    timestamp: f64,
}

impl Metrics {
    fn since(before: Figures, now: Figures, time: SystemTime) -> Self {
        let seconds = now.uptime.saturating_sub(before.uptime).as_secs_f64().max(0.001);
        let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
        let requests = now.requests.saturating_sub(before.requests);
        let timestamp = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            cpu: round(cpu / seconds / f64::from(now.cores.max(1)) * 100.0),
            memory: now.resident_bytes,
            memory_total: now.total_bytes,
            active_users: now.event_streams + now.websockets,
            requests_per_second: round(requests as f64 / seconds),
            requests: now.requests,
            in_flight: now.in_flight,
            connections: now.connections,
            uptime: round(now.uptime.as_secs_f64()),
            timestamp: (timestamp.as_millis() as f64) / 1000.0,
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn topic(interval: u64, slot: u64) -> String {
    format!("metrics/{interval}/{}", slot % interval)
}

pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    let interval = match request.query("interval") {
        Some(text) => parse(&text).ok_or_else(|| {
            Error::bad_request(
                "interval is a number of seconds, 0.1 to 60: tenths up to a second, then whole ones",
            )
        })?,
        None => DEFAULT_INTERVAL,
    };
    let stream = sse::stream(&request).topic(topic(interval, next_slot())).topic(ANY);
    Ok(stream.drop_oldest().send()?)
}

/// An interval in slots: `5`, `0.5`, `5s`, `500ms`; what is more than 60 without a unit is milliseconds.
fn parse(text: &str) -> Option<u64> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let milliseconds = if let Some(text) = text.strip_suffix("ms") {
        number(text)?
    } else if let Some(text) = text.strip_suffix('s') {
        number(text)? * 1000.0
    } else {
        let plain = number(text)?;
        if plain > 60.0 { plain } else { plain * 1000.0 }
    };
    let slots = (milliseconds / SLOT.as_millis() as f64).round();
    if !(1.0..=MAX_INTERVAL as f64).contains(&slots) {
        return None;
    }
    let slots = slots as u64;
    is_interval(slots).then_some(slots)
}

fn is_interval(slots: u64) -> bool {
    slots <= SECOND || slots.is_multiple_of(SECOND)
}

/// Takes a sample each second, and publishes to those who are due.
pub(crate) async fn tick(slot: u64) -> Result<(), Error> {
    let is_sample = slot.is_multiple_of(SECOND);
    let is_wanted = hub::subscriber_count(ANY)? > 0;
    if !is_sample && !is_wanted {
        return Ok(());
    }
    let now = metrics::server()?;
    let [latest, before] = SAMPLES.get();
    if is_wanted {
        // Without a sample, since the server's start.
        let before = before.or(latest).unwrap_or_default();
        let event = Event::named("metrics").json(&Metrics::since(before, now, SystemTime::now()));
        for interval in (1..=MAX_INTERVAL).filter(|slots| is_interval(*slots)) {
            let topic = topic(interval, slot);
            if hub::subscriber_count(&topic)? > 0 {
                hub::publish(topic, event.clone()).await?;
            }
        }
    }
    if is_sample {
        SAMPLES.set([Some(now), latest]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn intervals_are_tenths_up_to_a_second_and_then_seconds() {
        for (text, slots) in [
            ("5", Some(50)),
            ("0.1", Some(1)),
            ("1", Some(10)),
            ("2s", Some(20)),
            ("500ms", Some(5)),
            ("60", Some(600)),
            ("5000", Some(50)),
            ("1.5", None),
            ("0", None),
            ("0.01", None),
            ("-1", None),
            ("61000", None),
            ("NaN", None),
            ("inf", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(parse(text), slots, "{text:?}");
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let mut before = Figures::default();
        before.requests = 100;
        let mut now = Figures::default();
        (now.requests, now.cores) = (150, 2);
        (now.cpu, now.uptime) = (Duration::from_secs(1), Duration::from_secs(2));

        let metrics = Metrics::since(before, now, SystemTime::UNIX_EPOCH);

        assert_eq!((metrics.cpu, metrics.requests_per_second), (25.0, 25.0));
    }
}
