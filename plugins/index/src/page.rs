//! The page. Everything that a manifest says is escaped; nothing is loaded, nothing runs.

use std::fmt::{self, Display, Write};

use wharf_sdk::registry::Endpoint;

const STYLE: &str = include_str!("style.css");

/// SHA-256 of [`STYLE`], in base64; a test tells the right value after a change.
const STYLE_HASH: &str = "yZo/tJp7WSCUHJrtx1VzpwkJ553cnUR+VTNuB2n7jDA=";

/// The page's content security policy: its own style and nothing else.
pub(crate) fn policy() -> String {
    format!(
        "default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
}

/// Renders `endpoints`, which are ordered by plugin.
pub(crate) fn render(endpoints: &[Endpoint]) -> String {
    let mut sections = String::new();
    let mut plugins = 0;
    for group in endpoints.chunk_by(|a, b| a.plugin == b.plugin) {
        plugins += 1;
        sections.push_str(&section(group));
    }
    let endpoints = counted(endpoints.len(), "endpoint");
    let plugins = counted(plugins, "plugin");
    // The empty icon saves a request for /favicon.ico.
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>Wharf: {endpoints}</title>\n\
         <style>{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         <main>\n\
         <header><h1>Wharf</h1><p>{endpoints} of {plugins}, as they are served now</p></header>\n\
         <div class=\"plugins\">\n\
         {sections}\
         </div>\n\
         <footer>The same list as JSON: <code>curl -H 'accept: application/json'</code></footer>\n\
         </main>\n\
         </body>\n\
         </html>\n"
    )
}

fn section(endpoints: &[Endpoint]) -> String {
    let mut items = String::new();
    for endpoint in endpoints {
        items.push_str(&item(endpoint));
    }
    let name = Escaped(&endpoints[0].plugin);
    let version = &endpoints[0].version;
    let short: String = version.chars().take(8).collect();
    format!(
        "<section>\n<h2>{name} <code title=\"version {}\">{}</code></h2>\n<ul>\n{items}</ul>\n\
         </section>\n",
        Escaped(version),
        Escaped(&short)
    )
}

fn item(endpoint: &Endpoint) -> String {
    let (class, method) = match endpoint.method.as_deref() {
        None => ("any", "any"),
        Some(method @ "GET") => ("get", method),
        Some(method @ "POST") => ("post", method),
        Some(method @ "PUT") => ("put", method),
        Some(method @ "PATCH") => ("patch", method),
        Some(method @ "DELETE") => ("delete", method),
        Some(method) => ("other", method),
    };
    let path = Path(&endpoint.path);
    let text = match endpoint.host.as_deref() {
        Some(host) => format!("<code><em>{}</em>{path}</code>", Escaped(host)),
        None => format!("<code>{path}</code>"),
    };
    let text = if can_be_followed(endpoint) {
        format!("<a href=\"{}\">{text}</a>", Escaped(&endpoint.path))
    } else {
        text
    };
    format!("<li><b class=\"{class}\">{}</b> {text}</li>\n", Escaped(method))
}

/// A plain path on this host that answers GET. `//x` would lead to another host.
fn can_be_followed(endpoint: &Endpoint) -> bool {
    matches!(endpoint.method.as_deref(), None | Some("GET"))
        && endpoint.host.is_none()
        && endpoint.path.starts_with('/')
        && !endpoint.path.starts_with("//")
        && !endpoint.path.contains(['{', '*', '\\'])
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Text with HTML's five special characters replaced, for content and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A path pattern with its variable parts set off.
struct Path<'a>(&'a str);

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.split('/').enumerate() {
            if i > 0 {
                f.write_char('/')?;
            }
            if segment.starts_with('{') || segment == "*" {
                write!(f, "<em>{}</em>", Escaped(segment))?;
            } else {
                write!(f, "{}", Escaped(segment))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    fn endpoint(plugin: &str, method: Option<&str>, path: &str) -> Endpoint {
        Endpoint {
            plugin: plugin.into(),
            version: "0123456789abcdef".into(),
            method: method.map(Into::into),
            host: None,
            path: path.into(),
        }
    }

    #[test]
    fn policy_has_the_hash_of_the_style() {
        assert_eq!(STYLE_HASH, STANDARD.encode(Sha256::digest(STYLE)));
    }

    #[test]
    fn plain_get_routes_are_links() {
        let page = render(&[
            endpoint("a", Some("GET"), "/protocol"),
            endpoint("a", None, "/all"),
            endpoint("a", Some("POST"), "/echo"),
            endpoint("a", Some("GET"), "/posts/{id}"),
            endpoint("a", Some("GET"), "//elsewhere.example/"),
        ]);

        assert!(page.contains("<a href=\"/protocol\">"), "{page}");
        assert!(page.contains("<a href=\"/all\">"), "{page}");
        assert_eq!(page.matches("<a ").count(), 2, "{page}");
        assert!(page.contains("5 endpoints of 1 plugin,"), "{page}");
    }

    #[test]
    fn everything_from_a_manifest_is_escaped() {
        let evil = "<script>\"'&";
        let page = render(&[Endpoint {
            plugin: evil.into(),
            version: evil.into(),
            method: Some(evil.into()),
            host: Some(evil.into()),
            path: format!("/{evil}"),
        }]);

        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("/&lt;script&gt;&quot;&#39;&amp;"), "{page}");
    }

    #[test]
    fn plugins_have_a_section_each() {
        let page = render(&[endpoint("a", None, "/"), endpoint("b", None, "/b/*")]);

        assert_eq!(page.matches("<section>").count(), 2);
        assert!(page.contains("/b/<em>*</em>"), "{page}");
    }
}
