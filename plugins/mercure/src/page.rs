//! `/mercure`: a page to publish, to follow, and to see who is there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Request, Response, header};

use crate::settings::{DEMO_KEY, Settings};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page, and the policy under which it can do just what it does.
pub(crate) fn page(request: &Request, settings: &Settings) -> Result<Response, Error> {
    // Only the key that everybody knows: with another the visitor brings a token.
    let key = if settings.is_demo { DEMO_KEY } else { "" };
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    );
    let page = PAGE
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
        .replace("{key}", &escaped(key))
        .replace("{audience}", &escaped(settings.hub(request).as_str()))
        .replace("{issuer}", &escaped(settings.issuers.first().map_or("", String::as_str)));
    Response::html(page)
        .with_header(header::CONTENT_SECURITY_POLICY, policy)?
        .with_header(header::CACHE_CONTROL, "no-cache")
}

/// The hash source of an inline element (CSP level 3, §2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{block_on, request};

    fn text(changes: &[(&str, &str)]) -> (String, String) {
        let mut response =
            page(&request(Method::GET, "/mercure", &[], ""), &read(changes).unwrap()).unwrap();
        let policy = response.header("content-security-policy").unwrap().to_owned();
        (block_on(response.body_mut().text(1 << 20)).unwrap(), policy)
    }

    #[test]
    fn policy_has_the_hashes_of_what_is_inline() {
        let (page, policy) = text(&[]);

        for (name, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (_, rest) = page.split_once(&format!("<{name}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{name}>")).unwrap();
            assert!(policy.contains(&format!("{directive} '{}'", source(text))), "{name}");
            assert!(!rest.contains(&format!("<{name}")), "a second {name}");
        }
        assert!(!page.contains("style=\"") && !page.contains("onclick"));
    }

    #[test]
    fn only_the_key_that_everybody_knows_is_in_the_page() {
        assert!(text(&[]).0.contains(DEMO_KEY));
        assert!(
            !text(&[("key", "a secret of ours, of 32 bytes or more")]).0.contains("a secret of")
        );
        let issuer = text(&[("issuer", "https://a/\"><script>")]).0;
        assert!(issuer.contains("https://a/&quot;&gt;&lt;script&gt;"));
    }
}
