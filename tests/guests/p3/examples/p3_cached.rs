//! Answers that may be kept; README.md tells how.

use std::fmt::Write as _;
use std::time::Duration;

use wharf_sdk::{
    Error, HeaderName, HeaderValue, Request, Response, Router, StatusCode, keyvalue, sleep,
};

/// Bytes of one write of a long body.
const PIECE: usize = 64 << 10;

wharf_sdk::serve!(routes);

fn routes() -> Router {
    Router::new().get("/calls", calls).fallback(answer)
}

async fn calls(_: Request) -> Result<Response, Error> {
    let count = keyvalue::open("")?.get("calls")?.unwrap_or_default();
    Ok(Response::text(String::from_utf8_lossy(&count)))
}

async fn answer(request: Request) -> Result<Response, Error> {
    let bytes: usize = request.parse_query("bytes")?.unwrap_or(100);
    let delay: u64 = request.parse_query("delay_ms")?.unwrap_or(0);
    let control = request.query("cc").unwrap_or("public, max-age=3600".into()).into_owned();
    let call = match request.query("count") {
        Some(_) => keyvalue::open("")?.increment("calls", 1)?,
        None => 0,
    };
    if delay > 0 {
        sleep(Duration::from_millis(delay)).await;
    }
    let response = if request.query("show").is_some() {
        Response::new(shown(&request))
    } else if bytes <= PIECE {
        Response::new(vec![b'x'; bytes])
    } else {
        Response::stream(move |mut writer| async move {
            for left in (1..=bytes.div_ceil(PIECE)).rev() {
                let last = bytes - (bytes.div_ceil(PIECE) - 1) * PIECE;
                writer.write(vec![b'x'; if left == 1 { last } else { PIECE }]).await?;
            }
            Ok(())
        })
    };
    let mut response = response
        .with_header("content-type", "text/plain")?
        .with_header("cache-control", control.as_str())?
        .with_header("x-call", call)?;
    if let Some(status) = request.parse_query::<StatusCode>("status")? {
        *response.status_mut() = status;
    }
    for (_, field) in request.query_pairs().filter(|(name, _)| name == "set") {
        let (name, value) = field.split_once(':').expect("NAME:VALUE");
        let name: HeaderName = name.parse().expect("a field's name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a field's value"));
    }
    Ok(response)
}

/// The request's method and path, and those of its fields that `?show=` names.
fn shown(request: &Request) -> String {
    let mut text = format!("{} {}\n", request.method(), request.path());
    for (_, name) in request.query_pairs().filter(|(name, _)| name == "show") {
        for value in request.headers().get_all(&*name) {
            let _infallible =
                writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text
}
