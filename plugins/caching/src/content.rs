//! `/api/content`: one thing in two forms and three languages, as the client reads them.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use wharf_sdk::cache::{self, CacheControl, ETag, Validators};
use wharf_sdk::{Error, HeaderValue, Request, Response, header};

use crate::document::Document;
use crate::posts::json_of;
use crate::store;

const TYPES: [&str; 3] = ["application/json", "application/xml", "text/xml"];
const LANGUAGES: [&str; 3] = ["en", "fr", "de"];

/// `GET /api/content`.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    // Who accepts nothing of it is told so, under the same fields: the refusal depends on them, too.
    let vary = |error: Error| {
        error.header(header::VARY, HeaderValue::from_static("Accept, Accept-Language"))
    };
    let kind = cache::negotiate_type(&request, &TYPES).map_err(vary)?;
    let language = cache::negotiate_language(&request, &LANGUAGES).map_err(vary)?;
    let language = LANGUAGES[language];
    let content = store::find("content", language).await?.ok_or_else(Error::not_found)?;
    let (body, response) = if kind == 0 {
        let body = serde_json::to_vec(&content.to_value())?;
        (body.clone(), json_of(body)?)
    } else {
        let body = xml(&content);
        let response = Response::new(body.clone())
            .with_header(header::CONTENT_TYPE, format!("{}; charset=utf-8", TYPES[kind]))?;
        (body.into_bytes(), response)
    };
    response
        .cache(CacheControl::new().public().max_age(Duration::from_secs(3600)))?
        .with_header(header::CONTENT_LANGUAGE, language)?
        .vary(header::ACCEPT)?
        .vary(header::ACCEPT_LANGUAGE)?
        .surrogate_keys(["content"])?
        .conditional(&request, &Validators::etag(ETag::of(&body)?))
}

fn xml(content: &Document) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<content>\n".to_owned();
    if let Value::Object(members) = content.to_value() {
        for (name, value) in members {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            // Writing to a `String` cannot fail.
            let _infallible = writeln!(xml, "  <{name}>{text}</{name}>");
        }
    }
    xml.push_str("</content>\n");
    xml
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn xml_is_escaped() {
        let content = Map::from_iter([("title".to_owned(), Value::from("<a & b>"))]);
        let document = Document { id: "en".to_owned(), content, updated: 0 };

        let xml = xml(&document);

        assert!(xml.contains("<title>&lt;a &amp; b&gt;</title>"), "{xml}");
    }
}
