//! What changes all the time and is asked for all the time: a configuration, feeds, figures.

use std::time::Duration;

use serde_json::{Map, Value};
use wharf_sdk::cache::{self, CacheControl, ETag, Purge, Validators};
use wharf_sdk::{Error, Request, Response, StatusCode, header, metrics};

use crate::document::{Document, id, now, sent, text};
use crate::posts::json_of;
use crate::store;

/// Items of a feed that are kept.
const MAX_ITEMS: usize = 100;
/// How long the figures are good for, in milliseconds.
const FIGURES_AGE: i64 = 30_000;

/// `GET /api/realtime/config`.
pub(crate) async fn config(request: Request) -> Result<Response, Error> {
    let config = store::find("config", "realtime").await?.ok_or_else(Error::not_found)?;
    let body = serde_json::to_vec(&config.content)?;
    let validators = Validators::etag(ETag::of(&body)?);
    json_of(body)?
        .cache(CacheControl::new().max_age(Duration::from_secs(60)).must_revalidate())?
        .surrogate_keys(["config"])?
        .conditional(&request, &validators)
}

/// `PUT /api/realtime/config`, any JSON object; under `If-Match` only that version.
pub(crate) async fn put_config(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let (config, _) = store::change("config", "realtime", |current| {
        let current = match current {
            Some(current) => {
                let body = serde_json::to_vec(&current.content)?;
                Some(Validators::etag(ETag::of(&body)?))
            }
            None => None,
        };
        cache::check(&request, current.as_ref())?;
        Ok(sent)
    })
    .await?;
    cache::purge_key("config", Purge::Hard)?;
    cache::purge_key("policies", Purge::Hard)?;
    let body = serde_json::to_vec(&config.content)?;
    let etag = ETag::of(&body)?;
    json_of(body)?
        .with_header(header::ETAG, etag.value().clone())?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// `GET /api/realtime/feed/{id}`: stored, and asked about each time.
pub(crate) async fn feed(request: Request) -> Result<Response, Error> {
    let feed = store::find("feed", id(&request, "id")?).await?.ok_or_else(Error::not_found)?;
    let body = serde_json::to_vec(&feed.to_value())?;
    let validators = Validators::etag(ETag::of(&body)?);
    json_of(body)?
        .cache(CacheControl::new().max_age(Duration::ZERO).must_revalidate())?
        .surrogate_keys([format!("feed-{}", feed.id).as_str()])?
        .conditional(&request, &validators)
}

/// `POST /api/realtime/feed/{id}` `{"text"}`: adds an item, and the feed where there is none.
pub(crate) async fn post_feed(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let text = text(&sent, "text", 1000)?;
    let id = id(&request, "id")?;
    let (feed, _) = store::change("feed", id, |current| {
        let items = current.and_then(|current| current.content.get("items"));
        let mut items = items.and_then(Value::as_array).cloned().unwrap_or_default();
        items.insert(0, Value::from(text));
        items.truncate(MAX_ITEMS);
        Ok(Map::from_iter([("items".to_owned(), Value::Array(items))]))
    })
    .await?;
    cache::purge_key(&format!("feed-{}", feed.id), Purge::Hard)?;
    Response::json(&feed.to_value())?
        .with_status(StatusCode::CREATED)
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// `GET /api/realtime/metrics`: figures of the server, taken every half a minute while somebody asks.
pub(crate) async fn metrics(request: Request) -> Result<Response, Error> {
    let kept = store::find("metrics", "now").await?;
    let is_good = |kept: &Document| (0..FIGURES_AGE).contains(&(now() - kept.updated));
    let figures = match kept.filter(is_good) {
        Some(kept) => kept,
        None => {
            let server = metrics::server()?;
            let taken = Map::from_iter([
                ("cpu_seconds".to_owned(), Value::from(server.cpu.as_secs_f64())),
                ("resident_bytes".to_owned(), Value::from(server.resident_bytes)),
                ("requests".to_owned(), Value::from(server.requests)),
                ("in_flight".to_owned(), Value::from(server.in_flight)),
                ("connections".to_owned(), Value::from(server.connections)),
            ]);
            // Who was quicker has taken them already.
            let keep = |current: Option<&Document>| {
                let current = current.filter(|current| is_good(current));
                Ok(current.map_or(taken, |current| current.content.clone()))
            };
            store::change("metrics", "now", keep).await?.0
        }
    };
    Response::json(&figures.to_value())?
        .cache(CacheControl::new().max_age(Duration::from_secs(30)).must_revalidate())?
        .surrogate_keys(["metrics"])?
        .conditional(&request, &Validators::last_modified(figures.modified()))
}
