//! Cache directives of responses and requests (RFC 9111 §5.2), parsed once a message.
//!
//! `Cache-Control` is read by its own grammar, leniently and always to the safe side: what is invalid
//! or contradicts itself counts as stale (§4.2.1), what grants something must be well-formed. Targeted
//! fields (RFC 9213) are structured fields: a parsing error anywhere, and the field is not there.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

use self::directives::{Argument, Directives};
use crate::date::{delta_seconds, http_date};

mod directives;
mod targeted;

/// For this cache alone; taken off before the client sees it.
pub const WHARF_CACHE_CONTROL: HeaderName = HeaderName::from_static("wharf-cache-control");
/// For the caches of content delivery networks, this one among them (RFC 9213 §3); it travels on.
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// More field names in one `no-cache` or `private` count as none: the directive then means everything.
pub const MAX_QUALIFIED_FIELDS: usize = 32;

/// A directive that means the whole response, or the fields that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Qualified {
    /// It is not there.
    #[default]
    Absent,
    /// Everything.
    Whole,
    /// Only these fields.
    Fields(Box<[HeaderName]>),
}

impl Qualified {
    /// Whether it means the whole response.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The fields that it means, if it does not mean everything.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => &[],
        }
    }

    /// One more of the kind: the more restrictive prevails.
    fn add(&mut self, other: Self) {
        let sum = match (std::mem::take(self), other) {
            (Self::Absent, other) | (other, Self::Absent) => other,
            (Self::Fields(one), Self::Fields(other))
                if one.len() + other.len() <= MAX_QUALIFIED_FIELDS =>
            {
                Self::Fields(one.into_iter().chain(other).collect())
            }
            _ => Self::Whole,
        };
        *self = sum;
    }

    /// The list in an argument; one that is empty, too long or no list of names means everything.
    fn of_list(list: &[u8]) -> Self {
        let names: Option<Vec<_>> = list
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .map(|name| HeaderName::from_bytes(name).ok())
            .take(MAX_QUALIFIED_FIELDS + 1)
            .collect();
        match names {
            Some(names) if (1..=MAX_QUALIFIED_FIELDS).contains(&names.len()) => {
                Self::Fields(names.into())
            }
            _ => Self::Whole,
        }
    }
}

/// The directives of a response (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
///
/// A lifetime that was given twice with two values, or is no number, is zero: §4.2.1 lets a cache take
/// the first or call the response stale, and stale is what cannot be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, with field names or without.
    pub no_cache: Qualified,
    /// `private`, with field names or without.
    pub private: Qualified,
    /// `public`; not where it has an argument.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`; not where it has an argument.
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `immutable`.
    pub immutable: bool,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads the `Cache-Control` of a response, and nothing else.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::parse(headers.get_all(CACHE_CONTROL))
    }

    /// Reads the lines of one `Cache-Control` field.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut control = Self::default();
        for line in lines {
            for directive in Directives::new(line.as_bytes()) {
                control.add(directive.name, &directive.argument);
            }
        }
        control
    }

    /// Whether the response may be stored and used for others although it answers a request with
    /// `Authorization` (RFC 9111 §3.5).
    pub fn allows_authorized(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    /// Whether it must not be used stale, whatever else is said (§4.2.4). `s-maxage` implies
    /// `proxy-revalidate` (§5.2.2.10).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage.is_some()
            || self.no_cache.is_whole()
    }

    fn add(&mut self, name: &[u8], argument: &Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let granted = matches!(argument, Argument::None);
        if is("max-age") {
            add_lifetime(&mut self.max_age, argument);
        } else if is("s-maxage") {
            add_lifetime(&mut self.s_maxage, argument);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache.add(qualified(argument));
        } else if is("private") {
            self.private.add(qualified(argument));
        } else if is("public") {
            self.public |= granted;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand |= granted;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if is("immutable") {
            self.immutable |= granted;
        } else if is("stale-while-revalidate") {
            add_lifetime(&mut self.stale_while_revalidate, argument);
        } else if is("stale-if-error") {
            add_lifetime(&mut self.stale_if_error, argument);
        }
    }
}

/// Where the directives that count for this cache were said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `Wharf-Cache-Control`.
    Wharf,
    /// `CDN-Cache-Control`.
    Cdn,
    /// `Cache-Control`, and `Expires` with it.
    CacheControl,
    /// Only `Expires`.
    Expires,
    /// Nowhere.
    #[default]
    None,
}

impl Source {
    /// Whether `Cache-Control` and `Expires` do not count (RFC 9213 §2.2).
    pub fn is_targeted(self) -> bool {
        matches!(self, Self::Wharf | Self::Cdn)
    }
}

/// What the response says to this cache: the first field of `Wharf-Cache-Control`, `CDN-Cache-Control`
/// and `Cache-Control` that is there and can be used (RFC 9213 §2.2).
pub fn effective(headers: &HeaderMap) -> (Source, CacheControl) {
    for (source, name) in [(Source::Wharf, WHARF_CACHE_CONTROL), (Source::Cdn, CDN_CACHE_CONTROL)] {
        if let Some(control) = targeted::parse(headers.get_all(name)) {
            return (source, control);
        }
    }
    let source = if headers.contains_key(CACHE_CONTROL) {
        Source::CacheControl
    } else if headers.contains_key(EXPIRES) {
        Source::Expires
    } else {
        Source::None
    };
    (source, CacheControl::of(headers))
}

/// The directives of a request (RFC 9111 §5.2.1, RFC 5861 §4).
///
/// Of two values the stricter counts; one that is no number is zero for `max-age` and is not there for
/// what loosens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `max-stale`; [`Duration::MAX`] where no limit was given.
    pub max_stale: Option<Duration>,
    /// `min-fresh`.
    pub min_fresh: Option<Duration>,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control` (§5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `stale-if-error`.
    pub stale_if_error: Option<Duration>,
}

impl RequestControl {
    /// Reads the directives of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        if headers.contains_key(CACHE_CONTROL) {
            for line in headers.get_all(CACHE_CONTROL) {
                for directive in Directives::new(line.as_bytes()) {
                    control.add(directive.name, &directive.argument);
                }
            }
        } else if headers.contains_key(PRAGMA) {
            let mut lines = headers.get_all(PRAGMA).iter();
            control.no_cache = lines.any(|line| {
                Directives::new(line.as_bytes())
                    .any(|directive| directive.name.eq_ignore_ascii_case(b"no-cache"))
            });
        }
        control
    }

    fn add(&mut self, name: &[u8], argument: &Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            keep(&mut self.max_age, Some(seconds(argument).unwrap_or_default()), Duration::min);
        } else if is("max-stale") {
            let limit = match argument {
                Argument::None => Some(Duration::MAX),
                argument => seconds(argument),
            };
            keep(&mut self.max_stale, limit, Duration::min);
        } else if is("min-fresh") {
            keep(&mut self.min_fresh, seconds(argument), Duration::max);
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if is("stale-if-error") {
            keep(&mut self.stale_if_error, seconds(argument), Duration::min);
        }
    }
}

/// `Age` (RFC 9111 §5.1): the first member of the first line; none where that is no number.
pub fn age(headers: &HeaderMap) -> Option<Duration> {
    let first = headers.get(AGE)?.as_bytes().split(|byte| *byte == b',').next()?;
    delta_seconds(first.trim_ascii())
}

/// `Date` (RFC 9110 §6.6.1), if it is one.
pub fn date(headers: &HeaderMap) -> Option<std::time::SystemTime> {
    http_date(headers.get(DATE)?)
}

/// `Expires` (RFC 9111 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// A date; of several the earliest.
    At(std::time::SystemTime),
    /// No date, `0` for example: expired already.
    Invalid,
}

/// Reads `Expires`; one of several that is no date makes all invalid.
pub fn expires(headers: &HeaderMap) -> Option<Expires> {
    let mut earliest = None;
    for line in headers.get_all(EXPIRES) {
        let Some(at) = http_date(line) else { return Some(Expires::Invalid) };
        earliest = Some(earliest.map_or(at, |known| at.min(known)));
    }
    earliest.map(Expires::At)
}

fn qualified(argument: &Argument<'_>) -> Qualified {
    match argument {
        Argument::None | Argument::Invalid => Qualified::Whole,
        Argument::Value(value) => Qualified::of_list(value),
    }
}

fn seconds(argument: &Argument<'_>) -> Option<Duration> {
    match argument {
        Argument::Value(value) => delta_seconds(value),
        Argument::None | Argument::Invalid => None,
    }
}

fn add_lifetime(lifetime: &mut Option<Duration>, argument: &Argument<'_>) {
    let more = seconds(argument).unwrap_or_default();
    *lifetime = match *lifetime {
        Some(known) if known != more => Some(Duration::ZERO),
        _ => Some(more),
    };
}

fn keep(
    known: &mut Option<Duration>,
    more: Option<Duration>,
    stricter: fn(Duration, Duration) -> Duration,
) {
    if let Some(more) = more {
        *known = Some(known.map_or(more, |known| stricter(known, more)));
    }
}
