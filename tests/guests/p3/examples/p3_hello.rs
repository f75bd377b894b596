//! The smallest guest. Tests make "another version" of it by patching the marker's digits in the
//! compiled component.

use guests_p3::{Answer, Request, answer, fields, header, path};

guests_p3::serve!(handle);

const MARKER: &str = "WHARF-VERSION-00";

async fn handle(request: Request) -> Answer {
    let fields = fields(&[
        ("content-type", "text/plain"),
        ("x-path", &path(&request)),
        ("x-prefix", &header(&request, "x-forwarded-prefix").unwrap_or_default()),
    ]);
    answer(200, fields, format!("hello from p3_hello {MARKER}\n"))
}
