//! What histories are made of: few paths, few fields, and many ways to write them, so that requests meet.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::literal::{Ask, Fields, Reply, Rules, TARGETED, values};

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

const METHODS: [&str; 12] =
    ["GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "BREW"];
const PATHS: [&str; 9] =
    ["/a", "/a", "/a", "/b", "/a?q", "/a?utm_x=1&q", "/a?utm_x=1", "/b?x=1&x", "/a?"];
const REQUEST_DIRECTIVES: [&str; 16] = [
    "no-cache",
    "no-store",
    "only-if-cached",
    "max-age=10",
    "max-age=0",
    "max-age=x",
    "Max-Age=\"30\"",
    "min-fresh=5",
    "min-fresh=100000",
    "min-fresh=-1",
    "max-stale",
    "max-stale=5",
    "max-stale=99999999999",
    "stale-if-error=20",
    "stale-if-error=x",
    "foo=\"no-cache, no-store\"",
];
const FOOS: [&str; 6] = ["1", "2", "1,2", " 1 , 2 ", "\"1, 2\"", ""];
const CODINGS: [&str; 8] = [
    "gzip, br",
    "br,GZIP",
    "gzip;q=0.5, br",
    "br ,gzip;q=0.50",
    "gzip, br, zstd;q=0",
    "gzip, *, br;q=0",
    "identity;q=0, gzip",
    "",
];
const LANGUAGES: [&str; 5] = ["en, de", "DE,en", "de;q=0.8, en", "en , de; q=0.800", "fr;q=0"];
const DIRECTIVES: [&str; 34] = [
    "max-age=60",
    "max-age=60",
    "max-age=60",
    "max-age=5",
    "max-age=5",
    "max-age=0",
    "MAX-AGE=\"60\"",
    "max-age=x",
    "max-age =60",
    "max-age= 60",
    "max-age",
    "max-age=99999999999999999999",
    "s-maxage=30",
    "s-maxage=0",
    "public",
    "public",
    "public=1",
    "private",
    "private=\"b, set-cookie\"",
    "private=\"\"",
    "no-store",
    "no-cache",
    "no-cache=\"B\"",
    "no-cache=\"set-cookie\"",
    "no-cache=\"b",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate=20",
    "stale-while-revalidate=x",
    "stale-if-error=30",
    "ext=\"a\\\", no-store\"",
    "no-transform",
];
const STATUSES: [u16; 22] = [
    200, 200, 200, 200, 200, 200, 200, 200, 200, 204, 206, 299, 301, 302, 404, 404, 410, 412, 416,
    500, 503, 599,
];
const AGES: [&str; 8] = ["0", "10", "100", "x", "-5", "5, 100", "3.5", "99999999999999"];
const VARIES: [&str; 9] = [
    "foo",
    "Foo",
    "foo, bar",
    "bar",
    "accept-encoding",
    "Accept-Language",
    "accept-encoding,foo",
    "*",
    "foo, *",
];
const TAGS: [&str; 4] = ["\"a\"", "\"b\"", "W/\"a\"", "W/\"b\""];
/// `Location`, and the path that it names on this origin.
pub(crate) const LOCATIONS: [(&str, Option<&str>); 8] = [
    ("/b", Some("/b")),
    ("b", Some("/b")),
    ("https://example.com/b", Some("/b")),
    ("https://EXAMPLE.com:443/a?q", Some("/a?q")),
    ("//example.com./a", Some("/a")),
    ("https://example.net/b", None),
    ("http://example.com/b", None),
    ("mailto:b", None),
];

pub(crate) fn rules(dice: &mut Dice) -> Rules {
    let policies = [
        "public, max-age=3600",
        "private, max-age=300",
        "no-cache, max-age=30",
        "no-store, no-cache",
    ];
    Rules {
        deaf: dice.chance(15),
        heuristic: dice.chance(20),
        errors: if dice.chance(20) { 10 } else { 0 },
        while_revalidating: if dice.chance(15) { 10 } else { 0 },
        if_error: if dice.chance(20) { 15 } else { 0 },
        cookies: dice.pick(&["explicit", "explicit", "refuse", "store"]),
        policy: dice.chance(6).then(|| dice.pick(&policies)),
        default: dice.chance(20).then(|| dice.pick(&policies)),
    }
}

fn add(fields: &mut Fields, name: &str, value: &str) {
    fields.push((name.to_owned(), value.to_owned()));
}

fn directives(dice: &mut Dice, of: &[&str], fields: &mut Fields) {
    for _ in 0..1 + usize::from(dice.chance(10)) {
        let mut line = Vec::new();
        for _ in 0..1 + dice.roll(3) {
            line.push(dice.pick(of));
        }
        // What does not end swallows what follows, so it stands last.
        let is_open = |directive: &&str| directive.matches('"').count() == 1;
        line.sort_by_key(is_open);
        while line.len() > 1 && is_open(&line[line.len() - 2]) {
            line.pop();
        }
        let separator = dice.pick(&[", ", ",", " , ,"]);
        add(fields, "cache-control", &line.join(separator));
    }
}

pub(crate) fn ask(dice: &mut Dice) -> Ask {
    let mut fields = Vec::new();
    if dice.chance(25) {
        directives(dice, &REQUEST_DIRECTIVES, &mut fields);
    }
    if dice.chance(5) {
        add(&mut fields, "pragma", dice.pick(&["no-cache", "x, No-Cache", "x"]));
    }
    if dice.chance(40) {
        add(&mut fields, "foo", dice.pick(&FOOS).trim());
        if dice.chance(15) {
            add(&mut fields, "foo", dice.pick(&FOOS).trim());
        }
    }
    if dice.chance(30) {
        add(&mut fields, "accept-encoding", dice.pick(&CODINGS));
    }
    if dice.chance(30) {
        add(&mut fields, "accept-language", dice.pick(&LANGUAGES));
    }
    for (name, value, percent) in [
        ("bar", "1", 15),
        ("x-tenant", "1", 10),
        ("authorization", "Basic x", 8),
        ("cookie", "a=b", 8),
        ("x-http-method-override", "PUT", 2),
        ("x-original-url", "/c", 2),
    ] {
        if dice.chance(percent) {
            add(&mut fields, name, value);
        }
    }
    Ask {
        method: dice.pick(&METHODS).to_owned(),
        path: dice.pick(&PATHS).to_owned(),
        fields,
        body: dice.chance(2),
    }
}

/// A reply at a time; one to a validation has mostly the validators that are known.
pub(crate) fn reply(
    dice: &mut Dice,
    now: i64,
    dates: &mut HashMap<String, i64>,
    validated: Option<&Fields>,
) -> Reply {
    let mut fields = Vec::new();
    let mut date = |seconds: i64| {
        let at = (now / 1000 + seconds) * 1000;
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(at.unsigned_abs());
        let text = httpdate::fmt_http_date(time);
        dates.insert(text.clone(), at);
        text
    };
    if dice.chance(if validated.is_some() { 40 } else { 85 }) {
        directives(dice, &DIRECTIVES, &mut fields);
    }
    if dice.chance(20) {
        for _ in 0..1 + usize::from(dice.chance(10)) {
            let text = match dice.roll(5) {
                0 => "0".to_owned(),
                1 => date(-10),
                2 => date(5),
                _ => date(60),
            };
            add(&mut fields, "expires", &text);
        }
    }
    if dice.chance(40) {
        let text = match dice.roll(8) {
            0 => "soon".to_owned(),
            1 => date(-30),
            2 => date(20),
            3 => date(-3),
            _ => date(0),
        };
        add(&mut fields, "date", &text);
    }
    if dice.chance(12) {
        add(&mut fields, "age", dice.pick(&AGES));
        if dice.chance(20) {
            add(&mut fields, "age", "7");
        }
    }
    if dice.chance(25) {
        add(&mut fields, "vary", dice.pick(&VARIES));
    }
    match validated {
        Some(known) if dice.chance(85) => {
            for name in ["etag", "last-modified"] {
                if let Some(value) = values(known, name).first()
                    && dice.chance(70)
                {
                    add(&mut fields, name, value);
                }
            }
        }
        _ => {
            if dice.chance(45) {
                add(&mut fields, "etag", dice.pick(&TAGS));
            }
            if dice.chance(30) {
                let text = if dice.chance(10) { "then".to_owned() } else { date(-1000) };
                add(&mut fields, "last-modified", &text);
            }
        }
    }
    for (name, value, percent) in [
        ("a", "1", 20),
        ("b", "1", 20),
        ("b", "2", 20),
        ("connection", "a", 5),
        ("connection", "close, B", 5),
        ("proxy-authenticate", "x", 3),
        ("set-cookie", "a=b", 8),
        ("content-encoding", "gzip", 5),
        ("content-length", "5", 20),
        ("content-length", "6", 3),
        ("transfer-encoding", "chunked", 3),
        ("content-range", "bytes 0-4/5", 2),
        ("surrogate-key", "one two", 5),
        ("pragma", "no-cache", 3),
    ] {
        if dice.chance(percent) {
            add(&mut fields, name, value);
        }
    }
    if dice.chance(8) {
        add(&mut fields, "cdn-cache-control", dice.pick(&TARGETED).0);
    }
    if dice.chance(8) {
        add(&mut fields, "wharf-cache-control", dice.pick(&TARGETED).0);
    }
    if dice.chance(25) {
        add(&mut fields, "location", dice.pick(&LOCATIONS).0);
    }
    Reply { status: dice.pick(&STATUSES), fields }
}

pub(crate) fn headers(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}
