//! Routes: pattern syntax, specificity, and the immutable table that a request is matched against.
//!
//! A pattern is `[METHOD ][host]/path`. A path segment is a literal, `{name}` for any one segment,
//! or, at the end, `*` for whatever follows (at least the slash before it). The raw path is matched,
//! byte for byte: nothing is normalised that the plugin would not see.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::files::folder::StaticFolder;
use crate::plugin::Plugin;

/// One route as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As written, for labels and messages.
    pub text: Arc<str>,
    /// `None`: any method.
    pub method: Option<Method>,
    /// `None`: any host. Lower case, without a port.
    pub host: Option<String>,
    /// The path as written.
    pub path: String,
    segments: Vec<Segment>,
    /// Ends in `*`.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    Parameter,
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// No path, or one that does not begin with a slash.
    #[error("the path must begin with `/`: write `[METHOD ][host]/path`")]
    Path,
    /// The method is not one in upper case.
    #[error("`{0}` is not a method: write it in upper case, before one space")]
    Method(String),
    /// The host is not a host name.
    #[error("`{0}` is not a host name")]
    Host(String),
    /// Braces that do not enclose one whole segment.
    #[error("`{0}`: a parameter is a whole segment, as in `/posts/{{id}}`")]
    Parameter(String),
    /// A `*` that is not the last segment.
    #[error("`*` can only be the last segment")]
    Wildcard,
    /// Characters that no request target has.
    #[error("the path has a space, `?`, `#` or a character that must be percent-encoded")]
    Character,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (method, rest) = match text.split_once(' ') {
            None => (None, text),
            Some((method, rest)) => {
                let known = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
                let parsed = Method::from_bytes(method.as_bytes()).ok().filter(|_| known);
                (Some(parsed.ok_or_else(|| PatternError::Method(method.to_owned()))?), rest.trim())
            }
        };
        let slash = rest.find('/').ok_or(PatternError::Path)?;
        let (host, path) = rest.split_at(slash);
        let host = (!host.is_empty()).then(|| host.to_ascii_lowercase());
        if let Some(host) = &host {
            let fits =
                |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'[' | b']' | b':');
            if !host.bytes().all(fits) || host.parse::<http::uri::Authority>().is_err() {
                return Err(PatternError::Host(host.clone()));
            }
        }
        if path.bytes().any(|b| !(0x21..0x7f).contains(&b) || matches!(b, b'?' | b'#')) {
            return Err(PatternError::Character);
        }
        let mut segments = Vec::new();
        let mut open = false;
        for segment in path[1..].split('/') {
            if open {
                return Err(PatternError::Wildcard);
            }
            if segment == "*" {
                open = true;
            } else if segment.contains('*') {
                return Err(PatternError::Wildcard);
            } else if segment.starts_with('{') && segment.ends_with('}') && segment.len() > 2 {
                segments.push(Segment::Parameter);
            } else if segment.contains(['{', '}']) {
                return Err(PatternError::Parameter(segment.to_owned()));
            } else {
                segments.push(Segment::Literal(segment.to_owned()));
            }
        }
        Ok(Self { text: text.into(), method, host, path: path.to_owned(), segments, open })
    }

    /// Whether two patterns claim the same requests with the same precision: parameter names do not
    /// tell them apart.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.method == other.method
            && self.host == other.host
            && self.segments == other.segments
            && self.open == other.open
    }

    /// Whether a request is one of those that the pattern names. `host` is without its port.
    pub fn covers(&self, method: &Method, host: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|named| allows(named, method))
            && self.host.as_deref().is_none_or(|named| named == host)
            && self.matches(path)
    }

    /// Whether some request is one of those that both patterns name.
    pub fn overlaps(&self, other: &Self) -> bool {
        let methods = match (&self.method, &other.method) {
            (Some(a), Some(b)) => allows(a, b) || allows(b, a),
            _ => true,
        };
        let hosts = match (&self.host, &other.host) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let mut pairs = self.segments.iter().zip(&other.segments);
        let paths = pairs.all(|pair| match pair {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Literal(literal), Segment::Parameter)
            | (Segment::Parameter, Segment::Literal(literal)) => !literal.is_empty(),
            (Segment::Parameter, Segment::Parameter) => true,
        });
        let ends = match self.segments.len().cmp(&other.segments.len()) {
            std::cmp::Ordering::Less => self.open,
            std::cmp::Ordering::Greater => other.open,
            // The slash before the `*` has to be there, too.
            std::cmp::Ordering::Equal => self.open == other.open,
        };
        methods && hosts && paths && ends
    }

    fn literal_path(&self) -> bool {
        !self.open && self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                match rest.strip_prefix('/') {
                    Some(after) => rest = after,
                    None => return false,
                }
            }
            let end = rest.find('/').unwrap_or(rest.len());
            let (first, after) = rest.split_at(end);
            let fits = match segment {
                Segment::Literal(literal) => literal == first,
                Segment::Parameter => !first.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        match (self.open, self.segments.is_empty()) {
            (false, _) => rest.is_empty(),
            (true, true) => true,
            (true, false) => rest.starts_with('/'),
        }
    }

    /// Orders patterns: greater is more specific. Host over none, then literal over parameter over
    /// `*` from left to right, then a method over none.
    pub(crate) fn rank(&self) -> (bool, Vec<u8>, bool) {
        let mut shape: Vec<u8> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 3,
                Segment::Parameter => 2,
            })
            .collect();
        // The end of the path is more precise than `*` and less than another segment, which only
        // longer paths have.
        shape.push(if self.open { 0 } else { 1 });
        (self.host.is_some(), shape, self.method.is_some())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The plugin that answers.
    pub plugin: Arc<Plugin>,
    /// The plugins that wrap it, outermost first, and itself unless the folder answers: all as they
    /// were published with this table.
    pub chain: Arc<[Arc<Plugin>]>,
    /// Its static folder, which answers in its place.
    pub folder: Option<Arc<StaticFolder>>,
    /// The pattern that matched, as written.
    pub pattern: Arc<str>,
    /// What cached answers are kept under.
    pub space: Arc<str>,
}

/// The outcome of a look-up.
#[derive(Debug)]
pub enum Routed<'a> {
    /// A route matched.
    Found(&'a RouteMatch),
    /// The path is served, but not with this method.
    MethodNotAllowed {
        /// Value for `Allow`.
        allow: String,
    },
    /// Nothing matches the path.
    NotFound,
}

#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    route: RouteMatch,
}

/// Every route of every serving plugin; built aside and published whole.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Most specific first.
    entries: Vec<Entry>,
    /// Indexes of entries with a literal path, by path.
    literal: HashMap<String, Vec<usize>>,
    /// Indexes of the other entries by their first segment, where that is literal.
    patterned: HashMap<String, Vec<usize>>,
    /// Indexes of the rest.
    unanchored: Vec<usize>,
}

impl RouteTable {
    /// A table of `routes`.
    pub fn new(routes: impl IntoIterator<Item = (Pattern, RouteMatch)>) -> Self {
        let mut entries: Vec<Entry> =
            routes.into_iter().map(|(pattern, route)| Entry { pattern, route }).collect();
        entries.sort_by_cached_key(|entry| std::cmp::Reverse(entry.pattern.rank()));
        let mut literal: HashMap<String, Vec<usize>> = HashMap::new();
        let mut patterned: HashMap<String, Vec<usize>> = HashMap::new();
        let mut unanchored = Vec::new();
        for (index, Entry { pattern, .. }) in entries.iter().enumerate() {
            if pattern.literal_path() {
                literal.entry(pattern.path.clone()).or_default().push(index);
            } else if let Some(Segment::Literal(first)) = pattern.segments.first() {
                patterned.entry(first.clone()).or_default().push(index);
            } else {
                unanchored.push(index);
            }
        }
        Self { entries, literal, patterned, unanchored }
    }

    /// What cached answers may be kept under, each once.
    pub fn spaces(&self) -> Vec<Arc<str>> {
        let mut spaces: Vec<_> =
            self.entries.iter().map(|it| Arc::clone(&it.route.space)).collect();
        spaces.sort_unstable();
        spaces.dedup();
        spaces
    }

    /// Finds the most specific route. `host` is the authority without its port, in lower case;
    /// routes for GET answer HEAD.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> Routed<'_> {
        let first = path.strip_prefix('/').unwrap_or(path);
        let first = first.split('/').next().unwrap_or_default();
        let literal = self.literal.get(path).map_or(&[][..], Vec::as_slice);
        let patterned = self.patterned.get(first).map_or(&[][..], Vec::as_slice);
        let mut best: Option<usize> = None;
        let mut allowed: Vec<&Method> = Vec::new();
        let mut consider = |index: usize| {
            let pattern = &self.entries[index].pattern;
            if best.is_some_and(|best| best <= index)
                || pattern.host.as_deref().is_some_and(|named| named != host)
            {
                return;
            }
            match &pattern.method {
                Some(named) if !allows(named, method) => allowed.push(named),
                _ => best = Some(index),
            }
        };
        for &index in literal {
            consider(index);
        }
        for &index in patterned.iter().chain(&self.unanchored) {
            if self.entries[index].pattern.matches(path) {
                consider(index);
            }
        }
        match best {
            Some(index) => Routed::Found(&self.entries[index].route),
            None if allowed.is_empty() => Routed::NotFound,
            None => Routed::MethodNotAllowed { allow: allow(&allowed) },
        }
    }

    /// Every route with its plugin, most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &RouteMatch)> {
        self.entries.iter().map(|entry| (&entry.pattern, &entry.route))
    }
}

fn allows(named: &Method, method: &Method) -> bool {
    named == method || (named == Method::GET && method == Method::HEAD)
}

fn allow(methods: &[&Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn patterns_overlap_where_one_request_fits_both() {
        for (a, b, overlap) in [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("GET /api/*", "/api/posts/{id}", true),
            ("GET /api/*", "POST /api/posts", false),
            ("HEAD /a", "GET /a", true),
            ("/posts/{id}", "/posts/*", true),
            ("/posts/{id}", "/posts/", false),
            ("/posts/{id}", "/posts/new", true),
            ("/posts/{id}/x", "/posts/{id}", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/*", true),
            ("/a/*", "/{x}/b/*", true),
            ("/a/*", "/b/*", false),
            ("a.test/x", "/x", true),
            ("a.test/x", "b.test/x", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), overlap, "{a} and {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), overlap, "{b} and {a}");
        }
    }

    #[test]
    fn patterns_match_the_raw_path() {
        for (text, path, matches) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/ab", false),
            ("/posts/{id}", "/posts/1", true),
            ("/posts/{id}", "/posts/", false),
            ("/posts/{id}", "/posts/1/2", false),
            ("/posts/{id}/x", "/posts/1/x", true),
            ("/a", "/%61", false),
            ("/a", "//a", false),
            ("/a", "/./a", false),
        ] {
            assert_eq!(pattern(text).matches(path), matches, "{text} against {path}");
        }
    }

    #[test]
    fn the_more_specific_pattern_ranks_higher() {
        for (more, less) in [
            ("/a/b", "/a/{x}"),
            ("/a/{x}", "/a/*"),
            ("/a/*", "/*"),
            ("/a", "/*"),
            ("/a/{x}/c", "/a/*"),
            ("host.example/*", "/a/b"),
            ("GET /a", "/a"),
            ("/a/b", "GET /a/{x}"),
        ] {
            assert!(pattern(more).rank() > pattern(less).rank(), "{more} over {less}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for (text, error) in [
            ("", PatternError::Path),
            ("a", PatternError::Path),
            ("get /a", PatternError::Method("get".to_owned())),
            ("/a/*/b", PatternError::Wildcard),
            ("/a*", PatternError::Wildcard),
            ("/a{b}", PatternError::Parameter("a{b}".to_owned())),
            ("/{}", PatternError::Parameter("{}".to_owned())),
            ("/a?b", PatternError::Character),
            ("ho st/a", PatternError::Method("ho".to_owned())),
            ("ho_st/a", PatternError::Host("ho_st".to_owned())),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn parameter_names_do_not_tell_routes_apart() {
        assert!(pattern("/a/{x}").conflicts(&pattern("/a/{y}")));
        assert!(!pattern("GET /a").conflicts(&pattern("POST /a")));
    }
}
