//! A plugin's static folder: served by its manifest alone (`[static] "/assets" = "public"`).
//!
//! Which file a path names is decided here, and nothing else: what is sent of it is
//! [`FileReply`]'s. Paths are decoded once; whatever would not be a plain, visible file below the folder
//! is not there.

use std::path::PathBuf;

use http::header::{CACHE_CONTROL, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};

use super::{Links, OpenError};
use crate::http::condition::Wanted;
use crate::http::disposition::{content_type, is_compressible};
use crate::http::file_body::Readers;
use crate::http::file_reply::{FileReply, Source};
use crate::http::rejection::Rejection;

/// What a path that ends in a slash stands for.
const INDEX: &str = "index.html";
/// What is served: `allow` of the 405 to everything else.
const METHODS: &str = "GET, HEAD";
/// Stored by caches, and asked for again each time, which costs a 304: a changed file shows at once.
const FRESHNESS: HeaderValue = HeaderValue::from_static("no-cache");

/// A folder whose files are served below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFolder {
    /// The folder, absolute and free of links when the manifest was read.
    pub root: PathBuf,
    /// What is stripped of paths before the mount: that of a plugin without routes, else empty.
    pub prefix: String,
    /// Where it is served, `/assets`; empty for `/`.
    pub mount: String,
}

/// What a path comes to.
#[derive(Debug)]
pub enum Found {
    /// A file, and the fields that it is sent with.
    File(Box<Response<FileReply>>),
    /// A folder that is named without its slash.
    Elsewhere(Response<()>),
}

impl StaticFolder {
    /// Finds what `path` (without the prefix) stands for.
    ///
    /// # Errors
    /// 404 where there is no such file, 405 for all methods but GET and HEAD.
    pub async fn find(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        wanted: &Wanted,
        readers: Readers,
    ) -> Result<Found, Rejection> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Rejection::MethodNotAllowed { allow: METHODS.to_owned() });
        }
        let rest = path.strip_prefix(&self.mount).ok_or(Rejection::NotFound)?;
        if rest.is_empty() {
            return self.elsewhere(path, query);
        }
        let file = plain_path(rest).ok_or(Rejection::NotFound)?;
        let content_type = content_type(&file);
        let source = Source {
            folder: self.root.clone(),
            links: Links::Beneath,
            precompressed: is_compressible(&content_type),
            content_type: Some(content_type),
            disposition: None,
            deletion: None,
            path: file,
        };
        match source.open(wanted, readers).await {
            Ok(reply) => {
                let mut response = Response::new(reply);
                let headers = response.headers_mut();
                headers.insert(CACHE_CONTROL, FRESHNESS);
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                Ok(Found::File(Box::new(response)))
            }
            Err(OpenError::Folder) if !rest.ends_with('/') => self.elsewhere(path, query),
            Err(OpenError::Io(error)) => {
                let folder = self.root.display().to_string();
                tracing::warn!(folder, path, %error, "a static file cannot be read");
                Err(Rejection::NotFound)
            }
            Err(_) => Err(Rejection::NotFound),
        }
    }

    /// The same path with a slash, so that relative links in its page lead into it.
    fn elsewhere(&self, path: &str, query: Option<&str>) -> Result<Found, Rejection> {
        let mut location = format!("{}{path}/", self.prefix);
        if let Some(query) = query {
            location.push('?');
            location.push_str(query);
        }
        let location = HeaderValue::try_from(location).map_err(|_| Rejection::NotFound)?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        response.headers_mut().insert(LOCATION, location);
        response.headers_mut().insert(CACHE_CONTROL, FRESHNESS);
        Ok(Found::Elsewhere(response))
    }
}

/// The file that a path below the mount names. `None` where a segment is empty, hidden (which `.` and
/// `..` are), or not what it seems: with a separator, a control or a malformed escape in it.
fn plain_path(path: &str) -> Option<String> {
    let mut file = String::with_capacity(path.len() + INDEX.len());
    let mut segments = path.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            file.push_str(INDEX);
            break;
        }
        let name = decode(segment)?;
        let refused = |c: char| matches!(c, '/' | '\\') || c.is_control();
        if name.is_empty() || name.starts_with('.') || name.contains(refused) {
            return None;
        }
        file.push_str(&name);
        if segments.peek().is_some() {
            file.push('/');
        }
    }
    Some(file)
}

/// Percent-decodes once (RFC 3986 §2.1).
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_plain_files() {
        for (path, file) in [
            ("/", "index.html"),
            ("/a.js", "a.js"),
            ("/sub/a.js", "sub/a.js"),
            ("/sub/", "sub/index.html"),
            ("/a%20b.js", "a b.js"),
            ("/n%C3%B6.js", "n\u{f6}.js"),
            ("/a..b", "a..b"),
            // Decoded once: the name that it then is.
            ("/%252e%252e", "%2e%2e"),
            ("/a;b=1", "a;b=1"),
        ] {
            assert_eq!(plain_path(path).as_deref(), Some(file), "{path}");
        }
    }

    #[test]
    fn traversal_and_hidden_files_are_not_there_in_any_spelling() {
        for path in [
            "",
            "x",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/./a",
            "/%2e",
            "/%2e%2e",
            "/%2E%2e/a",
            "/.%2e/a",
            "/%2e./a",
            "/..%2fa",
            "/a%2fb",
            "/a%2Fb",
            "/%2fetc",
            "/a%5cb",
            "/a\\b",
            "/..\\a",
            "/%5c..%5ca",
            "/a%00",
            "/%00",
            "/a%00.js",
            "/a%0d%0a",
            "/a%7f",
            "/%c2%85",
            "/.env",
            "/.git/config",
            "/a/.hidden",
            "/%2egit",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/%ff",
            "/%c0%ae%c0%ae/a",
            "/%e0%80%ae",
            "/a/%2e%2e/%2e%2e/b",
        ] {
            assert_eq!(plain_path(path), None, "{path}");
        }
    }
}
