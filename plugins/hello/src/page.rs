//! `/protocol` for a person: the same facts, with the reason why one is missing.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Response, header};

use crate::Facts;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const CONTENT: &str = include_str!("page/page.html");

/// The page but for its facts, and the policy under which it can do just what it does.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = CONTENT.replace("{style}", STYLE).replace("{script}", SCRIPT);
    let source = |text: &str| format!("sha256-{}", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    );
    (page, policy)
});

pub(crate) fn page(facts: &Facts) -> Result<Response, Error> {
    let (page, policy) = &*PAGE;
    // In an element of its own kind, where nothing but `</script` could end it: `<` is not needed.
    let facts = serde_json::to_string(facts)?.replace('<', "\\u003c");
    Response::html(page.replace("{facts}", &facts))
        .with_header(header::CONTENT_SECURITY_POLICY, policy.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::block_on;

    #[test]
    fn facts_cannot_end_their_element() {
        let sni = Some("</script><b>".to_owned());
        let facts = Facts { language: "Rust", sni, ..Facts::default() };

        let mut response = page(&facts).unwrap();

        let page = block_on(response.body_mut().text(1 << 20)).unwrap();
        assert!(page.contains("\\u003c/script>\\u003cb>"), "{page}");
        assert!(!page.contains("{facts}") && !page.contains("style=\""), "{page}");
        let policy = response.header("content-security-policy").unwrap();
        for text in [STYLE, SCRIPT] {
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(page.contains(text) && policy.contains(&hash), "{policy}");
        }
    }
}
