//! What the 0.2 guests share: the export, the request's target, an answer that is at hand.
//!
//! Nothing here is more careful than a test needs: a guest may panic on a malformed query.

use std::io::Write;

use wasip2::http::types::{OutgoingBody, OutgoingResponse};

pub use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

/// Exports a `fn(IncomingRequest, ResponseOutparam)` as `wasi:http/incoming-handler`.
#[macro_export]
macro_rules! serve {
    ($handle:path) => {
        struct Guest;

        impl wasip2::exports::http::incoming_handler::Guest for Guest {
            fn handle(request: $crate::IncomingRequest, out: $crate::ResponseOutparam) {
                $handle(request, out);
            }
        }

        wasip2::http::proxy::export!(Guest);
    };
}

/// The path without the query.
pub fn path(request: &IncomingRequest) -> String {
    let target = request.path_with_query().unwrap_or_default();
    target.split('?').next().unwrap_or_default().to_owned()
}

/// A parameter of the query, decoded.
pub fn parameter(request: &IncomingRequest, name: &str) -> Option<String> {
    let target = request.path_with_query()?;
    let (_, query) = target.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// A field of the request's head.
pub fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Header fields; panics where the host refuses one.
pub fn fields(list: &[(&str, &str)]) -> Fields {
    let list: Vec<_> =
        list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).expect("fields that the host takes")
}

/// Sends the head and gives the body to write.
pub fn start(out: ResponseOutparam, status: u16, fields: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// A response without trailers whose body is at hand.
pub fn answer(out: ResponseOutparam, status: u16, fields: Fields, content: impl AsRef<[u8]>) {
    let body = start(out, status, fields);
    let mut stream = body.write().expect("the stream is taken once");
    // Fails where the client has left, or asked with HEAD.
    let _ = stream.write_all(content.as_ref());
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// 200 with a text.
pub fn text(out: ResponseOutparam, content: impl AsRef<[u8]>) {
    answer(out, 200, fields(&[("content-type", "text/plain")]), content);
}

/// 200 with a JSON value.
pub fn json(out: ResponseOutparam, value: &serde_json::Value) {
    let fields = fields(&[("content-type", "application/json")]);
    answer(out, 200, fields, value.to_string());
}
