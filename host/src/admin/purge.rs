//! `POST /purge`: takes answers out of the shared cache.
//!
//! What to purge stands in the query or in a JSON object, by the same names: `url` (absolute, or a path
//! for every host; a `*` at its end stands for everything below), `key` (a surrogate key), each once or,
//! in JSON, in a list as well; `plugin`, so that only its answers are meant; `soft`, so that they
//! become stale instead of going. Without a URL and a key it is everything, and must say `all`.

use std::time::Duration;

use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use super::{AdminState, JSON, reply};
use crate::cache::Cache;
use crate::cache::purge::Purge;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::rejection::Rejection;

/// Bytes of a request's body.
pub const MAX_PURGE_BODY: usize = 1024 * 1024;

/// How long it may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// URLs and keys of one request.
pub const MAX_PURGES: usize = 10_000;

/// What a request asks for.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct Order {
    url: Names,
    key: Names,
    plugin: Option<String>,
    soft: bool,
    all: bool,
}

/// One, several or none.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Names {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// Answers `POST /purge`.
pub async fn purge(state: &AdminState, request: Request<RequestBody>) -> Response<ResponseBody> {
    match order(state, request).await.and_then(|order| carry_out(&state.cache, &order)) {
        Ok(purged) => {
            tracing::info!(purged, "the cache was purged");
            reply(StatusCode::OK, JSON, format!("{{\"purged\":{purged}}}"))
        }
        Err(rejection) => rejection.into_response(None),
    }
}

async fn order(state: &AdminState, request: Request<RequestBody>) -> Result<Order, Rejection> {
    let (parts, body) = request.into_parts();
    if is_foreign(state, &parts.headers) {
        return Err(Rejection::bad("a page of another origin must not purge"));
    }
    let mut order = Order::default();
    let mut urls = Vec::new();
    let mut keys = Vec::new();
    for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        let flag = || match &*value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(bad(format!("`{name}` is true or false"))),
        };
        match &*name {
            "url" => urls.push(value.into_owned()),
            "key" => keys.push(value.into_owned()),
            "plugin" => order.plugin = Some(value.into_owned()),
            "soft" => order.soft = flag()?,
            "all" => order.all = flag()?,
            other => {
                return Err(bad(format!("`{other}` is unknown: url, key, plugin, soft or all")));
            }
        }
    }
    (order.url, order.key) = (Names::Several(urls), Names::Several(keys));
    let read = Limited::new(body, MAX_PURGE_BODY).collect();
    let body = match tokio::time::timeout(BODY_TIME, read).await {
        Err(_) => return Err(Rejection::RequestTimeout),
        Ok(Err(_)) => return Err(Rejection::BodyTooLarge { limit: MAX_PURGE_BODY as u64 }),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if body.is_empty() {
        return Ok(order);
    }
    if parts.uri.query().is_some() {
        return Err(Rejection::bad("say what to purge in the query or in the body, not in both"));
    }
    // A form of a page elsewhere cannot send this type without asking first.
    let is_json = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(JSON.as_bytes()));
    if !is_json {
        return Err(Rejection::bad("the body must be application/json"));
    }
    serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
}

fn carry_out(cache: &Cache, order: &Order) -> Result<u64, Rejection> {
    let (urls, keys) = (order.url.as_slice(), order.key.as_slice());
    let how = if order.soft { Purge::Soft } else { Purge::Hard };
    let plugin = order.plugin.as_deref();
    if urls.len() + keys.len() > MAX_PURGES {
        return Err(bad(format!("more than {MAX_PURGES} at once")));
    }
    if urls.is_empty() && keys.is_empty() {
        // Everything of a plugin is named by the plugin.
        return match (order.all, plugin) {
            (false, None) => {
                Err(Rejection::bad("name a `url`, a `key` or a `plugin`, or say `all=true`"))
            }
            _ => Ok(cache.purge_all(plugin, how)),
        };
    }
    if order.all {
        return Err(Rejection::bad("`all` goes with no `url` and no `key`"));
    }
    if let Some(url) = urls.iter().find(|url| !url.starts_with('/') && !url.contains("://")) {
        return Err(bad(format!("\"{url}\" is neither a path nor an absolute URL")));
    }
    let by_url = urls.iter().map(|url| cache.purge_url(plugin, url, how)).sum::<u64>();
    let by_key = keys.iter().map(|key| cache.purge_key(plugin, key, how)).sum::<u64>();
    Ok(by_url + by_key)
}

fn bad(reason: String) -> Rejection {
    Rejection::BadRequest(reason.into())
}

/// Whether a browser says that a page from elsewhere sends the request.
fn is_foreign(state: &AdminState, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    match (authority, host) {
        (Some((_, authority)), Some(host)) => authority != host,
        (Some((_, authority)), None) => !state.is_addressed(authority),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drain::Drain;

    #[test]
    fn what_to_purge_must_be_said() {
        let cache = Cache::new(1 << 20, Drain::new());
        for (text, told) in [
            ("{}", "name a `url`"),
            (r#"{"all":true,"key":"a"}"#, "`all` goes with"),
            (r#"{"url":"posts"}"#, "neither a path"),
        ] {
            let order: Order = serde_json::from_str(text).unwrap();
            let refused = carry_out(&cache, &order).unwrap_err().to_string();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        for text in [
            r#"{"all":true}"#,
            r#"{"plugin":"shop","soft":true}"#,
            r#"{"url":["/a","https://a.test/b*"],"key":"k"}"#,
        ] {
            let order: Order = serde_json::from_str(text).unwrap();
            assert_eq!(carry_out(&Arc::clone(&cache), &order).unwrap(), 0, "{text}");
        }
        assert!(serde_json::from_str::<Order>(r#"{"urls":["/a"]}"#).is_err());
    }
}
