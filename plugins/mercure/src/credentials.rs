//! Where a request has its token, and what is answered where it has none that will do (RFC 6750).

use std::time::SystemTime;

use wharf_sdk::{Error, HeaderValue, Method, Request, StatusCode, header};

use crate::HUB;
use crate::access::Access;
use crate::settings::Settings;
use crate::token::Verifier;

/// The cookies of 1.0 and of 0.x.
pub(crate) const COOKIE: &str = "__Secure-mercure_access_token";
const LEGACY_COOKIE: &str = "mercureAuthorization";

/// Where the metadata of the hub is (RFC 9728 §3.1).
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has no token.
    Missing,
    /// Its token does not hold.
    InvalidToken,
    /// Its token holds and is for something else.
    InsufficientScope,
    /// Its token is presented in a way that is none.
    InvalidRequest,
}

impl Refusal {
    /// The status, and the challenge (RFC 6750 §3), which leads to the metadata (RFC 9728 §5.1).
    pub(crate) fn error(self, request: &Request) -> Error {
        let (status, code, detail) = match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, "", "this needs a token"),
            Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, "error=\"invalid_token\", ", "the token does not hold")
            }
            Self::InsufficientScope => (
                StatusCode::FORBIDDEN,
                "error=\"insufficient_scope\", ",
                "the token does not grant this",
            ),
            Self::InvalidRequest => (
                StatusCode::BAD_REQUEST,
                "error=\"invalid_request\", ",
                "a token is presented once, as a Bearer",
            ),
        };
        let metadata = format!("{}{METADATA}{HUB}", origin(request));
        let challenge =
            HeaderValue::from_str(&format!("Bearer {code}resource_metadata=\"{metadata}\""))
                .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        Error::new(status).detail(detail).header(header::WWW_AUTHENTICATE, challenge)
    }
}

/// Scheme and authority that the client asked, as its browser names the origin.
pub(crate) fn origin(request: &Request) -> String {
    let scheme = request.uri().scheme_str().unwrap_or("https");
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let authority = authority.or_else(|| request.header("host")).unwrap_or_default();
    format!("{scheme}://{authority}")
}

/// What the request's token allows; `None` without one.
///
/// # Errors
/// [`Refusal`]; never [`Refusal::Missing`].
pub(crate) fn access(
    request: &Request,
    settings: &Settings,
    verifier: &Verifier,
) -> Result<Option<Access>, Refusal> {
    let Some(token) = token(request, settings)? else { return Ok(None) };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0.0, |since| since.as_secs_f64());
    let hub = settings.hub(request);
    let token = verifier.verify(&token, hub.as_str(), now).map_err(|_| Refusal::InvalidToken)?;
    let access = Access::of(token, hub.as_str()).map_err(|_| Refusal::InvalidToken)?;
    Ok(Some(access))
}

/// The one token that counts: of the header, else of the query, else of the cookie.
fn token(request: &Request, settings: &Settings) -> Result<Option<String>, Refusal> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    if let Some(value) = headers.next() {
        let value = value.to_str().map_err(|_| Refusal::InvalidRequest)?;
        let (scheme, token) = value.split_once(' ').ok_or(Refusal::InvalidRequest)?;
        // RFC 9110 §11.1: a scheme in any case.
        if headers.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::InvalidRequest);
        }
        return Ok(Some(token.trim().to_owned()));
    }
    if settings.query_tokens {
        let names =
            |name: &str| name == "access_token" || (settings.compatible && name == "authorization");
        let mut tokens = request.query_pairs().filter(|(name, _)| names(name));
        if let Some((_, token)) = tokens.next() {
            if tokens.next().is_some() {
                return Err(Refusal::InvalidRequest);
            }
            return Ok(Some(token.into_owned()));
        }
    }
    let legacy = || request.cookie(LEGACY_COOKIE).filter(|_| settings.compatible);
    let Some(cookie) = request.cookie(COOKIE).or_else(legacy) else { return Ok(None) };
    // Browsers send cookies along with what any page has them post (§ Security Considerations).
    if request.method() != Method::GET && !is_from_here(request, settings) {
        return Err(Refusal::InsufficientScope);
    }
    Ok(Some(cookie.to_owned()))
}

/// Whether a page that may publish sent the request; one that does not say is none.
fn is_from_here(request: &Request, settings: &Settings) -> bool {
    let said = match (request.header("origin"), request.header("referer")) {
        (Some(origin), _) => Some(origin.to_owned()),
        (None, Some(referer)) => {
            url::Url::parse(referer).ok().map(|url| url.origin().ascii_serialization())
        }
        (None, None) => None,
    };
    said.is_some_and(|said| said == origin(request) || settings.publish_origins.contains(&said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{legacy_token, request};

    fn presented(
        method: Method,
        uri: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Option<bool>, Refusal> {
        let settings = read(&[("publish-origins", "https://app.example.com")]).unwrap();
        let request = request(method, uri, fields, "");
        let access = access(&request, &settings, &settings.publishers)?;
        Ok(access.map(|access| access.may_publish(&["a".to_owned()])))
    }

    #[test]
    fn one_token_counts_header_before_query_before_cookie() {
        let good = legacy_token(r#"{"mercure":{"publish":["a"]}}"#);
        let other = legacy_token(r#"{"mercure":{"publish":["b"]}}"#);
        let get = Method::GET;

        assert_eq!(presented(get.clone(), "/", &[]), Ok(None));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let field = format!("{scheme} {good}");
            let query = format!("/?authorization={other}");
            assert_eq!(
                presented(get.clone(), &query, &[("authorization", &field)]),
                Ok(Some(true))
            );
        }
        for name in ["authorization", "access_token"] {
            let query = format!("/?{name}={good}");
            let cookie = format!("mercureAuthorization={other}");
            assert_eq!(presented(get.clone(), &query, &[("cookie", &cookie)]), Ok(Some(true)));
        }
        for name in [COOKIE, LEGACY_COOKIE] {
            let cookie = format!("x=y; {name}={good}");
            assert_eq!(presented(get.clone(), "/", &[("cookie", &cookie)]), Ok(Some(true)));
        }
    }

    #[test]
    fn other_ways_of_presenting_are_refused() {
        let token = legacy_token(r#"{"mercure":{}}"#);
        let get = Method::GET;

        for value in ["Basic YTpi", "Bearer", &token] {
            let told = presented(get.clone(), "/", &[("authorization", value)]);
            assert_eq!(told, Err(Refusal::InvalidRequest), "{value}");
        }
        let twice = format!("/?access_token={token}&authorization={token}");
        assert_eq!(presented(get.clone(), &twice, &[]), Err(Refusal::InvalidRequest));
        assert_eq!(presented(get, "/?access_token=", &[]), Err(Refusal::InvalidToken));
    }

    #[test]
    fn a_cookie_publishes_only_from_pages_that_may() {
        let cookie = format!("{COOKIE}={}", legacy_token(r#"{"mercure":{"publish":["a"]}}"#));
        let post = |fields: &[(&'static str, &str)]| {
            let mut all = vec![("cookie", cookie.as_str()), ("host", "hub.example.com")];
            all.extend_from_slice(fields);
            presented(Method::POST, "/", &all)
        };

        assert_eq!(post(&[]), Err(Refusal::InsufficientScope));
        assert_eq!(post(&[("origin", "https://evil.example")]), Err(Refusal::InsufficientScope));
        assert_eq!(post(&[("origin", "null")]), Err(Refusal::InsufficientScope));
        assert_eq!(
            post(&[("referer", "https://evil.example/https://hub.example.com")]),
            Err(Refusal::InsufficientScope)
        );
        assert_eq!(post(&[("origin", "https://hub.example.com")]), Ok(Some(true)));
        assert_eq!(post(&[("referer", "https://hub.example.com/page")]), Ok(Some(true)));
        assert_eq!(post(&[("origin", "https://app.example.com")]), Ok(Some(true)));
    }

    #[test]
    fn challenges_say_what_is_wrong_and_lead_to_the_metadata() {
        let request = request(Method::GET, "/", &[("host", "localhost:8443")], "");

        for (refusal, status, code) in [
            (Refusal::Missing, 401, None),
            (Refusal::InvalidToken, 401, Some("invalid_token")),
            (Refusal::InsufficientScope, 403, Some("insufficient_scope")),
            (Refusal::InvalidRequest, 400, Some("invalid_request")),
        ] {
            let response = refusal.error(&request).into_response();

            assert_eq!(response.status(), status);
            let challenge = response.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer "), "{challenge}");
            let uri =
                "https://localhost:8443/.well-known/oauth-protected-resource/.well-known/mercure";
            assert!(challenge.contains(&format!("resource_metadata=\"{uri}\"")), "{challenge}");
            let error = code.map(|code| format!("error=\"{code}\""));
            assert_eq!(challenge.contains("error="), error.is_some());
            assert!(error.is_none_or(|error| challenge.contains(&error)), "{challenge}");
        }
    }
}
