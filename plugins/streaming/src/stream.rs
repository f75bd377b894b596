//! Text that is on the wire as it is written: `/api/stream`, `/flush` and `/long`.

use std::time::Duration;

use wharf_sdk::exchange::Exchange;
use wharf_sdk::{BodyWriter, Closed, Error, Request, Response};

use crate::reply::live;
use crate::wait::{wait, wait_attentively};

/// Lines of `/api/stream` and of `/long`.
const LINES: u32 = 10;
const STREAM_PAUSE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

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
    let exchange = request.exchange();
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        writer.write("first\n").await?;
        wait(exchange.as_ref(), SECOND).await?;
        writer.write("second, one second later\n").await?;
        Ok(())
    })
}

pub(crate) async fn long(request: Request) -> Result<Response, Error> {
    let exchange = request.exchange();
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        let progress = report(&mut writer, exchange.as_ref(), SECOND).await;
        if progress.is_err() {
            // Standard output is the plugin's log.
            println!("request cancelled");
        }
        Ok(progress?)
    })
}

async fn report(
    writer: &mut BodyWriter,
    exchange: Option<&Exchange>,
    pause: Duration,
) -> Result<(), Closed> {
    for step in 1..=LINES {
        if step > 1 {
            wait_attentively(exchange, pause).await?;
        }
        writer.write(format!("progress {step}/{LINES}\n")).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wharf_sdk::{Body, Method};

    use super::*;
    use crate::testing::{answer, pieces};

    #[test]
    fn stream_is_ten_lines_in_ten_pieces() {
        let response = answer(Method::GET, "/api/stream", ());

        assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
        let expected: Vec<String> = (0..10).map(|i| format!("{{\"chunk\":{i}}}\n")).collect();
        assert_eq!(pieces(response), expected);
    }

    #[test]
    fn progress_is_ten_lines_in_ten_pieces() {
        let body = Body::stream(async |mut writer| {
            report(&mut writer, None, Duration::ZERO).await?;
            Ok(())
        });

        let pieces = pieces(Response::new(body));

        assert_eq!(pieces.len(), 10);
        assert_eq!(pieces[9], "progress 10/10\n");
    }
}
