//! Text that is on the wire as it is written: `/api/stream` and `/flush`; and text that is not,
//! or not to its end, because the plugin asked for that: `/buffered` and `/deadline`.

use std::time::{Duration, Instant};

use wharf_sdk::{Error, Method, Request, Response};

use crate::reply::live;
use crate::wait::wait;

/// Lines of `/api/stream`.
const LINES: u32 = 10;
const STREAM_PAUSE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Between two lines of `/deadline`.
const DEADLINE_PAUSE: Duration = Duration::from_millis(50);
/// Of `/deadline`, in milliseconds.
const DEFAULT_DEADLINE: u64 = 1000;
const MAX_DEADLINE: u64 = 60_000;

pub(crate) async fn chunks(request: Request) -> Result<Response, Error> {
    let exchange = request.exchange();
    live(&request, "application/x-ndjson", async move |mut writer| {
        for i in 0..LINES {
            if i > 0 {
                wait(exchange.as_ref(), STREAM_PAUSE).await?;
            }
            writer.write(format!("{{\"chunk\":{i}}}\n")).await?;
        }
        Ok(())
    })
}

pub(crate) async fn flush(request: Request) -> Result<Response, Error> {
    two_chunks(&request)
}

/// The same two chunks as [`flush`], which the host holds back until both are there.
pub(crate) async fn buffered(request: Request) -> Result<Response, Error> {
    if let Some(exchange) = request.exchange() {
        exchange.set_buffered(true);
    }
    two_chunks(&request)
}

fn two_chunks(request: &Request) -> Result<Response, Error> {
    let exchange = request.exchange();
    live(request, "text/plain; charset=utf-8", async move |mut writer| {
        writer.write("First chunk\n").await?;
        wait(exchange.as_ref(), SECOND).await?;
        writer.write("Second chunk\n").await?;
        Ok(())
    })
}

/// Lines until the plugin's own write deadline cuts them off, or until `work` is done.
pub(crate) async fn deadline(request: Request) -> Result<Response, Error> {
    let milliseconds = milliseconds(&request, "ms")?.unwrap_or(DEFAULT_DEADLINE);
    let work = milliseconds_of_work(&request)?;
    let exchange = request.exchange();
    if let Some(exchange) = &exchange
        && request.method() != Method::HEAD
    {
        exchange.set_write_deadline(Some(Duration::from_millis(milliseconds)));
    }
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        let begun = Instant::now();
        loop {
            let now = begun.elapsed();
            writer.write(format!("{} ms of {milliseconds} ms\n", now.as_millis())).await?;
            let pause = match work {
                Some(work) if now >= work => return Ok(()),
                Some(work) => DEADLINE_PAUSE.min(work - now),
                None => DEADLINE_PAUSE,
            };
            wait(exchange.as_ref(), pause).await?;
        }
    })
}

fn milliseconds_of_work(request: &Request) -> Result<Option<Duration>, Error> {
    Ok(milliseconds(request, "work")?.map(Duration::from_millis))
}

fn milliseconds(request: &Request, name: &str) -> Result<Option<u64>, Error> {
    match request.parse_query(name)? {
        Some(value) if !(1..=MAX_DEADLINE).contains(&value) => Err(Error::bad_request(format!(
            "query parameter {name:?}: {value} is not between 1 and {MAX_DEADLINE} milliseconds"
        ))),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::{answer, pieces};

    #[test]
    fn stream_is_ten_lines_in_ten_pieces() {
        let response = answer(Method::GET, "/api/stream", ());

        assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(response.header("x-accel-buffering"), Some("no"));
        let expected: Vec<String> = (0..10).map(|i| format!("{{\"chunk\":{i}}}\n")).collect();
        assert_eq!(pieces(response), expected);
    }

    #[test]
    fn work_that_is_done_before_the_deadline_ends() {
        let lines = pieces(answer(Method::GET, "/deadline?ms=5000&work=60", ()));

        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[2].ends_with(" ms of 5000 ms\n"), "{lines:?}");
    }

    #[test]
    fn deadlines_that_are_none_are_400() {
        for query in ["ms=", "ms=soon", "ms=0", "ms=-1", "ms=1.5", "ms=60001", "ms=9&work=x"] {
            let response = answer(Method::GET, &format!("/deadline?{query}"), ());

            assert_eq!(response.status(), 400, "{query}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
}
