//! The sample plugin for long polling: documents in the database, each with a version, and polls that
//! the host holds until a document changes. Routes only; a file a topic.

mod page;
mod poll;
mod resource;
mod store;

use wharf_sdk::Router;

fn routes() -> Router {
    Router::new()
        .get("/polling", page::polling)
        .get("/api/realtime/poll/{resource}", poll::get)
        .put("/api/realtime/poll/{resource}", poll::put)
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
}
