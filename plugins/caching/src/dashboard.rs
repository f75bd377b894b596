//! Dashboards: for their user's own cache only, and public figures for everybody's.

use std::time::Duration;

use serde_json::{Map, Value, json};
use wharf_sdk::cache::{self, CacheControl, Validators};
use wharf_sdk::exchange::HintError;
use wharf_sdk::{Error, Method, Request, Response, header, metrics, registry};

use crate::document::{Document, id, now, sent, time};
use crate::store;

const KIND: &str = "widgets";
/// Widgets of one dashboard.
const MAX_WIDGETS: usize = 50;

/// `GET /api/dashboard/{user}`: what it needs next is announced before it is ready.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    let user = id(&request, "user")?;
    let links = [
        format!("</api/dashboard/{user}/widgets>; rel=preload; as=fetch; crossorigin"),
        "</api/dashboard/public/metrics>; rel=preload; as=fetch; crossorigin".to_owned(),
    ];
    if request.method() != Method::HEAD
        && let Some(exchange) = request.exchange()
    {
        match exchange.early_hints(&links.each_ref().map(String::as_str)) {
            // A client that may not cope sees the links with the answer.
            Ok(()) | Err(HintError::Unsupported) => {}
            Err(why) => eprintln!("no early hints: {why:?}"),
        }
    }
    let widgets = widgets_of(user).await?;
    let answer = json!({
        "user": user,
        "widgets": widgets.content.get("widgets"),
        "updated_at": time(widgets.updated),
        "generated_at": time(now()),
    });
    let mut response = Response::json(&answer)?
        .cache(CacheControl::new().private().max_age(Duration::from_secs(60)))?;
    for link in links {
        response.headers_mut().append(header::LINK, link.try_into()?);
    }
    Ok(response)
}

/// `GET /api/dashboard/{user}/widgets`.
pub(crate) async fn widgets(request: Request) -> Result<Response, Error> {
    let widgets = widgets_of(id(&request, "user")?).await?;
    let control = CacheControl::new().private().max_age(Duration::from_secs(30)).must_revalidate();
    Response::json(&widgets.content)?
        .cache(control)?
        .conditional(&request, &Validators::last_modified(widgets.modified()))
}

/// `PUT /api/dashboard/{user}/widgets` `{"widgets":[…]}`.
pub(crate) async fn put_widgets(mut request: Request) -> Result<Response, Error> {
    let mut sent = sent(&mut request).await?;
    let widgets = match sent.remove("widgets") {
        Some(Value::Array(widgets)) if widgets.len() <= MAX_WIDGETS => widgets,
        _ => {
            let rule = format!("`widgets` is a list of at most {MAX_WIDGETS}");
            return Err(Error::unprocessable(rule).member("field", "widgets"));
        }
    };
    let user = id(&request, "user")?;
    let content = content(user, widgets);
    let (document, _) = store::change(KIND, user, |_| Ok(content)).await?;
    Response::json(&document.content)?.with_header(header::CACHE_CONTROL, "no-store")
}

/// A user's widgets; at the first look, those that everybody begins with.
async fn widgets_of(user: &str) -> Result<Document, Error> {
    if let Some(document) = store::find(KIND, user).await? {
        return Ok(document);
    }
    let first = content(user, vec![json!({ "type": "clock" }), json!({ "type": "news" })]);
    let keep =
        |current: Option<&Document>| Ok(current.map_or(first, |current| current.content.clone()));
    Ok(store::change(KIND, user, keep).await?.0)
}

fn content(user: &str, widgets: Vec<Value>) -> Map<String, Value> {
    Map::from_iter([
        ("user".to_owned(), Value::from(user)),
        ("widgets".to_owned(), Value::Array(widgets)),
    ])
}

/// `GET /api/dashboard/public/metrics`.
pub(crate) async fn public_metrics(_: Request) -> Result<Response, Error> {
    let server = metrics::server()?;
    let cached = cache::figures();
    let routes: Vec<Value> = registry::endpoints()?
        .into_iter()
        .map(|route| json!({ "plugin": route.plugin, "method": route.method, "path": route.path }))
        .collect();
    let answer = json!({
        "server": {
            "uptime_seconds": server.uptime.as_secs(),
            "cpu_seconds": server.cpu.as_secs_f64(),
            "resident_bytes": server.resident_bytes,
            "requests": server.requests,
            "in_flight": server.in_flight,
            "connections": server.connections,
        },
        "cache": {
            "entries": cached.entries,
            "bytes": cached.bytes,
            "hits": cached.hits,
            "misses": cached.misses,
        },
        "routes": routes,
        "generated_at": time(now()),
    });
    let control = CacheControl::new()
        .public()
        .max_age(Duration::from_secs(60))
        .stale_while_revalidate(Duration::from_secs(300));
    // `Vary: Accept-Encoding` is the host's to say, for it makes the coded forms: said here, it would have
    // this content made and stored once for every way to ask for it.
    Response::json(&answer)?.cache(control)?.surrogate_keys(["public-metrics"])
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn widgets_are_a_list() {
        for body in ["{}", r#"{"widgets":1}"#] {
            let response = answer(Method::PUT, "/api/dashboard/ada/widgets", body);

            assert_eq!(response.status(), 422, "{body}");
        }
        assert_eq!(answer(Method::GET, "/api/dashboard/a%2Fb", "").status(), 404);
    }
}
