//! The pages that show the streams to a person: they load nothing but them.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Request, Response, header};

const STYLE: &str = include_str!("page/page.css");
/// What the scripts of both pages begin with.
const SHARED: &str = include_str!("page/shared.js");

static STREAMING: LazyLock<Page> = LazyLock::new(|| {
    Page::new(include_str!("page/page.html"), SHARED, include_str!("page/page.js"))
});
static PROGRESS: LazyLock<Page> = LazyLock::new(|| {
    Page::new(include_str!("page/progress.html"), SHARED, include_str!("page/progress.js"))
});

pub(crate) async fn streaming(_: Request) -> Result<Response, Error> {
    STREAMING.response()
}

pub(crate) async fn progress(_: Request) -> Result<Response, Error> {
    PROGRESS.response()
}

/// A page, and the policy under which it can do just what it does.
struct Page {
    content: String,
    policy: String,
}

impl Page {
    fn new(content: &str, shared: &str, script: &str) -> Self {
        let script = format!("\"use strict\";\n\n{shared}\n{script}");
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(STYLE),
            source(&script)
        );
        Self { content: content.replace("{style}", STYLE).replace("{script}", &script), policy }
    }

    fn response(&self) -> Result<Response, Error> {
        Response::html(self.content.as_str())
            .with_header(header::CONTENT_SECURITY_POLICY, self.policy.as_str())?
            .with_header(header::CACHE_CONTROL, "no-cache")
    }
}

/// The hash source of an inline element (CSP level 3, §2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, pieces};

    #[test]
    fn policies_have_the_hashes_of_what_is_inline() {
        for path in ["/streaming", "/progress"] {
            let response = answer(Method::GET, path, ());
            let policy = response.header("content-security-policy").unwrap().to_owned();
            let page = pieces(response).concat();

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
