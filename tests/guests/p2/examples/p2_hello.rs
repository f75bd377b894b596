//! `p3_hello` in 0.2; as long as `?size=` says.

use guests_p2::{IncomingRequest, ResponseOutparam, answer, fields, header, parameter, path};

guests_p2::serve!(handle);

const MARKER: &str = "WHARF-VERSION-00";

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let fields = fields(&[
        ("content-type", "text/plain"),
        ("x-path", &path(&request)),
        ("x-prefix", &header(&request, "x-forwarded-prefix").unwrap_or_default()),
    ]);
    let mut body = format!("hello from p2_hello {MARKER}\n");
    if let Some(size) = parameter(&request, "size") {
        let size: usize = size.parse().expect("a number");
        body = body.repeat(size / body.len() + 1);
        body.truncate(size);
    }
    answer(out, 200, fields, body);
}
