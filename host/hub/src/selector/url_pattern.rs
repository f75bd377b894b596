//! URL patterns (WHATWG URL Pattern) as selectors.
//!
//! Untrusted clients write them. The crate `urlpattern` follows the standard's text; what a pattern may
//! cost is bounded here: regular expressions run on an engine without backtracking, a compiled one has at
//! most [`MAX_PROGRAM_BYTES`], and nothing is kept between patterns.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use url::Url;
use urlpattern::matcher::{InnerMatcher, Matcher};
use urlpattern::regexp::RegExp;
use urlpattern::{RegexSyntax, UrlPatternInit};

use super::SelectorError;
use crate::topic::Topic;

/// Bytes of the program that the regular expression of one component compiles to, at the most: room for
/// about a hundred characters of groups. At worst a topic of 1,024 bytes takes it three milliseconds.
const MAX_PROGRAM_BYTES: usize = 8 * 1024;

/// Bytes that the lazily built automaton of one component may take.
const MAX_AUTOMATON_BYTES: usize = 64 * 1024;

/// How deep groups of a regular expression nest, at the most.
const MAX_NESTING: u32 = 16;

/// A URL pattern, and the URL that relative patterns and relative topics are resolved against.
///
/// It is written as a pattern string, or as a pattern string, a space and a base URL (the two arguments of
/// the constructor in JavaScript). A space within a pattern is written `%20`, as the standard writes it
/// back. Without a base URL a pattern is absolute and topics that are no URLs are not matched.
///
/// Groups follow the syntax of the crate `regex` and see ASCII, which is all that a URL holds: without
/// look-around, back references and classes by Unicode property.
#[derive(Debug)]
pub struct UrlPattern {
    text: Topic,
    base: Option<Url>,
    /// Those that do not match everything.
    components: Vec<(Component, Matcher<Linear>)>,
}

/// What a URL consists of.
#[derive(Clone, Copy, Debug)]
enum Component {
    Protocol,
    Username,
    Password,
    Hostname,
    Port,
    Pathname,
    Search,
    Hash,
}

impl UrlPattern {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, or that it compiles to too much.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let named = Topic::parse(text)?;
        let (pattern, base) = match text.split_once(' ') {
            Some((pattern, base)) => (pattern, Some(parse_base(base)?)),
            None => (text, None),
        };
        let parsed = compile(pattern, base.clone())?;
        let mut components = vec![
            // The cheapest and the most telling first.
            (Component::Hostname, parsed.hostname.matcher),
            (Component::Pathname, parsed.pathname.matcher),
            (Component::Protocol, parsed.protocol.matcher),
            (Component::Port, parsed.port.matcher),
            (Component::Search, parsed.search.matcher),
            (Component::Hash, parsed.hash.matcher),
            (Component::Username, parsed.username.matcher),
            (Component::Password, parsed.password.matcher),
        ];
        components.retain(|(_, matcher)| !matches_everything(matcher));
        if !components.iter().all(|(_, matcher)| can_run(matcher)) {
            return Err(invalid(
                "a group is no regular expression that can be run, or too large a one",
            ));
        }
        Ok(Self { text: named, base, components })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// Whether a topic is among those. What is no URL is not, not even the very string.
    pub fn matches(&self, topic: &str) -> bool {
        let url = match &self.base {
            Some(base) => base.join(topic),
            None => Url::parse(topic),
        };
        url.is_ok_and(|url| {
            self.components
                .iter()
                .all(|(component, matcher)| matcher.matches(component.of(&url)).is_some())
        })
    }
}

impl Component {
    fn of(self, url: &Url) -> &str {
        // The standard compares without the characters that set a component off from the others.
        match self {
            Self::Protocol => url.scheme(),
            Self::Username => url.username(),
            Self::Password => url.password().unwrap_or_default(),
            Self::Hostname => url.host_str().unwrap_or_default(),
            Self::Port => url::quirks::port(url),
            Self::Pathname => url.path(),
            Self::Search => url.query().unwrap_or_default(),
            Self::Hash => url.fragment().unwrap_or_default(),
        }
    }
}

/// A regular expression that takes linear time, and a bounded one.
///
/// The crate makes one for every component and mostly matches without it; so it is compiled when it is
/// asked, which [`UrlPattern::parse`] does for those that are needed.
#[derive(Debug)]
struct Linear {
    pattern: String,
    program: OnceLock<Option<Regex>>,
}

impl Linear {
    /// None where it is no regular expression, or too large.
    fn program(&self) -> Option<&Regex> {
        let compile = || {
            // Components of URLs are ASCII: without Unicode `[^/]` is one range of bytes and not a program
            // of its own, and `\d` and `\w` are what they are in JavaScript.
            RegexBuilder::new(&self.pattern)
                .unicode(false)
                .size_limit(MAX_PROGRAM_BYTES)
                .dfa_size_limit(MAX_AUTOMATON_BYTES)
                .nest_limit(MAX_NESTING)
                .build()
                .ok()
        };
        self.program.get_or_init(compile).as_ref()
    }
}

impl RegExp for Linear {
    fn syntax() -> RegexSyntax {
        RegexSyntax::Rust
    }

    fn parse(pattern: &str, _flags: &str, _force_eval: bool) -> Result<Self, ()> {
        Ok(Self { pattern: pattern.to_owned(), program: OnceLock::new() })
    }

    /// Without the captures, which nobody asks for.
    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        self.program()?.is_match(text.as_bytes()).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.pattern
    }
}

fn matches_everything(matcher: &Matcher<Linear>) -> bool {
    matcher.prefix.is_empty()
        && matcher.suffix.is_empty()
        && matches!(matcher.inner, InnerMatcher::SingleCapture { filter: None, allow_empty: true })
}

fn can_run(matcher: &Matcher<Linear>) -> bool {
    match &matcher.inner {
        InnerMatcher::RegExp { regexp } => regexp.as_ref().is_ok_and(|it| it.program().is_some()),
        InnerMatcher::Literal { .. } | InnerMatcher::SingleCapture { .. } => true,
    }
}

fn compile(
    pattern: &str,
    base: Option<Url>,
) -> Result<urlpattern::UrlPattern<Linear>, SelectorError> {
    // `https://a]` makes the crate count below zero, which builds with overflow checks answer with a panic;
    // the text is none of ours, so a fault in reading it is its refusal and not the reader's end.
    let parsed = std::panic::catch_unwind(|| {
        let init = UrlPatternInit::parse_constructor_string::<Linear>(pattern, base)?;
        urlpattern::UrlPattern::parse(init, urlpattern::UrlPatternOptions::default())
    });
    parsed.map_err(|_| invalid("its syntax"))?.map_err(|error| {
        // The crate's own messages name its states; these say what the writer of the pattern can do.
        invalid(match error {
            urlpattern::Error::BaseUrlRequired => "a relative pattern needs a base URL",
            _ => "its syntax",
        })
    })
}

fn parse_base(text: &str) -> Result<Url, SelectorError> {
    Url::parse(text)
        .ok()
        .filter(|url| !url.cannot_be_a_base())
        .ok_or_else(|| invalid("what follows the space is no base URL; a space is written %20"))
}

fn invalid(cause: &str) -> SelectorError {
    SelectorError::Syntax { kind: "URL pattern", cause: cause.to_owned() }
}

#[cfg(test)]
#[path = "url_pattern_tests.rs"]
mod tests;
