//! Uses the controls of `wharf:host/exchange`: `?hints=` (a `Link` value, sent as early hints),
//! `?deadline_ms=`, `?rate=` (bytes a second), `?buffered=1`; then streams `?chunks=` pieces of
//! `?size=` bytes, `?delay_ms=` apart. Field `x-hints`: what became of the hints. `?link=` and
//! `?cache=`: fields `link` and `cache-control` of the response; `?head_ms=`: how late its head is.

use guests_p3::{
    Answer, Request, Response, fields, header, number, parameter, spawn_local, text, wit_future,
    wit_stream,
};
use wasip3::clocks::monotonic_clock;

use bindings::wharf::host::exchange;

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer { import wharf:host/exchange@0.1.0; }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

async fn handle(request: Request) -> Answer {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let Ok(exchange) = exchange::open(&token) else { return text("no exchange".to_owned()) };
    let hints = match parameter(&request, "hints").map(|link| exchange.early_hints(&[link])) {
        None => "none",
        Some(Ok(())) => "sent",
        Some(Err(error)) => error.name(),
    };
    if let Some(deadline) = parameter(&request, "deadline_ms").and_then(|ms| ms.parse().ok()) {
        exchange.set_write_deadline(Some(deadline));
    }
    if let Some(rate) = parameter(&request, "rate").and_then(|rate| rate.parse().ok()) {
        exchange.set_bandwidth_limit(Some(rate));
    }
    exchange.set_buffered(number(&request, "buffered", 0) == 1);

    let chunks = number(&request, "chunks", 3);
    let size = number(&request, "size", 10) as usize;
    let delay_ns = number(&request, "delay_ms", 0) * 1_000_000;
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (link, cache) = (parameter(&request, "link"), parameter(&request, "cache"));
    let head =
        [("x-hints", Some(hints)), ("link", link.as_deref()), ("cache-control", cache.as_deref())];
    let head: Vec<_> = head.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    monotonic_clock::wait_for(number(&request, "head_ms", 0) * 1_000_000).await;
    let (response, _) = Response::new(fields(&head), Some(reader), trailers);
    spawn_local(async move {
        for _ in 0..chunks {
            monotonic_clock::wait_for(delay_ns).await;
            if !writer.write_all(vec![b'x'; size]).await.is_empty() {
                break;
            }
        }
    });
    Ok(response)
}
