//! Middleware in 0.3: adds `x-mw-request: p3` to the request and `x-mw: p3` to the response, leaves
//! bodies and trailers alone. Answers `/blocked` itself, with 403.

use guests_p3::{Answer, Fields, Request, Response, answer, path, wit_future};

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../guest-sdk/wit",
        world: "middleware",
        with: {
            "wasi:http/types@0.3.2": wasip3::http::types,
            "wasi:clocks/types@0.3.2": wasip3::clocks::types,
            "wasi:http/handler@0.3.2": generate,
        },
    });
}

async fn handle(request: Request) -> Answer {
    if path(&request) == "/blocked" {
        return answer(403, Fields::new(), "blocked by mw_p3");
    }
    let response = bindings::wasi::http::handler::handle(marked_request(request)).await?;
    Ok(marked_response(response))
}

/// The head that a guest receives is immutable, so the request is made anew around its body.
fn marked_request(request: Request) -> Request {
    let headers = request.get_headers().clone();
    headers.append("x-mw-request", b"p3").expect("a valid field");
    let method = request.get_method();
    let scheme = request.get_scheme();
    let authority = request.get_authority();
    let target = request.get_path_with_query();
    let (_, received) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, received);
    let (request, _) = Request::new(headers, Some(body), trailers, None);
    request.set_method(&method).expect("as received");
    request.set_scheme(scheme.as_ref()).expect("as received");
    request.set_authority(authority.as_deref()).expect("as received");
    request.set_path_with_query(target.as_deref()).expect("as received");
    request
}

fn marked_response(response: Response) -> Response {
    let headers = response.get_headers().clone();
    headers.append("x-mw", b"p3").expect("a valid field");
    let status = response.get_status_code();
    let (_, received) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, received);
    let (response, _) = Response::new(headers, Some(body), trailers);
    response.set_status_code(status).expect("as received");
    response
}
