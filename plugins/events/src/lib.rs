//! The sample plugin for event streams and long polls. The host holds all of them: what a client waits
//! for is published by a request, or by the schedule `tick`, while no instance waits with it. Routes
//! only; a file a topic.

mod body;
mod metrics;
mod notifications;
mod notify;
mod orders;
mod page;
mod realtime;
mod session;
mod tick;
mod time;
mod websocket;

use wharf_sdk::{Method, Router};

fn routes() -> Router {
    Router::new()
        .get("/live", page::live)
        .get("/notifications", page::notifications)
        .get("/orders", page::orders)
        .get("/sse/time", time::stream)
        .route(Method::OPTIONS, "/sse/time", time::preflight)
        .get("/sse/live-metrics", metrics::stream)
        .post("/session", session::post)
        .get("/sse/notifications", notifications::stream)
        .post("/sse/notifications", notifications::post)
        .get("/api/notifications", notifications::list)
        .post("/notify", notify::post)
        .get("/api/realtime/events", realtime::poll)
        .post("/api/realtime/events", realtime::post)
        .get("/api/realtime/events/stream", realtime::stream)
        .get("/api/realtime/websocket/info", websocket::info)
        .route(Method::OPTIONS, "/api/realtime/websocket/info", websocket::preflight)
        .get("/api/trading/orders", orders::list)
        .post("/api/trading/orders", orders::post)
        .get("/api/trading/orders/{id}", orders::one)
        .delete("/api/trading/orders/{id}", orders::cancel)
        .get("/api/trading/orders/stream", orders::stream)
}

wharf_sdk::serve!(routes);
wharf_sdk::schedule!(tick::tick);

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
