//! Pages of other origins (WHATWG Fetch §3.3).

use wharf_sdk::{HeaderValue, Request, Response, StatusCode, header};

use crate::settings::{Origins, Settings};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const FIELDS: HeaderValue =
    HeaderValue::from_static("authorization, cache-control, content-type, last-event-id");
/// What a page may see of an answer: EventSources of others than browsers show them.
const EXPOSED: HeaderValue = HeaderValue::from_static("last-event-id, mercure-last-event-id, link");

/// What the answer tells the browser of the page that asked.
pub(crate) struct Cors {
    /// The page's origin, where it may use the hub.
    origin: Option<HeaderValue>,
    with_cookies: bool,
    varies: bool,
}

impl Cors {
    pub(crate) fn of(request: &Request, settings: &Settings) -> Self {
        let asked = request.headers().get(header::ORIGIN);
        match &settings.cors_origins {
            Origins::Any => {
                let origin = asked.map(|_| HeaderValue::from_static("*"));
                Self { origin, with_cookies: false, varies: false }
            }
            // Never what is asked as it is: any page could then read with its visitor's cookie.
            Origins::These(these) => {
                let allowed = |asked: &&HeaderValue| these.iter().any(|one| *one == **asked);
                Self { origin: asked.filter(allowed).cloned(), with_cookies: true, varies: true }
            }
        }
    }

    /// The answer to a question whether something may be asked.
    pub(crate) fn preflight(&self) -> Response {
        let mut response = Response::new(()).with_status(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, METHODS);
        if self.origin.is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, FIELDS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        }
        response
    }

    /// Adds the fields to any answer, also to one that refuses: else a page could not tell why.
    pub(crate) fn apply(self, response: &mut Response) {
        let headers = response.headers_mut();
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if self.with_cookies {
            headers
                .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::request;

    fn answer(origins: &str, origin: Option<&str>) -> Response {
        let settings = read(&[("cors-origins", origins)]).unwrap();
        let fields: Vec<_> = origin.into_iter().map(|origin| ("origin", origin)).collect();
        let cors = Cors::of(&request(Method::OPTIONS, "/", &fields, ""), &settings);
        let mut response = cors.preflight();
        cors.apply(&mut response);
        response
    }

    #[test]
    fn any_origin_is_without_cookies() {
        let response = answer("*", Some("https://app.example.com"));

        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        assert!(response.header("access-control-allow-headers").unwrap().contains("last-event-id"));
        assert_eq!(answer("*", None).header("access-control-allow-origin"), None);
    }

    #[test]
    fn origins_of_the_list_come_with_cookies_and_others_not_at_all() {
        let list = "https://app.example.com https://b.example";

        let response = answer(list, Some("https://app.example.com"));
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(response.header("vary"), Some("origin"));

        for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
            let response = answer(list, Some(origin));
            assert_eq!(response.header("access-control-allow-origin"), None, "{origin}");
            assert_eq!(response.header("access-control-allow-credentials"), None, "{origin}");
            assert_eq!(response.header("vary"), Some("origin"));
        }
    }
}
