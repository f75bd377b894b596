//! What the 0.3 guests share: the export, the request's target, an answer that is at hand.
//!
//! Nothing here is more careful than a test needs: a guest may panic on a malformed query.

pub use wasip3::http::types::{ErrorCode, Fields, Request, Response};
pub use wasip3::{spawn_local, wit_future, wit_stream};

/// What a handler gives.
pub type Answer = Result<Response, ErrorCode>;

/// Exports an `async fn(Request) -> Answer` as `wasi:http/handler`.
#[macro_export]
macro_rules! serve {
    ($handle:path) => {
        struct Guest;

        impl wasip3::exports::http::handler::Guest for Guest {
            async fn handle(request: $crate::Request) -> $crate::Answer {
                $handle(request).await
            }
        }

        wasip3::http::service::export!(Guest);
    };
}

/// The path without the query.
pub fn path(request: &Request) -> String {
    let target = request.get_path_with_query().unwrap_or_default();
    target.split('?').next().unwrap_or_default().to_owned()
}

/// A parameter of the query, decoded.
pub fn parameter(request: &Request, name: &str) -> Option<String> {
    parameters(request, name).into_iter().next()
}

/// All values of a parameter of the query, decoded.
pub fn parameters(request: &Request, name: &str) -> Vec<String> {
    let target = request.get_path_with_query().unwrap_or_default();
    let (_, query) = target.split_once('?').unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// A numeric parameter of the query.
pub fn number(request: &Request, name: &str, default: u64) -> u64 {
    parameter(request, name).map_or(default, |value| value.parse().expect("a number"))
}

/// A field of the request's head.
pub fn header(request: &Request, name: &str) -> Option<String> {
    let value = request.get_headers().get(name).into_iter().next()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Header fields; panics where the host refuses one.
pub fn fields(list: &[(&str, &str)]) -> Fields {
    let list: Vec<_> =
        list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).expect("fields that the host takes")
}

/// A response without trailers whose body is at hand.
pub fn answer(status: u16, fields: Fields, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields, Some(reader), trailers);
    response.set_status_code(status).expect("a valid status");
    spawn_local(async move {
        writer.write_all(body).await;
    });
    Ok(response)
}

/// 200 with a text.
pub fn text(body: impl Into<Vec<u8>>) -> Answer {
    answer(200, fields(&[("content-type", "text/plain")]), body)
}

/// 200 with a JSON value.
pub fn json(value: &serde_json::Value) -> Answer {
    let fields = fields(&[("content-type", "application/json")]);
    answer(200, fields, value.to_string())
}
