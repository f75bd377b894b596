//! The sample plugin for early hints: pages that take their time, and assets that a browser fetches
//! meanwhile because it was told of them before there was a page.

mod asset;
mod page;

use wharf_sdk::Router;

fn routes() -> Router {
    let mut router = Router::new().get("/app", page::app).get("/dashboard", page::dashboard);
    for asset in asset::ALL {
        router = router.get(asset.path, asset::handler(asset));
    }
    router
}

wharf_sdk::serve!(routes);

#[cfg(test)]
mod testing {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::{Method, Request, Response};

    use super::routes;

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    pub(crate) fn answer(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Response {
        let mut request = Request::new(method, uri, ()).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        block_on(routes().handle(request))
    }
}
