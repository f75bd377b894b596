//! `/app` and `/dashboard`: the hints (and pushes) at once, the page when it is ready.

use std::time::Duration;

use wharf_sdk::exchange::{Exchange, HintError, PushError, PushOptions};
#[cfg(target_family = "wasm")]
use wharf_sdk::sleep;
use wharf_sdk::{Error, Method, Request, Response, header};

use crate::asset::{APP_SCRIPT, APP_STYLE, Asset, DASHBOARD_SCRIPT, DASHBOARD_STYLE, FONT};

/// What the pages' data take to come, in milliseconds: a database would be as slow.
const DEFAULT_WAIT: u64 = 400;
const MAX_WAIT: u64 = 10_000;

/// Its own files, and the empty icon that saves a request for /favicon.ico.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; font-src 'self'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

struct Page {
    content: &'static str,
    assets: [&'static Asset; 3],
}

static APP: Page =
    Page { content: include_str!("page/app.html"), assets: [&APP_STYLE, &APP_SCRIPT, &FONT] };

static DASHBOARD: Page = Page {
    content: include_str!("page/dashboard.html"),
    assets: [&DASHBOARD_STYLE, &DASHBOARD_SCRIPT, &FONT],
};

pub(crate) async fn app(request: Request) -> Result<Response, Error> {
    APP.answer(&request).await
}

pub(crate) async fn dashboard(request: Request) -> Result<Response, Error> {
    DASHBOARD.answer(&request).await
}

impl Page {
    async fn answer(&self, request: &Request) -> Result<Response, Error> {
        let wait = wait(request)?;
        let exchange = request.exchange();
        // To HEAD the head is all there is: there is nothing to fetch meanwhile.
        if request.method() != Method::HEAD {
            if let Some(exchange) = &exchange {
                self.announce(exchange);
            }
            sleep(wait).await;
        }
        let mut response = Response::html(self.render(wait, exchange.as_ref()))
            .with_header(header::CONTENT_SECURITY_POLICY, POLICY)?
            .with_header(header::CACHE_CONTROL, "no-cache")?;
        for asset in self.assets {
            response.headers_mut().append(header::LINK, asset.link().try_into()?);
        }
        Ok(response)
    }

    /// Tells the client of the assets before there is a page, and gives them to one that takes pushes.
    fn announce(&self, exchange: &Exchange) {
        let links = self.assets.map(Asset::link);
        match exchange.early_hints(&links.each_ref().map(String::as_str)) {
            // A client that may not cope sees the links with the page.
            Ok(()) | Err(HintError::Unsupported) => {}
            Err(why) => eprintln!("no early hints: {why:?}"),
        }
        for asset in self.assets {
            let options = PushOptions::default().header(header::ACCEPT, asset.accept());
            match exchange.push(asset.path, &options) {
                Ok(()) => {}
                // Most clients take none, and then not of the others either.
                Err(PushError::Unsupported) => break,
                Err(why) => eprintln!("{} is not pushed: {why:?}", asset.path),
            }
        }
    }

    fn render(&self, wait: Duration, exchange: Option<&Exchange>) -> String {
        let protocol = exchange
            .map_or("no known protocol", |exchange| exchange.connection().protocol.as_str());
        self.content
            .replace("{wait}", &wait.as_millis().to_string())
            .replace("{protocol}", protocol)
            .replace("{numbers}", &numbers(exchange))
    }
}

fn wait(request: &Request) -> Result<Duration, Error> {
    match request.parse_query("wait")?.unwrap_or(DEFAULT_WAIT) {
        wait @ 0..=MAX_WAIT => Ok(Duration::from_millis(wait)),
        wait => Err(Error::bad_request(format!(
            "query parameter \"wait\": {wait} is more than {MAX_WAIT} milliseconds"
        ))),
    }
}

/// What the host counts, as a list of descriptions.
fn numbers(exchange: Option<&Exchange>) -> String {
    let Some(exchange) = exchange else { return String::new() };
    let states = states();
    let connection = exchange.connection();
    [
        ("connections accepted", states.0),
        ("serving a request", states.1),
        ("idle", states.2),
        ("closed", states.3),
        ("requests on this connection", connection.requests),
    ]
    .iter()
    .map(|(name, number)| format!("<div><dd>{number}</dd><dt>{name}</dt></div>\n"))
    .collect()
}

/// Connections of the server: new, active, idle, closed.
#[cfg(target_family = "wasm")]
fn states() -> (u64, u64, u64, u64) {
    let states = wharf_sdk::exchange::connection_states();
    (states.new, states.active, states.idle, states.closed)
}

#[cfg(not(target_family = "wasm"))]
fn states() -> (u64, u64, u64, u64) {
    (0, 0, 0, 0)
}

/// Tests have no host, and nothing to wait for.
#[cfg(not(target_family = "wasm"))]
async fn sleep(_: Duration) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, block_on};

    #[test]
    fn pages_name_their_assets_in_link_fields() {
        for (path, style, script) in [
            ("/app", "/css/critical.css", "/js/app.js"),
            ("/dashboard", "/style.css", "/script.js"),
        ] {
            let mut response = answer(Method::GET, path, &[]);

            let links: Vec<&str> =
                response.headers().get_all("link").iter().map(|v| v.to_str().unwrap()).collect();
            let expected = [
                format!("<{style}>; rel=preload; as=style"),
                format!("<{script}>; rel=preload; as=script"),
                "</fonts/main.woff2>; rel=preload; as=font; type=\"font/woff2\"; crossorigin"
                    .to_owned(),
            ];
            assert_eq!(links, expected);
            let page = block_on(response.body_mut().text(1 << 20)).unwrap();
            assert!(page.contains(&format!("href=\"{style}\"")), "{page}");
            assert!(page.contains(&format!("src=\"{script}\"")), "{page}");
            assert!(!page.contains('{'), "{page}");
        }
    }

    #[test]
    fn waits_that_are_none_are_400() {
        for wait in ["", "x", "-1", "10001", "1e3"] {
            let response = answer(Method::GET, &format!("/app?wait={wait}"), &[]);

            assert_eq!(response.status(), 400, "{wait}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
        assert_eq!(answer(Method::GET, "/app?wait=10000", &[]).status(), 200);
    }
}
