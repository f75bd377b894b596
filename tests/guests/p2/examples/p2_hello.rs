//! `p3_hello` in 0.2.

use guests_p2::{IncomingRequest, ResponseOutparam, answer, fields, header, path};

guests_p2::serve!(handle);

const MARKER: &str = "WHARF-VERSION-00";

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let fields = fields(&[
        ("content-type", "text/plain"),
        ("x-path", &path(&request)),
        ("x-prefix", &header(&request, "x-forwarded-prefix").unwrap_or_default()),
    ]);
    let body = format!("hello from p2_hello {MARKER}\n");
    answer(out, 200, fields, body);
}
