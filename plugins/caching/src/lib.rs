//! The sample plugin for caching: an endpoint for each way of being cached, on documents in the
//! database that can be changed. Nothing is cached here: the shared cache of the host stands in front
//! and does what the answers say. Routes only; a file a topic.

mod articles;
mod content;
mod dashboard;
mod dataset;
mod document;
mod hours;
mod markets;
mod page;
mod policies;
mod posts;
mod realtime;
mod seeds;
mod sports;
mod store;
mod token;

use wharf_sdk::Router;

fn routes() -> Router {
    Router::new()
        .get("/caching", page::caching)
        .get("/caching/status", page::status)
        .post("/caching/purge", page::purge)
        .get("/api/posts", posts::list)
        .get("/api/posts/{id}", posts::get)
        .put("/api/posts/{id}", posts::put)
        .get("/api/articles", articles::list)
        .post("/api/articles", articles::post)
        .get("/api/news/trending", articles::trending)
        .post("/api/news", articles::post_news)
        .get("/api/events/public", articles::events)
        .post("/api/events/public", articles::post_event)
        .get("/api/content", content::get)
        .get("/api/stock/{symbol}/price", markets::stock)
        .put("/api/stock/{symbol}/price", markets::put)
        .get("/api/trading/prices/{symbol}", markets::trading)
        .put("/api/trading/prices/{symbol}", markets::put)
        .get("/api/realtime/prices", markets::all)
        .get("/api/sports/{game}/score", sports::get)
        .put("/api/sports/{game}/score", sports::put)
        .get("/api/auth/token", token::get)
        .get("/api/dashboard/{user}", dashboard::get)
        .get("/api/dashboard/{user}/widgets", dashboard::widgets)
        .put("/api/dashboard/{user}/widgets", dashboard::put_widgets)
        .get("/api/dashboard/public/metrics", dashboard::public_metrics)
        .get("/api/config", policies::list)
        .get("/api/config/{policy}", policies::get)
        .get("/api/realtime/config", realtime::config)
        .put("/api/realtime/config", realtime::put_config)
        .get("/api/realtime/feed/{id}", realtime::feed)
        .post("/api/realtime/feed/{id}", realtime::post_feed)
        .get("/api/realtime/metrics", realtime::metrics)
        .get("/api/realtime/large_dataset", dataset::realtime)
        .get("/api/large-dataset", dataset::whole)
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
