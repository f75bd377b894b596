//! How a client finds the hub and learns what it asks for: `Link` fields of an example, and the metadata
//! of a protected resource (RFC 9728).

use serde_json::{Value, json};
use wharf_sdk::{Error, HeaderValue, Request, Response, header, hub};

use crate::HUB;
use crate::access::DETAIL_TYPES;
use crate::credentials::{COOKIE, origin};
use crate::settings::Settings;

/// The longest name of a book.
const MAX_ID: usize = 64;

/// `GET /.well-known/oauth-protected-resource/.well-known/mercure`.
pub(crate) fn metadata(request: &Request, settings: &Settings) -> Result<Response, Error> {
    let mut metadata = json!({
        "resource": settings.hub(request).as_str(),
        "authorization_details_types_supported": DETAIL_TYPES,
        "bearer_methods_supported": if settings.query_tokens { vec!["header", "query"] } else { vec!["header"] },
        "mercure_cookie": COOKIE,
        "mercure_matcher_types_supported": ["exact", "urlpattern"],
        "mercure_subscriptions": true,
    });
    if !settings.issuers.is_empty() {
        metadata["authorization_servers"] = Value::from(settings.issuers.clone());
    }
    Response::json(&metadata)?.with_header(header::CACHE_CONTROL, "max-age=300")
}

/// `GET /mercure/books/{id}`: a resource that says where its updates are to be had.
pub(crate) fn book(request: &Request) -> Result<Response, Error> {
    let id = request.param("id")?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(is_name) {
        return Err(Error::not_found());
    }
    let topic = format!("{}/mercure/books/{id}", origin(request));
    let book = json!({
        "@context": "https://schema.org/",
        "@id": topic,
        "@type": "Book",
        "name": format!("The book {id}"),
        "offers": {"@type": "Offer", "availability": "https://schema.org/InStock"},
    });
    // Updates after this one may be newer than what is shown here.
    let last = hub::position();
    let last = if last.is_empty() { last } else { format!("; last-event-id=\"#{last}\"") };
    let mut response = Response::new(serde_json::to_string_pretty(&book)?)
        .with_header(header::CONTENT_TYPE, "application/ld+json")?
        .with_header(header::CACHE_CONTROL, "no-cache")?;
    let hub = format!("<{HUB}>; rel=\"mercure\"{last}");
    for link in [format!("<{topic}>; rel=\"self\""), hub] {
        response.headers_mut().append(header::LINK, HeaderValue::from_str(&link)?);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{answer, block_on, request};

    fn metadata(changes: &[(&str, &str)]) -> Value {
        let path = "/.well-known/oauth-protected-resource/.well-known/mercure";
        let mut response = answer(request(Method::GET, path, &[], ""), &read(changes).unwrap());
        assert_eq!(response.header("content-type"), Some("application/json"));
        block_on(response.body_mut().json(10_000)).unwrap()
    }

    #[test]
    fn metadata_name_the_hub_and_what_it_takes() {
        let plain = metadata(&[]);
        let strict = metadata(&[("issuer", "https://auth.example.com"), ("query-tokens", "off")]);

        assert_eq!(plain["resource"], "https://hub.example.com/.well-known/mercure");
        assert_eq!(plain["authorization_details_types_supported"][0], DETAIL_TYPES[0]);
        assert_eq!(plain["bearer_methods_supported"], json!(["header", "query"]));
        assert_eq!(plain["authorization_servers"], Value::Null);
        assert_eq!(strict["authorization_servers"], json!(["https://auth.example.com"]));
        assert_eq!(strict["bearer_methods_supported"], json!(["header"]));
    }

    #[test]
    fn a_book_links_to_itself_and_to_the_hub() {
        let settings = read(&[]).unwrap();
        let get = |path: &str| {
            answer(request(Method::GET, path, &[("host", "localhost")], ""), &settings)
        };

        let response = get("/mercure/books/1");

        let links: Vec<_> =
            response.headers().get_all("link").iter().map(|l| l.to_str().unwrap()).collect();
        assert_eq!(
            links,
            [
                "<https://localhost/mercure/books/1>; rel=\"self\"",
                "</.well-known/mercure>; rel=\"mercure\""
            ]
        );
        assert_eq!(get("/mercure/books/a%22%3E").status(), 404);
    }
}
