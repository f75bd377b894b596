//! Reads the whole body, then answers JSON: `length`, `fnv1a` (FNV-1a, 64 bits, hexadecimal),
//! `trailers` (pairs) and `error` (why the body was cut off). `?delay_ms=` waits before each read;
//! `?count=1` only counts, which is what a server's own speed is measured by.

use guests_p3::{Answer, Request, json, number, wit_future};
use serde_json::json;
use wasip3::clocks::monotonic_clock;
use wasip3::wit_bindgen::StreamResult;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let delay_ns = number(&request, "delay_ms", 0) * 1_000_000;
    let counts = number(&request, "count", 0) == 1;
    let (_received, received) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = Request::consume_body(request, received);
    let mut length = 0;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    loop {
        if delay_ns > 0 {
            monotonic_clock::wait_for(delay_ns).await;
        }
        let (result, piece) = body.read(Vec::with_capacity(64 << 10)).await;
        length += piece.len();
        if !counts {
            for byte in piece {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    let (trailers, error) = match trailers.await {
        Ok(trailers) => (trailers.map_or(Vec::new(), |fields| fields.copy_all()), None),
        Err(code) => (Vec::new(), Some(format!("{code:?}"))),
    };
    let trailers: Vec<_> = trailers
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    json(&json!({
        "length": length,
        "fnv1a": format!("{hash:016x}"),
        "trailers": trailers,
        "error": error,
    }))
}
