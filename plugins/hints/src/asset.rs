//! The files that the pages name: a style and a script each, and the font that they share.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Handler, HeaderMap, HeaderValue, Request, Response, StatusCode, header};

/// One file, compiled in.
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    content_type: &'static str,
    /// The parameters of its link. A font is fetched without credentials, always: a preload that is
    /// not `crossorigin` would be for another request than the style's, and thrown away.
    link: &'static str,
    /// What a browser that asks for such a file accepts.
    accept: &'static str,
    content: &'static [u8],
    etag: LazyLock<String>,
}

pub(crate) static APP_STYLE: Asset = Asset {
    path: "/css/critical.css",
    content_type: "text/css; charset=utf-8",
    link: "as=style",
    accept: "text/css,*/*;q=0.1",
    content: include_bytes!("assets/critical.css"),
    etag: LazyLock::new(|| etag(include_bytes!("assets/critical.css"))),
};

pub(crate) static APP_SCRIPT: Asset = Asset {
    path: "/js/app.js",
    content_type: "text/javascript; charset=utf-8",
    link: "as=script",
    accept: "*/*",
    content: include_bytes!("assets/app.js"),
    etag: LazyLock::new(|| etag(include_bytes!("assets/app.js"))),
};

pub(crate) static DASHBOARD_STYLE: Asset = Asset {
    path: "/style.css",
    content_type: "text/css; charset=utf-8",
    link: "as=style",
    accept: "text/css,*/*;q=0.1",
    content: include_bytes!("assets/style.css"),
    etag: LazyLock::new(|| etag(include_bytes!("assets/style.css"))),
};

pub(crate) static DASHBOARD_SCRIPT: Asset = Asset {
    path: "/script.js",
    content_type: "text/javascript; charset=utf-8",
    link: "as=script",
    accept: "*/*",
    content: include_bytes!("assets/script.js"),
    etag: LazyLock::new(|| etag(include_bytes!("assets/script.js"))),
};

/// Space Grotesk, bold, Latin (© The Space Grotesk Project Authors, SIL Open Font License 1.1).
pub(crate) static FONT: Asset = Asset {
    path: "/fonts/main.woff2",
    content_type: "font/woff2",
    link: "as=font; type=\"font/woff2\"; crossorigin",
    accept: "*/*",
    content: include_bytes!("assets/main.woff2"),
    etag: LazyLock::new(|| etag(include_bytes!("assets/main.woff2"))),
};

pub(crate) static ALL: [&Asset; 5] =
    [&APP_STYLE, &APP_SCRIPT, &DASHBOARD_STYLE, &DASHBOARD_SCRIPT, &FONT];

/// A browser asks again after an hour, and then gets 304 as long as the content is the same.
const CACHE_CONTROL: &str = "public, max-age=3600";

impl Asset {
    /// The value of a `Link` field that has a browser fetch it (RFC 8288, HTML §4.6.7.20).
    pub(crate) fn link(&self) -> String {
        format!("<{}>; rel=preload; {}", self.path, self.link)
    }

    /// The `Accept` of the request whose answer is pushed.
    pub(crate) fn accept(&self) -> HeaderValue {
        HeaderValue::from_static(self.accept)
    }

    fn answer(&self, headers: &HeaderMap) -> Result<Response, Error> {
        let response = if is_known(headers, &self.etag) {
            Response::new(()).with_status(StatusCode::NOT_MODIFIED)
        } else {
            Response::new(self.content).with_header(header::CONTENT_TYPE, self.content_type)?
        };
        response
            .with_header(header::CACHE_CONTROL, CACHE_CONTROL)?
            .with_header(header::ETAG, self.etag.as_str())
    }
}

/// What answers for `asset`.
pub(crate) fn handler(asset: &'static Asset) -> impl Handler {
    async move |request: Request| asset.answer(request.headers())
}

/// A strong one: the same bytes have the same, whatever was built when.
fn etag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let text: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{text}\"")
}

/// Whether `If-None-Match` names the entity tag (RFC 9110 §13.1.2, weak comparison).
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // No tag of ours has a comma in it.
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, block_on};

    #[test]
    fn every_asset_has_its_type_tag_and_lifetime() {
        for (path, content_type) in [
            ("/css/critical.css", "text/css; charset=utf-8"),
            ("/style.css", "text/css; charset=utf-8"),
            ("/js/app.js", "text/javascript; charset=utf-8"),
            ("/script.js", "text/javascript; charset=utf-8"),
            ("/fonts/main.woff2", "font/woff2"),
        ] {
            let mut response = answer(Method::GET, path, &[]);

            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.header("content-type"), Some(content_type), "{path}");
            assert_eq!(response.header("cache-control"), Some("public, max-age=3600"), "{path}");
            assert_eq!(response.header("etag").map(str::len), Some(18), "{path}");
            assert!(!block_on(response.body_mut().bytes(1 << 20)).unwrap().is_empty(), "{path}");
        }
    }

    #[test]
    fn who_has_the_content_gets_304() {
        let etag = answer(Method::GET, "/js/app.js", &[]).header("etag").unwrap().to_owned();

        for (tags, status) in [
            (etag.clone(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (etag.trim_matches('"').to_owned(), 200),
        ] {
            let response = answer(Method::GET, "/js/app.js", &[("if-none-match", &tags)]);

            assert_eq!(response.status(), status, "{tags}");
            assert_eq!(response.header("etag"), Some(etag.as_str()));
        }
    }

    #[test]
    fn font_is_woff2() {
        assert!(FONT.content.starts_with(b"wOF2"));
    }
}
