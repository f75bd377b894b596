//! Conditional requests (RFC 9110 §13): what a request asks of a representation, and whether it holds.
//!
//! Pure, and general: file replies, static folders and the cache decide by it. [`Wanted`] keeps the few
//! fields that matter of a request whose header map goes to the plugin; [`evaluate`] applies them in
//! the order of §13.2.2.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method};

/// The fields that choose among representations and their parts.
const FIELDS: [HeaderName; 7] = [
    ACCEPT_ENCODING,
    RANGE,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_RANGE,
    IF_MATCH,
    IF_UNMODIFIED_SINCE,
];

/// What of a request decides which representation, and how much of it, the answer carries.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The method.
    pub method: Method,
    /// Nothing is allocated where the request has none of them.
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Wanted {
    /// What the client asked for. Values are shared, not copied.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let mut fields = Vec::new();
        for name in FIELDS {
            if headers.contains_key(&name) {
                let values = headers.get_all(&name).iter();
                fields.extend(values.map(|value| (name.clone(), value.clone())));
            }
        }
        Self { method: method.clone(), fields }
    }

    /// The values of one of the fields, in order.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value)
    }

    /// Whether the method reads.
    fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// Whether it has none of the fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether it has neither a condition nor a range.
    pub(super) fn is_plain(&self) -> bool {
        self.fields.iter().all(|(field, _)| field == ACCEPT_ENCODING)
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.values(name).next().is_some()
    }

    /// The only value, if it is an HTTP date. §13.1.3: anything else is ignored.
    fn date(&self, name: &HeaderName) -> Option<SystemTime> {
        let mut values = self.values(name);
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        httpdate::parse_http_date(value.to_str().ok()?).ok()
    }
}

/// What tells versions of a representation apart (§8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `etag` as it is sent.
    pub etag: Option<HeaderValue>,
    /// `last-modified`; parts of a second do not count.
    pub modified: Option<SystemTime>,
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They hold: the method is performed.
    Proceed {
        /// `Range` is to be looked at: it is there, the method is GET, and `If-Range` holds.
        ranges: bool,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Decides in the order of §13.2.2. `current` is the selected representation, if there is one; `now`
/// is when the answer is made.
pub fn evaluate(wanted: &Wanted, current: Option<&Validators>, now: SystemTime) -> Decision {
    if wanted.fields.is_empty() {
        return Decision::Proceed { ranges: false };
    }
    let etag = current.and_then(|current| current.etag.as_ref());
    let modified = current.and_then(|current| current.modified).map(whole_seconds);
    // Steps 1 and 2.
    if wanted.has(&IF_MATCH) {
        let matches = matches_any(wanted.values(&IF_MATCH), current.is_some(), etag, strongly);
        if !matches {
            return Decision::PreconditionFailed;
        }
    } else if let (Some(date), Some(modified)) = (wanted.date(&IF_UNMODIFIED_SINCE), modified)
        && modified > date
    {
        return Decision::PreconditionFailed;
    }
    // Steps 3 and 4.
    if wanted.has(&IF_NONE_MATCH) {
        if matches_any(wanted.values(&IF_NONE_MATCH), current.is_some(), etag, weakly) {
            return if wanted.reads() {
                Decision::NotModified
            } else {
                Decision::PreconditionFailed
            };
        }
    } else if wanted.reads()
        && let (Some(date), Some(modified)) = (wanted.date(&IF_MODIFIED_SINCE), modified)
        && modified <= date
    {
        return Decision::NotModified;
    }
    // Step 5. §14.2: `Range` means something for GET only.
    let ranges = wanted.method == Method::GET
        && wanted.has(&RANGE)
        && (!wanted.has(&IF_RANGE) || range_holds(wanted, etag, modified, now));
    Decision::Proceed { ranges }
}

/// Whether `If-Range` holds (§13.1.5).
fn range_holds(
    wanted: &Wanted,
    etag: Option<&HeaderValue>,
    modified: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    let mut values = wanted.values(&IF_RANGE);
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes().trim_ascii();
    if let Some((tag, b"")) = EntityTag::parse(value) {
        return etag.and_then(EntityTag::of).is_some_and(|etag| strongly(tag, etag));
    }
    let date = std::str::from_utf8(value).ok().and_then(|v| httpdate::parse_http_date(v).ok());
    let (Some(date), Some(modified)) = (date, modified) else { return false };
    // §8.8.2.2: a date is a strong validator only where it is clear that nothing was changed again
    // in the same second.
    date == modified && is_settled(modified, now)
}

/// Whether a date of modification is a strong validator by now (§8.8.2.2).
pub fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).is_ok_and(|age| age >= STRONG_DATE_AGE)
}

/// How old a modification must be for its date to tell versions apart.
const STRONG_DATE_AGE: Duration = Duration::from_secs(2);

/// Dates on the wire have no parts of a second.
pub fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// An entity tag (§8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Marked with `W/`.
    pub weak: bool,
    /// What is between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// The tag that a whole field value is.
    pub fn of(value: &'a HeaderValue) -> Option<Self> {
        match Self::parse(value.as_bytes().trim_ascii()) {
            Some((tag, b"")) => Some(tag),
            _ => None,
        }
    }

    /// The tag at the beginning, and what follows it.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // §8.8.3: the mark is case-sensitive.
        let (weak, rest) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|&byte| byte == b'"')?;
        let (opaque, rest) = (&rest[..end], &rest[end + 1..]);
        let fits = |&byte: &u8| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80;
        opaque.iter().all(fits).then_some((Self { weak, opaque }, rest))
    }
}

/// §8.8.3.2.
fn strongly(a: EntityTag<'_>, b: EntityTag<'_>) -> bool {
    !a.weak && !b.weak && a.opaque == b.opaque
}

/// §8.8.3.2.
fn weakly(a: EntityTag<'_>, b: EntityTag<'_>) -> bool {
    a.opaque == b.opaque
}

/// Whether `*` stands for something that is there, or one of the listed tags is `etag`. What follows
/// something that is no tag does not count.
fn matches_any<'a>(
    values: impl Iterator<Item = &'a HeaderValue>,
    exists: bool,
    etag: Option<&HeaderValue>,
    same: fn(EntityTag<'_>, EntityTag<'_>) -> bool,
) -> bool {
    let etag = etag.and_then(EntityTag::of);
    for value in values {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return exists;
        }
        loop {
            while let [b',' | b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            let Some((tag, after)) = EntityTag::parse(rest) else { break };
            if etag.is_some_and(|etag| same(tag, etag)) {
                return true;
            }
            rest = after;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
    const BEFORE: &str = "Sat, 29 Oct 1994 19:43:30 GMT";
    const AFTER: &str = "Sat, 29 Oct 1994 19:43:32 GMT";

    fn wanted(method: &str, fields: &[(&str, &str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Wanted::of(&Method::from_bytes(method.as_bytes()).unwrap(), &headers)
    }

    fn validators(etag: &str, modified: &str) -> Validators {
        Validators {
            etag: (!etag.is_empty()).then(|| HeaderValue::from_str(etag).unwrap()),
            // A part of a second more than can be told.
            modified: httpdate::parse_http_date(modified)
                .ok()
                .map(|date| date + Duration::from_millis(700)),
        }
    }

    const GO: Decision = Decision::Proceed { ranges: false };
    const SAME: Decision = Decision::NotModified;
    const FAILED: Decision = Decision::PreconditionFailed;

    type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], Decision);

    #[test]
    fn conditions_decide_as_rfc_9110_says() {
        let rows: &[Row] = &[
            ("no condition", "GET", &[], GO),
            ("§13.1.1 the tag is there", "PUT", &[("if-match", "\"b\", \"a\"")], GO),
            ("§13.1.1 it is not", "PUT", &[("if-match", "\"b\"")], FAILED),
            ("§13.1.1 also for GET", "GET", &[("if-match", "\"b\"")], FAILED),
            ("§13.1.1 any", "PUT", &[("if-match", "*")], GO),
            ("§13.1.1 strong comparison", "PUT", &[("if-match", "W/\"a\"")], FAILED),
            ("§13.1.1 over two lines", "PUT", &[("if-match", "\"b\""), ("if-match", "\"a\"")], GO),
            ("§13.1.1 no tag at all", "PUT", &[("if-match", "a")], FAILED),
            ("§13.1.2 the tag is there", "GET", &[("if-none-match", "\"x\", \"a\"")], SAME),
            ("§13.1.2 for HEAD", "HEAD", &[("if-none-match", "\"a\"")], SAME),
            ("§13.1.2 for others", "PUT", &[("if-none-match", "\"a\"")], FAILED),
            ("§13.1.2 weak comparison", "GET", &[("if-none-match", "W/\"a\"")], SAME),
            ("§13.1.2 another", "GET", &[("if-none-match", "\"b\"")], GO),
            ("§13.1.2 any", "GET", &[("if-none-match", "*")], SAME),
            ("§13.1.2 any, to write", "PUT", &[("if-none-match", "*")], FAILED),
            ("§8.8.3 a comma in a tag", "GET", &[("if-none-match", "\"x,\", \"a\"")], SAME),
            ("§8.8.3 W is a capital", "GET", &[("if-none-match", "w/\"a\"")], GO),
            ("§8.8.3 no quotes", "GET", &[("if-none-match", "a")], GO),
            ("§8.8.3 no end", "GET", &[("if-none-match", "\"a")], GO),
            ("§5.6.1 empty elements", "GET", &[("if-none-match", ",, \"a\",")], SAME),
            ("§13.1.3 not since", "GET", &[("if-modified-since", DATE)], SAME),
            ("§13.1.3 since", "GET", &[("if-modified-since", BEFORE)], GO),
            ("§13.1.3 a later date", "GET", &[("if-modified-since", AFTER)], SAME),
            ("§13.1.3 no date", "GET", &[("if-modified-since", "yesterday")], GO),
            (
                "§13.1.3 twice",
                "GET",
                &[("if-modified-since", DATE), ("if-modified-since", DATE)],
                GO,
            ),
            ("§13.1.3 not for others", "POST", &[("if-modified-since", DATE)], GO),
            (
                "§5.6.7 RFC 850",
                "GET",
                &[("if-modified-since", "Saturday, 29-Oct-94 19:43:31 GMT")],
                SAME,
            ),
            ("§5.6.7 asctime", "GET", &[("if-modified-since", "Sat Oct 29 19:43:31 1994")], SAME),
            ("§13.1.4 not since", "PUT", &[("if-unmodified-since", DATE)], GO),
            ("§13.1.4 since", "PUT", &[("if-unmodified-since", BEFORE)], FAILED),
            ("§13.1.4 no date", "PUT", &[("if-unmodified-since", "never")], GO),
            (
                "§13.2.2 If-Match over If-Unmodified-Since",
                "GET",
                &[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)],
                GO,
            ),
            (
                "§13.2.2 If-None-Match over If-Modified-Since",
                "GET",
                &[("if-none-match", "\"b\""), ("if-modified-since", DATE)],
                GO,
            ),
            (
                "§13.2.2 412 before 304",
                "GET",
                &[("if-match", "\"b\""), ("if-none-match", "\"a\"")],
                FAILED,
            ),
            (
                "§13.2.2 If-Match holds, then 304",
                "GET",
                &[("if-match", "\"a\""), ("if-none-match", "\"a\"")],
                SAME,
            ),
            (
                "§13.2.2 304 before ranges",
                "GET",
                &[("if-none-match", "\"a\""), ("range", "bytes=0-1")],
                SAME,
            ),
        ];
        for (clause, method, fields, expected) in rows {
            let current = validators("\"a\"", DATE);

            let decision = evaluate(&wanted(method, fields), Some(&current), SystemTime::now());

            assert_eq!(decision, *expected, "{clause}: {method} {fields:?}");
        }
    }

    #[test]
    fn what_is_not_there_matches_nothing() {
        let absent: &[Row] = &[
            ("§13.1.1", "PUT", &[("if-match", "*")], FAILED),
            ("§13.1.1", "PUT", &[("if-match", "\"a\"")], FAILED),
            ("§13.1.2", "PUT", &[("if-none-match", "*")], GO),
            ("§13.1.3 no date to compare", "GET", &[("if-modified-since", DATE)], GO),
            ("§13.1.4 no date to compare", "PUT", &[("if-unmodified-since", DATE)], GO),
        ];
        for (clause, method, fields, expected) in absent {
            let decision = evaluate(&wanted(method, fields), None, SystemTime::now());

            assert_eq!(decision, *expected, "{clause}: {method} {fields:?}");
        }
        let untagged = validators("", "");
        for (value, expected) in [("*", SAME), ("\"a\"", GO)] {
            let wanted = wanted("GET", &[("if-none-match", value)]);
            assert_eq!(evaluate(&wanted, Some(&untagged), SystemTime::now()), expected, "{value}");
        }
    }

    #[test]
    fn if_range_holds_for_exactly_this_version() {
        for (clause, etag, value, ranges) in [
            ("§13.1.5 the tag", "\"a\"", "\"a\"", true),
            ("§13.1.5 another tag", "\"a\"", "\"b\"", false),
            ("§13.1.5 a weak tag", "\"a\"", "W/\"a\"", false),
            ("§13.1.5 ours is weak", "W/\"a\"", "\"a\"", false),
            ("§13.1.5 both are weak", "W/\"a\"", "W/\"a\"", false),
            ("§13.1.5 no list", "\"a\"", "\"a\", \"b\"", false),
            ("§13.1.5 no star", "\"a\"", "*", false),
            ("§13.1.5 the date", "\"a\"", DATE, true),
            ("§13.1.5 an earlier date", "\"a\"", BEFORE, false),
            ("§13.1.5 a later date: exact, not since", "\"a\"", AFTER, false),
            ("§13.1.5 neither", "\"a\"", "what", false),
        ] {
            let wanted = wanted("GET", &[("range", "bytes=0-1"), ("if-range", value)]);

            let decision = evaluate(&wanted, Some(&validators(etag, DATE)), SystemTime::now());

            assert_eq!(decision, Decision::Proceed { ranges }, "{clause}: {value}");
        }
    }

    #[test]
    fn a_date_of_this_very_second_is_a_weak_validator() {
        let modified = httpdate::parse_http_date(DATE).unwrap();
        let current = Validators { etag: None, modified: Some(modified) };
        let wanted = wanted("GET", &[("range", "bytes=0-1"), ("if-range", DATE)]);

        for (age, ranges) in [(0, false), (1, false), (2, true)] {
            let now = modified + Duration::from_secs(age);
            let decision = evaluate(&wanted, Some(&current), now);
            assert_eq!(decision, Decision::Proceed { ranges }, "{age} s old");
        }
    }

    #[test]
    fn range_counts_for_get_alone() {
        // §14.2.
        for (method, ranges) in [("GET", true), ("HEAD", false), ("POST", false), ("PUT", false)] {
            let wanted = wanted(method, &[("range", "bytes=0-1")]);
            let decision = evaluate(&wanted, Some(&validators("\"a\"", DATE)), SystemTime::now());
            assert_eq!(decision, Decision::Proceed { ranges }, "{method}");
        }
    }

    #[test]
    fn nothing_is_kept_of_a_request_that_asks_for_nothing() {
        let wanted = wanted("GET", &[("accept", "*/*"), ("user-agent", "x")]);

        assert_eq!(wanted.fields.capacity(), 0);
    }
}
