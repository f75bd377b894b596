//! Lists that grow: articles with a date of change, trending news that may be stale for a moment, public
//! events.

use std::time::Duration;

use serde_json::{Map, Value};
use wharf_sdk::cache::{self, CacheControl, Policy, Purge, Validators};
use wharf_sdk::{Error, Request, Response};

use crate::document::{Document, sent, text};
use crate::posts::created;
use crate::store;

/// News that are trending at once.
const TRENDING: usize = 10;

/// `GET /api/articles`.
pub(crate) async fn list(request: Request) -> Result<Response, Error> {
    let articles = store::list("article").await?;
    let response = Response::json(&values(&articles))?
        .cache(Policy::SemiStatic)?
        .surrogate_keys(["articles"])?;
    match articles.iter().map(Document::modified).max() {
        Some(modified) => response.conditional(&request, &Validators::last_modified(modified)),
        None => Ok(response),
    }
}

/// `POST /api/articles` `{"title","author"}`.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let mut content = Map::from_iter([("title".to_owned(), text(&sent, "title", 200)?.into())]);
    content.insert("author".to_owned(), text(&sent, "author", 100)?.into());
    added("article", content, "articles", Purge::Hard).await
}

/// `GET /api/news/trending`: after five minutes the old news are given once more, while the cache asks for
/// the new ones.
pub(crate) async fn trending(_: Request) -> Result<Response, Error> {
    let mut news = store::list("news").await?;
    news.truncate(TRENDING);
    Response::json(&values(&news))?.cache(Policy::named("trending"))?.surrogate_keys(["news"])
}

/// `POST /api/news` `{"title"}`: what is cached of the trending ones becomes stale, and is given once more.
/// At a URL of its own: what is posted to is dropped from the cache (RFC 9111 §4.4).
pub(crate) async fn post_news(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let content = Map::from_iter([("title".to_owned(), text(&sent, "title", 200)?.into())]);
    added("news", content, "news", Purge::Soft).await
}

/// `GET /api/events/public`.
pub(crate) async fn events(_: Request) -> Result<Response, Error> {
    let events = store::list("event").await?;
    let control = CacheControl::new().public().max_age(Duration::from_secs(300));
    Response::json(&values(&events))?.cache(control)?.surrogate_keys(["events"])
}

/// `POST /api/events/public` `{"title","date"}`.
pub(crate) async fn post_event(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let mut content = Map::from_iter([("title".to_owned(), text(&sent, "title", 200)?.into())]);
    content.insert("date".to_owned(), text(&sent, "date", 40)?.into());
    added("event", content, "events", Purge::Hard).await
}

async fn added(
    kind: &str,
    content: Map<String, Value>,
    key: &str,
    how: Purge,
) -> Result<Response, Error> {
    let added = store::add(kind, content).await?;
    cache::purge_key(key, how)?;
    created(&added)
}

fn values(documents: &[Document]) -> Vec<Value> {
    documents.iter().map(Document::to_value).collect()
}
