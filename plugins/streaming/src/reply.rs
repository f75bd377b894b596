//! [`live`]: the head of every response here that is written while it is sent.

use wharf_sdk::{Body, BodyWriter, Error, HeaderName, Method, Request, Response, header};

/// Tells nginx, where one is in front, to pass on what it gets.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A response that `write` produces while it is sent, and that no cache keeps. To HEAD it is the
/// head alone: nothing is begun that nobody will read.
pub(crate) fn live<F, Fut>(
    request: &Request,
    content_type: &'static str,
    write: F,
) -> Result<Response, Error>
where
    F: FnOnce(BodyWriter) -> Fut + 'static,
    Fut: Future<Output = Result<(), Error>> + 'static,
{
    let body = if request.method() == Method::HEAD {
        // Not an empty body, whose length of 0 is not that of GET's.
        Body::stream(async |_| Ok(()))
    } else {
        Body::stream(write)
    };
    Response::new(body)
        .with_header(header::CONTENT_TYPE, content_type)?
        .with_header(header::CACHE_CONTROL, "no-store")?
        .with_header(ACCEL_BUFFERING, "no")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::testing::pieces;

    #[test]
    fn head_begins_nothing() {
        let begun = Rc::new(Cell::new(false));
        let request = Request::new(Method::HEAD, "/", ()).unwrap();
        let witness = begun.clone();

        let response = live(&request, "text/plain", async move |_| {
            witness.set(true);
            Ok(())
        })
        .unwrap();

        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert_eq!(response.body().len(), None);
        assert!(pieces(response).is_empty());
        assert!(!begun.get());
    }
}
