//! Fetches `?url=` and relays status, `content-type` and body; 502 with the error code's name where
//! there was no response.

use std::io::Read;

use guests_p2::{Fields, IncomingRequest, ResponseOutparam, answer, fields, parameter};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, IncomingResponse, OutgoingRequest, Scheme};

guests_p2::serve!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = parameter(&request, "url").unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return answer(out, 400, Fields::new(), "url= is missing or relative");
    };
    let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let outbound = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "https" => Scheme::Https,
        _ => Scheme::Http,
    };
    let target = if target.is_empty() { "/" } else { target };
    let set = outbound
        .set_scheme(Some(&scheme))
        .and_then(|()| outbound.set_authority(Some(authority)))
        .and_then(|()| outbound.set_path_with_query(Some(target)));
    if set.is_err() {
        return answer(out, 400, Fields::new(), "the host refuses the target");
    }
    let response = match send(outbound) {
        Ok(response) => response,
        Err(code) => return answer(out, 502, Fields::new(), format!("{code:?}")),
    };
    let content_type = response.headers().get("content-type").pop();
    let content_type = String::from_utf8_lossy(&content_type.unwrap_or_default()).into_owned();
    let mut content = Vec::new();
    let body = response.consume().expect("the body is taken once");
    let read = body.stream().expect("the stream is taken once").read_to_end(&mut content);
    if let Err(error) = read {
        return answer(out, 502, Fields::new(), format!("body: {error}"));
    }
    let head = fields(&[("content-type", &content_type)]);
    answer(out, response.status(), head, content);
}

fn send(request: OutgoingRequest) -> Result<IncomingResponse, ErrorCode> {
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    let received = response.get().expect("ready after block");
    received.expect("the response is taken once")
}
