//! The sample plugin for streams: bodies that go out as they are written, that are answered while
//! they arrive, and that stop when the client leaves. Routes only; a file a topic.

mod bulk;
mod connections;
mod duplex;
mod image;
mod lines;
mod long;
mod page;
mod reply;
mod stream;
mod tail;
mod trailers;
mod wait;

use wharf_sdk::Router;

fn routes() -> Router {
    Router::new()
        .get("/streaming", page::streaming)
        .get("/progress", page::progress)
        .get("/api/stream", stream::chunks)
        .get("/flush", stream::flush)
        .get("/buffered", stream::buffered)
        .get("/deadline", stream::deadline)
        .get("/long", long::long)
        .post("/api/bulk-process", bulk::process)
        .get("/image/progressive", image::progressive)
        .post("/duplex", duplex::duplex)
        .get("/trailers", trailers::checksum)
        .get("/connections", connections::states)
        .get("/logs/tail", tail::tail)
}

wharf_sdk::serve!(routes);

#[cfg(test)]
mod testing {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::{Body, Method, Request, Response};

    use super::routes;

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    pub(crate) fn answer(method: Method, uri: &str, body: impl Into<Body>) -> Response {
        block_on(routes().handle(Request::new(method, uri, body).unwrap()))
    }

    /// The pieces of a body, as they were written.
    pub(crate) fn pieces(mut response: Response) -> Vec<String> {
        block_on(async {
            let mut pieces = Vec::new();
            while let Some(piece) = response.body_mut().next().await {
                pieces.push(String::from_utf8(piece.unwrap().to_vec()).unwrap());
            }
            pieces
        })
    }
}
