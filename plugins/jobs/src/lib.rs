//! The sample plugin for work that takes longer than a request: jobs are rows of the database, a schedule
//! does a step of each, and event streams that the host holds tell how they get on. Nothing of a job is
//! in an instance: a hot swap or a restart of the server delays it, no more. Routes only; a file a topic.

mod job;
mod page;
mod picture;
mod progress;
mod requests;
mod store;
mod work;

use wharf_sdk::Router;

fn routes() -> Router {
    Router::new()
        .get("/jobs", requests::list)
        .post("/jobs", requests::post)
        .get("/jobs/{id}", requests::one)
        .delete("/jobs/{id}", requests::cancel)
        .get("/jobs/{id}/result", requests::result)
        .get("/sse/progress/{id}", progress::stream)
}

wharf_sdk::serve!(routes);
wharf_sdk::schedule!(work::tick);

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
