//! The pages: metrics as charts, a user's notifications, the order ticker.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Request, Response, header};

const STYLE: &str = include_str!("page/page.css");

/// A page, and the policy under which it can do just what it does.
struct Page {
    content: String,
    policy: String,
}

impl Page {
    fn new(content: &str, script: &str) -> Self {
        let content = content.replace("{style}", STYLE).replace("{script}", script);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(STYLE),
            source(script)
        );
        Self { content, policy }
    }

    fn response(&self) -> Result<Response, Error> {
        Response::html(self.content.as_str())
            .with_header(header::CONTENT_SECURITY_POLICY, self.policy.as_str())?
            .with_header(header::CACHE_CONTROL, "no-cache")
    }
}

static LIVE: LazyLock<Page> =
    LazyLock::new(|| Page::new(include_str!("page/live.html"), include_str!("page/live.js")));
static NOTIFICATIONS: LazyLock<Page> = LazyLock::new(|| {
    Page::new(include_str!("page/notifications.html"), include_str!("page/notifications.js"))
});
static ORDERS: LazyLock<Page> =
    LazyLock::new(|| Page::new(include_str!("page/orders.html"), include_str!("page/orders.js")));

pub(crate) async fn live(_: Request) -> Result<Response, Error> {
    LIVE.response()
}

pub(crate) async fn notifications(_: Request) -> Result<Response, Error> {
    NOTIFICATIONS.response()
}

pub(crate) async fn orders(_: Request) -> Result<Response, Error> {
    ORDERS.response()
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
    fn policies_have_the_hashes_of_what_is_inline() {
        for path in ["/live", "/notifications", "/orders"] {
            let mut response = answer(Method::GET, path, ());
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
    }
}
