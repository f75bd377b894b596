//! Rows of the matrix: a request and its answer, a wait, a second request, and what happens to it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use wharf_cache::options::Heuristic;
use wharf_cache::{Decision, Options, Request, SetCookie, Stored, Times, decide, policy, storable};

/// One row; `matrix.txt` says how it is written.
pub(crate) struct Row<'a> {
    says: &'a str,
    first: &'a str,
    answer: &'a str,
    wait: u64,
    second: &'a str,
    pub(crate) expect: &'a str,
}

impl<'a> Row<'a> {
    pub(crate) fn parse(line: &'a str) -> Self {
        let cells: Vec<_> = line.split(" // ").collect();
        let [_, says, exchange, wait, second, expect] = cells[..] else { panic!("{line}") };
        let (first, answer) = exchange.split_once(" => ").unwrap();
        Self { says, first, answer, wait: wait.parse().unwrap(), second, expect }
    }
}

pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn after(seconds: u64) -> SystemTime {
    start() + Duration::from_secs(seconds)
}

pub(crate) fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(" | ").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim();
        let value = match value.strip_prefix('@') {
            Some(seconds) => {
                let seconds: i64 = seconds.parse().unwrap();
                let by = Duration::from_secs(seconds.unsigned_abs());
                let at = if seconds < 0 { start() - by } else { start() + by };
                httpdate::fmt_http_date(at)
            }
            None => value.to_owned(),
        };
        headers.append(
            HeaderName::from_bytes(name.trim().as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

/// `METHOD [body] | headers`.
pub(crate) struct Head {
    method: Method,
    has_body: bool,
    pub(crate) headers: HeaderMap,
}

impl Head {
    pub(crate) fn parse(text: &str) -> Self {
        let (line, fields) = text.split_once(" | ").unwrap_or((text, ""));
        let mut words = line.split(' ');
        Self {
            method: words.next().unwrap().parse().unwrap(),
            has_body: words.next() == Some("body"),
            headers: headers(fields),
        }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request { method: &self.method, headers: &self.headers, has_body: self.has_body }
    }
}

/// `STATUS | headers`.
pub(crate) fn answer(text: &str) -> (StatusCode, HeaderMap) {
    let (status, fields) = text.split_once(" | ").unwrap_or((text, ""));
    (status.parse().unwrap(), headers(fields))
}

/// Options named in the first word of `says`, as in `[heuristic] …`.
pub(crate) fn options(says: &str) -> Options {
    let mut options = Options::default();
    let Some(names) = says.strip_prefix('[').and_then(|says| says.split_once(']')) else {
        return options;
    };
    let policy = |text| Some(wharf_cache::Policies::default().resolve(text).unwrap());
    for name in names.0.split(' ') {
        match name.split_once('=').unwrap_or((name, "")) {
            ("heuristic", _) => {
                let limit = Duration::from_secs(86_400);
                options.heuristic = Some(Heuristic { percent: 10, limit });
            }
            ("deaf", _) => options.honour_request = false,
            ("errors", seconds) => options.errors = Duration::from_secs(seconds.parse().unwrap()),
            ("swr", seconds) => {
                options.stale_while_revalidate = Duration::from_secs(seconds.parse().unwrap());
            }
            ("sie", seconds) => {
                options.stale_if_error = Duration::from_secs(seconds.parse().unwrap());
            }
            ("default", name) => options.default = policy(name),
            ("policy", name) => options.policy = policy(name),
            ("cookies", "refuse") => options.set_cookie = SetCookie::Refuse,
            ("cookies", "store") => options.set_cookie = SetCookie::Store,
            (name, _) => panic!("no option {name}"),
        }
    }
    options
}

pub(crate) fn store(first: &str, text: &str, options: &Options) -> Result<Stored, String> {
    let first = Head::parse(first);
    let (status, mut headers) = answer(text);
    policy::apply(first.request(), status, &mut headers, options);
    storable(first.request(), status, &headers, Times::at(start()), options)
        .map_err(|refusal| format!("refused {}", refusal.token()))
}

pub(crate) fn name(decision: &Decision) -> String {
    match decision {
        Decision::Serve { age, .. } => format!("hit {}", age.as_secs()),
        Decision::ServeStale { reason, revalidate, .. } => {
            format!("stale {}{}", reason.token(), if *revalidate { "+" } else { "" })
        }
        Decision::Validate { conditions, reason } => {
            let tag = if conditions.if_none_match.is_some() { " etag" } else { "" };
            let date = if conditions.if_modified_since.is_some() { " date" } else { "" };
            format!("validate {}{tag}{date}", reason.token())
        }
        Decision::Forward { reason } => format!("forward {}", reason.token()),
        Decision::GatewayTimeout => "504".to_owned(),
    }
}

/// What happens to the second request.
pub(crate) fn outcome(row: &Row<'_>) -> String {
    let options = options(row.says);
    let stored = match store(row.first, row.answer, &options) {
        Ok(stored) => stored,
        Err(refused) => return refused,
    };
    let second = Head::parse(row.second);
    if !stored.matches(&second.headers) {
        return "no variant".to_owned();
    }
    name(&decide(second.request(), &stored, &options, after(row.wait)))
}
