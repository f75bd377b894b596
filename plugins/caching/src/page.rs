//! The page: every endpoint with its policy, asked for by a button, with what came back, how old it is,
//! and what the cache did; and what the page needs beside them.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_sdk::cache::{self, CacheError, Purge};
use wharf_sdk::{Error, Request, Response, header};

use crate::document::sent;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const CONTENT: &str = include_str!("page/page.html");

/// The page, and the policy under which it can do just what it does.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = CONTENT.replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    );
    (page, policy)
});

/// `GET /caching`.
pub(crate) async fn caching(_: Request) -> Result<Response, Error> {
    let (page, policy) = &*PAGE;
    Response::html(page.as_str())
        .with_header(header::CONTENT_SECURITY_POLICY, policy.as_str())?
        .with_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?
        .with_header(header::CACHE_CONTROL, "no-cache")
}

/// `GET /caching/status`.
pub(crate) async fn status(_: Request) -> Result<Response, Error> {
    let figures = cache::figures();
    Response::json(&json!({
        "entries": figures.entries,
        "bytes": figures.bytes,
        "hits": figures.hits,
        "misses": figures.misses,
    }))?
    .with_header(header::CACHE_CONTROL, "no-store")
}

/// `POST /caching/purge` `{"url"}` or `{"key"}`, with `"soft":true` to make stale only.
pub(crate) async fn purge(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let how = match sent.get("soft") {
        None | Some(Value::Bool(false)) => Purge::Hard,
        Some(Value::Bool(true)) => Purge::Soft,
        Some(_) => return Err(Error::unprocessable("`soft` is true or false")),
    };
    let text = |name| sent.get(name).and_then(Value::as_str);
    let purged = match (text("url"), text("key")) {
        (Some(url), None) => cache::purge(url, how),
        (None, Some(key)) => cache::purge_key(key, how),
        _ => return Err(Error::unprocessable("write either `url` or `key`, as a text")),
    };
    let purged = purged.map_err(|error| match error {
        CacheError::Invalid(what) => Error::unprocessable(what),
        error => error.into(),
    })?;
    Response::json(&json!({ "purged": purged }))?.with_header(header::CACHE_CONTROL, "no-store")
}

/// The hash source of an inline element (CSP level 3, §2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, block_on};

    #[test]
    fn policy_has_the_hashes_of_what_is_inline() {
        let mut response = answer(Method::GET, "/caching", ());
        let policy = response.header("content-security-policy").unwrap().to_owned();
        let page = block_on(response.body_mut().text(1 << 20)).unwrap();

        for (name, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (_, rest) = page.split_once(&format!("<{name}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{name}>")).unwrap();
            assert!(policy.contains(&format!("{directive} '{}'", source(text))), "{name}");
            assert!(!rest.contains(&format!("<{name}")), "a second {name}");
        }
        assert!(!page.contains("style=\"") && !page.contains("onclick"), "{page}");
    }

    #[test]
    fn what_is_purged_is_a_url_or_a_key() {
        for body in
            ["{}", r#"{"url":"/a","key":"b"}"#, r#"{"url":1}"#, r#"{"key":"a","soft":"yes"}"#]
        {
            assert_eq!(answer(Method::POST, "/caching/purge", body).status(), 422, "{body}");
        }
    }
}
