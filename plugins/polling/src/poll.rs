//! `/api/realtime/poll/{resource}`: read at once, or when it changes; changed by PUT.

use std::time::Duration;

use serde_json::json;
use wharf_sdk::hub::{self, Start};
use wharf_sdk::{Error, HeaderName, Method, Request, Response, StatusCode, header};

use crate::{resource, store};

/// Bytes of a document, at the most.
const MAX_CONTENT: usize = 64 << 10;

const CURRENT_VERSION: HeaderName = HeaderName::from_static("x-current-version");
const NO_STORE: &str = "no-cache, no-store";

/// What is newer than the client's version; at once where there is something, else when there is.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    let name = resource::name(&request)?;
    let last = resource::last_version(&request)?;
    let timeout = resource::timeout(&request)?;
    // Before the database is read: what is published after the reading is after this as well.
    let position = hub::position();
    let stored = store::find(name).await?;

    let (version, start) = match stored {
        Some(stored) if last.is_none_or(|last| last < stored.version) => {
            return Response::text(stored.content)
                .with_header(header::CONTENT_TYPE, "application/json")?
                .with_header(CURRENT_VERSION, stored.version)?
                .with_header(header::CACHE_CONTROL, NO_STORE);
        }
        Some(stored) if last == Some(stored.version) => {
            (stored.version, Start::After(stored.event))
        }
        // The client's version is published, and not committed yet.
        Some(stored) => (stored.version, Start::After(position)),
        None if last.is_some_and(|last| last > 0) => (0, Start::After(position)),
        // Any event makes it known.
        None => (0, Start::Earliest),
    };
    // HEAD says how things are; it does not wait for a body that it will not get.
    let timeout = if request.method() == Method::HEAD { Duration::ZERO } else { timeout };
    let poll = hub::poll(&request).topic(resource::topic(name)).start(start).timeout(timeout);
    poll.send()?.with_header(CURRENT_VERSION, version)?.with_header(header::CACHE_CONTROL, NO_STORE)
}

/// Changes the resource, or makes it, and tells everybody who polls.
pub(crate) async fn put(mut request: Request) -> Result<Response, Error> {
    let content = request.text(MAX_CONTENT).await?;
    let content = content.trim();
    serde_json::from_str::<serde_json::Value>(content)
        .map_err(|error| Error::bad_request(format!("this is not JSON: {error}")))?;
    let name = resource::name(&request)?;
    let version = store::put(name, content).await?;
    let status = if version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Response::json(&json!({ "resource": name, "version": version }))?
        .with_status(status)
        .with_header(CURRENT_VERSION, version)?
        .with_header(header::CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::answer;

    #[test]
    fn only_json_is_kept() {
        for body in ["", "x", "{", "1 2", "\u{feff}1"] {
            let response = answer(Method::PUT, "/api/realtime/poll/a", body);

            assert_eq!(response.status(), 400, "{body}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
        let large = format!("\"{}\"", "x".repeat(MAX_CONTENT));
        assert_eq!(answer(Method::PUT, "/api/realtime/poll/a", large).status(), 413);
    }

    #[test]
    fn other_methods_are_told_which_there_are() {
        let response = answer(Method::POST, "/api/realtime/poll/a", "1");

        assert_eq!(response.status(), 405);
        assert_eq!(response.header("allow"), Some("GET, HEAD, PUT"));
    }
}
