//! The start page: every endpoint of every plugin, as the host's registry has them at this moment.

mod page;

use serde::Serialize;
use wharf_sdk::registry::{self, Endpoint};
use wharf_sdk::{Error, Request, Response, Router, header};

fn routes() -> Router {
    Router::new().get("/", index)
}

wharf_sdk::serve!(routes);

/// An endpoint in JSON; a method or host of null stands for any.
#[derive(Serialize)]
struct Listed<'a> {
    plugin: &'a str,
    version: &'a str,
    method: Option<&'a str>,
    host: Option<&'a str>,
    path: &'a str,
}

async fn index(request: Request) -> Result<Response, Error> {
    answer(&request, registry::endpoints()?)
}

fn answer(request: &Request, mut endpoints: Vec<Endpoint>) -> Result<Response, Error> {
    endpoints.sort_by(|a, b| {
        (&a.plugin, &a.path, &a.method, &a.host).cmp(&(&b.plugin, &b.path, &b.method, &b.host))
    });
    let response = if request.prefers("application/json", "text/html") {
        Response::json(&endpoints.iter().map(listed).collect::<Vec<_>>())?
    } else {
        Response::html(page::render(&endpoints))
            .with_header(header::CONTENT_SECURITY_POLICY, page::policy())?
    };
    response.with_header(header::CACHE_CONTROL, "no-cache")?.with_header(header::VARY, "accept")
}

fn listed(endpoint: &Endpoint) -> Listed<'_> {
    Listed {
        plugin: &endpoint.plugin,
        version: &endpoint.version,
        method: endpoint.method.as_deref(),
        host: endpoint.host.as_deref(),
        path: &endpoint.path,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::Method;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    #[test]
    fn json_lists_endpoints_by_plugin_and_path() {
        let endpoint = |plugin: &str, path: &str| Endpoint {
            plugin: plugin.into(),
            version: "abc".into(),
            method: None,
            host: None,
            path: path.into(),
        };
        let mut request = Request::new(Method::GET, "/", ()).unwrap();
        request.headers_mut().insert("accept", "application/json".parse().unwrap());

        let endpoints = vec![endpoint("b", "/1"), endpoint("a", "/3"), endpoint("a", "/2")];
        let mut response = answer(&request, endpoints).unwrap();

        let text = block_on(response.body_mut().text(1000)).unwrap();
        let first = r#"[{"plugin":"a","version":"abc","method":null,"host":null,"path":"/2"},"#;
        assert!(text.starts_with(first), "{text}");
    }
}
