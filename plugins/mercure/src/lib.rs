//! A Mercure hub: publishers send updates with a token, subscribers follow topics as event streams that
//! the host holds. It speaks the protocol 1.0 and, unless that is switched off, what clients of 0.x speak.
//!
//! Its topics are in the host's hub with [`WITHIN`] before them.

mod access;
mod cors;
mod credentials;
mod discovery;
mod matcher;
mod page;
mod publish;
mod settings;
mod subscribe;
mod subscriptions;
mod text;
mod token;

use wharf_sdk::{Error, HeaderValue, Method, Request, Response, Router, StatusCode, header};

use crate::cors::Cors;
use crate::settings::{Settings, settings};

/// Where the hub is (RFC 8615): its path, which it keeps for itself as a topic.
const HUB: &str = "/.well-known/mercure";

/// What stands before all topics of Mercure in the host's hub.
const WITHIN: &str = "mercure/";

fn routes() -> Router {
    router(settings)
}

wharf_sdk::serve!(routes);

fn router(settings: impl Fn() -> Result<&'static Settings, Error> + Copy + 'static) -> Router {
    Router::new()
        .any(HUB, move |request| async move { hub(request, settings()?).await })
        .any("/.well-known/mercure/*", move |request| async move { below(&request, settings()?) })
        .any(
            "/.well-known/oauth-protected-resource/.well-known/mercure",
            move |request| async move { metadata(&request, settings()?) },
        )
        .get("/mercure", move |request| async move { page::page(&request, settings()?) })
        .get("/mercure/books/{id}", move |request| async move { discovery::book(&request) })
}

/// `/.well-known/mercure`.
async fn hub(request: Request, settings: &Settings) -> Result<Response, Error> {
    let cors = Cors::of(&request, settings);
    let answer = match *request.method() {
        Method::OPTIONS => Ok(cors.preflight()),
        Method::GET => subscribe::subscribe(&request, settings),
        Method::POST => publish::publish(request, settings).await,
        _ => Err(not_allowed("GET, POST, OPTIONS")),
    };
    let mut response = answer.unwrap_or_else(Error::into_response);
    cors.apply(&mut response);
    Ok(response)
}

/// What is below it.
fn below(request: &Request, settings: &Settings) -> Result<Response, Error> {
    // Where the reference hub has its page.
    if matches!(request.path(), "/.well-known/mercure/ui" | "/.well-known/mercure/ui/") {
        return Response::redirect(StatusCode::TEMPORARY_REDIRECT, "/mercure");
    }
    with_cors(request, settings, || match *request.method() {
        Method::GET | Method::HEAD => subscriptions::list(request, settings),
        _ => Err(not_allowed("GET, OPTIONS")),
    })
}

fn metadata(request: &Request, settings: &Settings) -> Result<Response, Error> {
    with_cors(request, settings, || match *request.method() {
        Method::GET | Method::HEAD => discovery::metadata(request, settings),
        _ => Err(not_allowed("GET, OPTIONS")),
    })
}

fn with_cors(
    request: &Request,
    settings: &Settings,
    answer: impl FnOnce() -> Result<Response, Error>,
) -> Result<Response, Error> {
    let cors = Cors::of(request, settings);
    let mut response = if request.method() == Method::OPTIONS {
        cors.preflight()
    } else {
        answer().unwrap_or_else(Error::into_response)
    };
    cors.apply(&mut response);
    Ok(response)
}

fn not_allowed(methods: &'static str) -> Error {
    Error::new(StatusCode::METHOD_NOT_ALLOWED)
        .header(header::ALLOW, HeaderValue::from_static(methods))
}

#[cfg(test)]
mod testing {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;
    use wharf_sdk::{Method, Request, Response};

    use crate::settings::{DEMO_KEY, Settings};

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    pub(crate) fn request(
        method: Method,
        uri: &str,
        fields: &[(&'static str, &str)],
        body: &str,
    ) -> Request {
        let mut request = Request::new(method, uri, body.to_owned()).unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    /// What the plugin answers where its settings are these.
    pub(crate) fn answer(request: Request, settings: &Settings) -> Response {
        let settings: &'static Settings = Box::leak(Box::new(settings.clone()));
        block_on(super::router(move || Ok(settings)).handle(request))
    }

    /// A token of 0.x with the key that everybody knows.
    pub(crate) fn legacy_token(claims: &str) -> String {
        signed(r#"{"alg":"HS256"}"#, claims, DEMO_KEY.as_bytes())
    }

    /// A token with any header, signed with HMAC and SHA-256.
    pub(crate) fn signed(header: &str, claims: &str, key: &[u8]) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(&message);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}
