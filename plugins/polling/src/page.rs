//! The page: a board that everybody paints on, kept together by long polls.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Request, Response, header};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const CONTENT: &str = include_str!("page/page.html");

/// The page, and the policy under which it can do just what it does.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = CONTENT.replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    );
    (page, policy)
});

pub(crate) async fn polling(_: Request) -> Result<Response, Error> {
    let (page, policy) = &*PAGE;
    Response::html(page.as_str())
        .with_header(header::CONTENT_SECURITY_POLICY, policy.as_str())?
        .with_header(header::CACHE_CONTROL, "no-cache")
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
    fn policy_has_the_hashes_of_what_is_inline() {
        let mut response = answer(Method::GET, "/polling", ());
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
