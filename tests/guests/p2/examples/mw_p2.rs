//! Middleware in 0.2: gives the request to the next handler, except where the path contains
//! `/mw-blocked`: 403. A head cannot be changed in 0.2: no guest can make an incoming request.

use guests_p2::{Fields, IncomingRequest, ResponseOutparam, answer, path};

guests_p2::serve!(handle);

mod bindings {
    // Of `types` only what `handle` names: the linker adds the rest from `wasip2`.
    wit_bindgen::generate!({
        inline: "
            package test:guest;

            world importer { import wasi:http/incoming-handler@0.2.12; }

            package wasi:http@0.2.12 {
                interface types {
                    resource incoming-request;
                    resource response-outparam;
                }
                interface incoming-handler {
                    use types.{incoming-request, response-outparam};
                    handle: func(request: incoming-request, response-out: response-outparam);
                }
            }
        ",
        with: {
            "wasi:http/types@0.2.12": wasip2::http::types,
            "wasi:http/incoming-handler@0.2.12": generate,
        },
    });
}

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    if path(&request).contains("/mw-blocked") {
        return answer(out, 403, Fields::new(), "blocked by mw_p2");
    }
    bindings::wasi::http::incoming_handler::handle(request, out);
}
