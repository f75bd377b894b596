//! Fetches `?url=` (by `?method=`, with `?body=`) and relays status, `content-type`, body and
//! trailers; 502 with the error code's name where there was no response.

use guests_p3::{
    Answer, Fields, Request, Response, answer, fields, parameter, spawn_local, wit_future,
    wit_stream,
};
use wasip3::http::client;
use wasip3::http::types::{Method, Scheme};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let url = parameter(&request, "url").unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return answer(400, Fields::new(), "url= is missing or relative");
    };
    let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let content = parameter(&request, "body").map(|content| {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(content.into_bytes()).await;
        });
        reader
    });
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (outbound, _) = Request::new(Fields::new(), content, trailers, None);
    let scheme = match scheme {
        "https" => Scheme::Https,
        _ => Scheme::Http,
    };
    let method = match parameter(&request, "method") {
        None => Method::Get,
        Some(name) if name == "POST" => Method::Post,
        Some(name) => Method::Other(name),
    };
    let target = if target.is_empty() { "/" } else { target };
    let set = outbound
        .set_method(&method)
        .and_then(|()| outbound.set_scheme(Some(&scheme)))
        .and_then(|()| outbound.set_authority(Some(authority)))
        .and_then(|()| outbound.set_path_with_query(Some(target)));
    if set.is_err() {
        return answer(400, Fields::new(), "the host refuses the target");
    }
    let response = match client::send(outbound).await {
        Ok(response) => response,
        Err(code) => return answer(502, Fields::new(), format!("{code:?}")),
    };
    let status = response.get_status_code();
    let content_type = response.get_headers().get("content-type").pop();
    let content_type = String::from_utf8_lossy(&content_type.unwrap_or_default()).into_owned();
    let (_, received) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, received);
    let head = fields(&[("content-type", &content_type)]);
    let (relayed, _) = Response::new(head, Some(body), trailers);
    relayed.set_status_code(status).expect("as received");
    Ok(relayed)
}
