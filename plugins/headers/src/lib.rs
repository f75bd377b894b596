//! Middleware around the sample plugins: every request and response carry a request id, and
//! responses the security headers that they do not set themselves. Bodies and trailers are not
//! touched: they stay with the host.

use wharf_sdk::http::uri::Scheme;
use wharf_sdk::{Error, HeaderMap, HeaderName, HeaderValue, Next, Request, Response, header};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Set where the response does not have them.
const ALWAYS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    // For clients that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// For pages without a policy of their own: nothing from elsewhere, no inline script or style.
const PAGE_POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'";

/// For anything else, which is not meant to be a page.
const OTHER_POLICY: &str = "frame-ancestors 'none'";

/// A year; only meaningful over TLS (RFC 6797 §7.2).
const HSTS: &str = "max-age=31536000";

wharf_sdk::middleware!(headers);

async fn headers(mut request: Request, next: Next) -> Result<Response, Error> {
    let id = match inbound_id(request.headers()) {
        Some(id) => id,
        None => {
            let id = match request.exchange() {
                Some(exchange) => exchange.request_id(),
                None => random_id()?,
            };
            HeaderValue::try_from(id)?
        }
    };
    let is_https = request.uri().scheme() == Some(&Scheme::HTTPS);
    request.headers_mut().insert(REQUEST_ID, id.clone());

    let mut response = next.run(request).await?;

    complete(response.headers_mut(), is_https);
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response)
}

/// The client's own id, if it is one that can stand in any log line.
fn inbound_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let id = values.next()?;
    let is_id = (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    (is_id && values.next().is_none()).then(|| id.clone())
}

fn random_id() -> Result<String, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}

fn complete(headers: &mut HeaderMap, is_https: bool) {
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { OTHER_POLICY };
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
    if is_https {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static(HSTS));
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

    /// Answers with the id that the handler behind the middleware has seen.
    fn through(uri: &str, id: Option<&str>) -> Response {
        let mut request = Request::new(Method::GET, uri, ()).unwrap();
        if let Some(id) = id {
            request.headers_mut().insert(REQUEST_ID, id.parse().unwrap());
        }
        let next = Next::from_handler(async |request: Request| {
            let id = request.header("x-request-id").unwrap_or_default().to_owned();
            Response::html(id).with_header("x-frame-options", "SAMEORIGIN")
        });
        block_on(headers(request, next)).unwrap()
    }

    #[test]
    fn good_inbound_id_is_kept_both_ways() {
        let mut response = through("/", Some("Abc-1.2_3"));

        assert_eq!(response.header("x-request-id"), Some("Abc-1.2_3"));
        assert_eq!(block_on(response.body_mut().text(200)).unwrap(), "Abc-1.2_3");
    }

    #[test]
    fn bad_inbound_id_is_replaced_both_ways() {
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            let mut response = through("/", Some(bad));

            let id = response.header("x-request-id").unwrap().to_owned();
            assert_eq!(id.len(), 32, "{id}");
            assert_eq!(block_on(response.body_mut().text(200)).unwrap(), id);
        }
    }

    #[test]
    fn ids_differ() {
        let ids = [through("/", None), through("/", None)];

        assert_ne!(ids[0].header("x-request-id"), ids[1].header("x-request-id"));
    }

    #[test]
    fn absent_headers_are_added_and_present_ones_kept() {
        let response = through("/", None);

        assert_eq!(response.header("x-frame-options"), Some("SAMEORIGIN"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("content-security-policy"), Some(PAGE_POLICY));
    }

    #[test]
    fn strict_transport_security_is_for_https_only() {
        assert_eq!(through("http://a/", None).header("strict-transport-security"), None);
        assert_eq!(through("https://a/", None).header("strict-transport-security"), Some(HSTS));
    }
}
