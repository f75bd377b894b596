//! A cache as the clauses are written, slow and literal: it keeps each exchange whole, as text, and works
//! everything out of it again at each request. Written from the RFCs, not from the crate.
//!
//! Times are milliseconds; dates are looked up in the list of those that the history has written.

use std::collections::HashMap;

pub(crate) type Fields = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Fields,
    pub(crate) body: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
}

/// A stored exchange.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: String,
    ask: Ask,
    pub(crate) reply: Reply,
    requested: i64,
    received: i64,
    purged: Option<i64>,
    pub(crate) number: usize,
}

/// What a route decides, in seconds and texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) deaf: bool,
    pub(crate) heuristic: bool,
    pub(crate) errors: i64,
    pub(crate) while_revalidating: i64,
    pub(crate) if_error: i64,
    pub(crate) cookies: &'static str,
    pub(crate) policy: Option<&'static str>,
    pub(crate) default: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Argument {
    None,
    Text(String),
    Broken,
}

pub(crate) type Directives = Vec<(String, Argument)>;

/// The texts of targeted fields that histories use, and what each says; nothing where it is ignored.
pub(crate) const TARGETED: [(&str, Option<&str>); 14] = [
    ("max-age=60", Some("max-age=60")),
    ("max-age=5, stale-while-revalidate=20", Some("max-age=5, stale-while-revalidate=20")),
    ("max-age=1;a=b, max-age=30;c", Some("max-age=30")),
    ("no-store", Some("no-store")),
    ("max-age=60, no-store=?0, public", Some("max-age=60, public")),
    ("private", Some("private")),
    ("max-age=20, private=\"x\", foo=(1 2);z", Some("max-age=20, private=\"x\"")),
    ("no-cache, max-age=30", Some("no-cache, max-age=30")),
    ("max-age=\"60\"", None),
    ("max-age=60.0", None),
    ("max-age=60, &", None),
    ("Max-Age=60", None),
    ("max-age=60, no-store=1", None),
    ("", None),
];

pub(crate) struct Model {
    pub(crate) rules: Rules,
    pub(crate) dates: HashMap<String, i64>,
    pub(crate) records: Vec<Record>,
}

pub(crate) fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

fn has(fields: &Fields, name: &str) -> bool {
    !values(fields, name).is_empty()
}

/// RFC 9110 §5.6.1: a list, with commas in quoted strings.
fn list(lines: &[&str]) -> Vec<String> {
    let mut items = Vec::new();
    for line in lines {
        let mut item = String::new();
        let mut quoted = false;
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' if quoted => {
                    item.push(letter);
                    item.extend(letters.next());
                    continue;
                }
                '"' => quoted = !quoted,
                ',' if !quoted => {
                    items.push(std::mem::take(&mut item));
                    continue;
                }
                _ => {}
            }
            item.push(letter);
        }
        items.push(item);
    }
    items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// RFC 9111 §5.2.
fn directives(lines: &[&str]) -> Directives {
    let items = list(lines).into_iter();
    items
        .map(|item| {
            let Some((name, text)) = item.split_once('=') else {
                return (item.to_lowercase(), Argument::None);
            };
            let blank = name.ends_with(' ') || text.starts_with(' ') || text.is_empty();
            let argument = if blank {
                Argument::Broken
            } else if let Some(quoted) = text.strip_prefix('"') {
                unquoted(quoted).map_or(Argument::Broken, Argument::Text)
            } else if text.contains('"') {
                Argument::Broken
            } else {
                Argument::Text(text.to_owned())
            };
            (name.trim().to_lowercase(), argument)
        })
        .collect()
}

/// What is before the closing quote, which must be the end.
fn unquoted(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return letters.next().is_none().then_some(plain),
            '\\' => plain.push(letters.next()?),
            letter => plain.push(letter),
        }
    }
}

fn arguments<'a>(directives: &'a Directives, name: &str) -> Vec<&'a Argument> {
    directives.iter().filter(|(known, _)| known == name).map(|(_, argument)| argument).collect()
}

fn said(directives: &Directives, name: &str) -> bool {
    !arguments(directives, name).is_empty()
}

/// One that grants something has no argument.
fn granted(directives: &Directives, name: &str) -> bool {
    arguments(directives, name).contains(&&Argument::None)
}

fn number(argument: &Argument) -> Option<i64> {
    let Argument::Text(text) = argument else { return None };
    let digits = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit());
    digits.then(|| text.parse::<i64>().unwrap_or(i64::MAX).min(2_147_483_648))
}

/// §4.2.1: twice with two values, or no number: stale.
fn lifetime(directives: &Directives, name: &str) -> Option<i64> {
    let numbers: Vec<_> =
        arguments(directives, name).iter().map(|argument| number(argument).unwrap_or(0)).collect();
    let first = *numbers.first()?;
    Some(if numbers.iter().all(|other| *other == first) { first } else { 0 })
}

/// The field names of `no-cache` or `private`; nothing where it means everything.
fn names(directives: &Directives, name: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for argument in arguments(directives, name) {
        let Argument::Text(text) = argument else { return None };
        let names: Vec<_> = text
            .split(',')
            .map(|name| name.trim().to_lowercase())
            .filter(|n| !n.is_empty())
            .collect();
        let token =
            |name: &String| name.chars().all(|letter| letter.is_alphanumeric() || letter == '-');
        if names.is_empty() || !names.iter().all(token) {
            return None;
        }
        all.extend(names);
    }
    Some(all)
}

fn whole(directives: &Directives, name: &str) -> bool {
    said(directives, name) && names(directives, name).is_none()
}

/// RFC 9213 §2.2: the first field that can be used, and whether it is a targeted one.
fn effective(fields: &Fields) -> (bool, Directives) {
    for name in ["wharf-cache-control", "cdn-cache-control"] {
        if let [text] = values(fields, name)[..]
            && let Some(Some(meant)) =
                TARGETED.iter().find(|(known, _)| *known == text).map(|(_, meant)| *meant)
        {
            return (true, directives(&[meant]));
        }
    }
    (false, directives(&values(fields, "cache-control")))
}

fn forbids_stale(directives: &Directives) -> bool {
    said(directives, "must-revalidate")
        || said(directives, "proxy-revalidate")
        || said(directives, "s-maxage")
        || whole(directives, "no-cache")
}

const CACHEABLE: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
const OF_ONE_REQUEST: [u16; 11] = [304, 408, 412, 413, 416, 417, 421, 425, 426, 429, 431];
const NOT_UNDERSTOOD: [u16; 4] = [299, 418, 499, 599];
const OVERRIDES: [&str; 2] = ["x-http-method-override", "x-original-url"];

impl Model {
    fn request_directives(&self, ask: &Ask) -> Directives {
        if self.rules.deaf {
            return Vec::new();
        }
        let own = values(&ask.fields, "cache-control");
        if !own.is_empty() {
            return directives(&own);
        }
        let pragma = directives(&values(&ask.fields, "pragma"));
        pragma.into_iter().filter(|(name, _)| name == "no-cache").collect()
    }

    fn bypass(ask: &Ask) -> Option<&'static str> {
        if ask.method != "GET" && ask.method != "HEAD" {
            Some("forward method")
        } else if ask.body || OVERRIDES.iter().any(|name| has(&ask.fields, name)) {
            Some("forward bypass")
        } else {
            None
        }
    }

    /// What the route makes of a reply before anything else.
    pub(crate) fn apply(&self, ask: &Ask, reply: &mut Reply) {
        let restricts =
            |text: &str| ["no-store", "private", "no-cache"].iter().any(|word| text.contains(word));
        let fails = reply.status >= 400;
        if let Some(policy) = self.rules.policy
            && (!fails || restricts(policy))
        {
            let gone =
                ["cache-control", "expires", "pragma", "wharf-cache-control", "cdn-cache-control"];
            reply.fields.retain(|(name, _)| !gone.contains(&name.as_str()));
            reply.fields.push(("cache-control".to_owned(), policy.to_owned()));
            return;
        }
        let Some(default) = self.rules.default else { return };
        let says =
            ["cache-control", "expires", "pragma", "wharf-cache-control", "cdn-cache-control"];
        let silent = !says.iter().any(|name| has(&reply.fields, name));
        let own = has(&reply.fields, "set-cookie")
            || has(&ask.fields, "authorization")
            || has(&ask.fields, "cookie");
        let usual = CACHEABLE.contains(&reply.status) && !fails;
        if silent && usual && !has(&reply.fields, "content-range") && (!own || restricts(default)) {
            reply.fields.push(("cache-control".to_owned(), default.to_owned()));
        }
    }

    /// §3, and what of it holds for a 304 as well.
    fn may_keep(&self, ask: &Ask, status: u16, fields: &Fields) -> bool {
        let (_, said_by) = effective(fields);
        let understood = !NOT_UNDERSTOOD.contains(&status);
        if said(&said_by, "no-store") && !(granted(&said_by, "must-understand") && understood) {
            return false;
        }
        if said(&self.request_directives(ask), "no-store") || whole(&said_by, "private") {
            return false;
        }
        !has(&ask.fields, "authorization")
            || granted(&said_by, "public")
            || said(&said_by, "must-revalidate")
            || said(&said_by, "s-maxage")
    }

    /// §3 as a whole.
    fn may_store(&self, ask: &Ask, reply: &Reply) -> bool {
        let (targeted, said_by) = effective(&reply.fields);
        if ask.method != "GET" || Self::bypass(ask).is_some() || reply.status < 200 {
            return false;
        }
        // RFC 9110 §14.4: in any other answer `Content-Range` means nothing.
        if OF_ONE_REQUEST.contains(&reply.status) || reply.status == 206 {
            return false;
        }
        if granted(&said_by, "must-understand") && NOT_UNDERSTOOD.contains(&reply.status) {
            return false;
        }
        let lengths = values(&reply.fields, "content-length");
        if lengths.iter().any(|length| *length != lengths[0])
            || !lengths.is_empty() && has(&reply.fields, "transfer-encoding")
        {
            return false;
        }
        if has(&reply.fields, "set-cookie") {
            let listed = |name| names(&said_by, name).unwrap_or_default();
            let named = [listed("no-cache"), listed("private")].concat();
            let for_all = targeted
                || granted(&said_by, "public")
                || said(&said_by, "s-maxage")
                || named.contains(&"set-cookie".to_owned());
            if self.rules.cookies == "refuse" || self.rules.cookies == "explicit" && !for_all {
                return false;
            }
        }
        self.may_keep(ask, reply.status, &reply.fields)
    }

    /// Whether it is of any use: it has a lifetime, and was fresh, or may be used stale or validated.
    fn is_useful(&self, record: &Record) -> bool {
        let vary = list(&values(&record.reply.fields, "vary"));
        if vary.iter().any(|name| name == "*") {
            return false;
        }
        let (_, said_by) = effective(&record.reply.fields);
        let validator =
            has(&record.reply.fields, "etag") || has(&record.reply.fields, "last-modified");
        let Some(lifetime) = self.lifetime(record) else {
            return validator
                && (whole(&said_by, "no-cache") || granted(&said_by, "public"))
                && CACHEABLE.contains(&record.reply.status);
        };
        let fresh = self.age(record, record.received) < lifetime && !whole(&said_by, "no-cache");
        let stale = !forbids_stale(&said_by)
            && (self.while_revalidating(record) > 0 || self.if_error(record) > 0);
        validator || fresh || stale
    }

    fn date(&self, text: &str) -> Option<i64> {
        self.dates.get(text).copied()
    }

    /// `Date`, or when it was received.
    fn date_of(&self, record: &Record) -> i64 {
        let date = values(&record.reply.fields, "date");
        date.first().and_then(|date| self.date(date)).unwrap_or(record.received)
    }

    /// §4.2.1, in milliseconds.
    fn lifetime(&self, record: &Record) -> Option<i64> {
        let fields = &record.reply.fields;
        let (targeted, said_by) = effective(fields);
        if let Some(seconds) = lifetime(&said_by, "s-maxage").or(lifetime(&said_by, "max-age")) {
            return Some(seconds * 1000);
        }
        let expires = values(fields, "expires");
        if !targeted && !expires.is_empty() {
            let dates: Option<Vec<_>> = expires.iter().map(|text| self.date(text)).collect();
            let Some(earliest) = dates.and_then(|dates| dates.into_iter().min()) else {
                return Some(0);
            };
            return Some((earliest - self.date_of(record)).max(0));
        }
        let allowed = CACHEABLE.contains(&record.reply.status) || granted(&said_by, "public");
        if self.rules.heuristic && allowed {
            let modified = values(fields, "last-modified");
            if let Some(modified) = modified.first().and_then(|text| self.date(text)) {
                let since = (self.date_of(record) - modified).max(0);
                return Some((since / 10).min(86_400_000));
            }
        }
        (record.reply.status >= 400 && self.rules.errors > 0).then_some(self.rules.errors * 1000)
    }

    /// §4.2.3, in milliseconds.
    fn age(&self, record: &Record, now: i64) -> i64 {
        let date = values(&record.reply.fields, "date");
        let apparent = match date.first().and_then(|date| self.date(date)) {
            Some(date) => ((record.received - date).max(0) / 1000) * 1000,
            None => 0,
        };
        let age = values(&record.reply.fields, "age");
        let age = age.first().map(|text| text.split(',').next().unwrap().trim().to_owned());
        let age = age.and_then(|text| number(&Argument::Text(text))).unwrap_or(0) * 1000;
        let corrected = age + (record.received - record.requested);
        apparent.max(corrected) + (now - record.received).max(0)
    }

    /// How long it has been stale; nothing where it is fresh.
    fn stale_by(&self, record: &Record, now: i64) -> Option<i64> {
        let by_age = self.age(record, now) - self.lifetime(record).unwrap_or(0);
        let by_purge = record.purged.map(|at| now - at);
        match (by_age >= 0, by_purge) {
            (false, None) => None,
            (false, Some(by)) => Some(by),
            (true, None) => Some(by_age),
            (true, Some(by)) => Some(by.max(by_age)),
        }
    }

    fn while_revalidating(&self, record: &Record) -> i64 {
        let (_, said_by) = effective(&record.reply.fields);
        lifetime(&said_by, "stale-while-revalidate").unwrap_or(self.rules.while_revalidating) * 1000
    }

    fn if_error(&self, record: &Record) -> i64 {
        let (_, said_by) = effective(&record.reply.fields);
        lifetime(&said_by, "stale-if-error").unwrap_or(self.rules.if_error) * 1000
    }

    /// §4.1.
    fn matches(record: &Record, ask: &Ask) -> bool {
        let vary = list(&values(&record.reply.fields, "vary"));
        vary.iter().all(|name| {
            let name = name.to_lowercase();
            let (old, new) = (values(&record.ask.fields, &name), values(&ask.fields, &name));
            if old.is_empty() || new.is_empty() {
                return old.is_empty() == new.is_empty();
            }
            match name.as_str() {
                "accept-encoding" => preferences(&old, true) == preferences(&new, true),
                "accept-language" => preferences(&old, false) == preferences(&new, false),
                _ => list(&old) == list(&new),
            }
        })
    }

    pub(crate) fn select(&self, key: &str, ask: &Ask) -> Option<usize> {
        let mut chosen: Option<usize> = None;
        for (at, record) in self.records.iter().enumerate() {
            if record.key != key || !Self::matches(record, ask) {
                continue;
            }
            let rank = |record: &Record| (self.date_of(record), record.received);
            if chosen.is_none_or(|known| rank(record) >= rank(&self.records[known])) {
                chosen = Some(at);
            }
        }
        chosen
    }

    pub(crate) fn decide(&self, key: &str, ask: &Ask, now: i64) -> String {
        if let Some(bypass) = Self::bypass(ask) {
            return bypass.to_owned();
        }
        let wants = self.request_directives(ask);
        let only_if_cached = said(&wants, "only-if-cached");
        let or_timeout = |decision: String| {
            if only_if_cached { "504".to_owned() } else { decision }
        };
        let Some(at) = self.select(key, ask) else {
            let known = self.records.iter().any(|record| record.key == key);
            return or_timeout(format!("forward {}", if known { "vary-miss" } else { "uri-miss" }));
        };
        let record = &self.records[at];
        let (_, said_by) = effective(&record.reply.fields);
        let age = self.age(record, now);
        let ask_for = |name| arguments(&wants, name).into_iter();
        let too_old = ask_for("max-age").any(|limit| age > number(limit).unwrap_or(0) * 1000);
        let min_fresh = ask_for("min-fresh").filter_map(number).max();
        let max_stale = ask_for("max-stale")
            .filter_map(|limit| {
                if *limit == Argument::None { Some(i64::MAX / 2000) } else { number(limit) }
            })
            .min();
        let left = self.lifetime(record).unwrap_or(0) - age;
        let fields = &record.reply.fields;
        let validators = ["etag", "last-modified"].map(|name| has(fields, name));
        let validate = |reason: &str| {
            or_timeout(match validators {
                [false, false] => format!("forward {reason}"),
                [tag, date] => format!(
                    "validate {reason}{}{}",
                    if tag { " etag" } else { "" },
                    if date { " date" } else { "" }
                ),
            })
        };
        if said(&wants, "no-cache") || too_old {
            return validate("request");
        }
        if whole(&said_by, "no-cache") {
            return validate("stale");
        }
        let Some(by) = self.stale_by(record, now) else {
            return match min_fresh {
                Some(least) if left < least * 1000 => validate("request"),
                _ => format!("hit {}", age / 1000),
            };
        };
        if forbids_stale(&said_by) || min_fresh.is_some() {
            return validate("stale");
        }
        if by < self.while_revalidating(record) {
            return "stale stale-while-revalidate+".to_owned();
        }
        if max_stale.is_some_and(|limit| by <= limit * 1000) {
            return "stale max-stale".to_owned();
        }
        validate("stale")
    }

    /// RFC 5861 §4.
    pub(crate) fn on_error(&self, at: usize, ask: &Ask, now: i64, status: Option<u16>) -> bool {
        let record = &self.records[at];
        let (_, said_by) = effective(&record.reply.fields);
        let wants = self.request_directives(ask);
        let age = self.age(record, now);
        let asked = arguments(&wants, "stale-if-error").into_iter().filter_map(number).min();
        let limit = self.if_error(record).max(asked.unwrap_or(0) * 1000);
        status.is_none_or(|status| [500, 502, 503, 504].contains(&status))
            && Self::bypass(ask).is_none()
            && !forbids_stale(&said_by)
            && !said(&wants, "no-cache")
            && arguments(&wants, "min-fresh").into_iter().filter_map(number).count() == 0
            && arguments(&wants, "max-age")
                .into_iter()
                .all(|most| age <= number(most).unwrap_or(0) * 1000)
            && self.stale_by(record, now).unwrap_or(0) < limit
    }

    /// Stores a reply, if it may be; whether it was.
    pub(crate) fn store(
        &mut self,
        key: &str,
        ask: &Ask,
        reply: &Reply,
        (requested, received): (i64, i64),
        number: usize,
    ) -> bool {
        // What still counts though it is not sent stays.
        let counts = ["age", "surrogate-key", "wharf-cache-control"];
        let mut kept = reply.clone();
        let gone = dropped(&reply.fields, &effective(&reply.fields).1, &self.rules);
        kept.fields.retain(|(name, _)| !gone.contains(name) || counts.contains(&name.as_str()));
        let record = Record {
            key: key.to_owned(),
            ask: ask.clone(),
            reply: kept,
            requested,
            received,
            purged: None,
            number,
        };
        if !self.may_store(ask, reply) || !self.is_useful(&record) {
            return false;
        }
        self.records.retain(|known| known.key != key || !Self::matches(known, ask));
        self.records.push(record);
        true
    }

    /// §4.3.4: whether a 304 speaks of the record.
    pub(crate) fn is_about(&self, at: usize, newer: &Fields) -> bool {
        let known = &self.records[at].reply.fields;
        let one =
            |fields: &Fields, name| values(fields, name).first().map(|text| (*text).to_owned());
        let same_date = one(known, "last-modified") == one(newer, "last-modified");
        match (one(known, "etag"), one(newer, "etag")) {
            (Some(old), Some(new)) => match new.strip_prefix("W/") {
                Some(new) => old.strip_prefix("W/").unwrap_or(&old) == new,
                None => old == new,
            },
            (None, Some(_)) => has(newer, "last-modified") && same_date,
            (_, None) => !has(newer, "last-modified") || same_date,
        }
    }

    /// §3.2: puts newer fields into a record. `Err(true)` where it is then removed, `Err(false)` where it
    /// stays as it was.
    pub(crate) fn update(
        &mut self,
        at: usize,
        ask: &Ask,
        newer: &Fields,
        (requested, received): (i64, i64),
        date_now: &str,
    ) -> Result<(), bool> {
        let mut record = self.records[at].clone();
        let (_, newer_said) = effective(newer);
        let mut gone = vec!["content-encoding", "content-length", "content-range"];
        let hidden = dropped(newer, &newer_said, &self.rules);
        let counts = ["age", "surrogate-key", "wharf-cache-control"];
        gone.extend(hidden.iter().map(String::as_str).filter(|name| !counts.contains(name)));
        record.reply.fields.retain(|(name, _)| name != "age");
        let names: Vec<_> = newer.iter().map(|(name, _)| name.clone()).collect();
        let replaced = |name: &String| names.contains(name) && !gone.contains(&name.as_str());
        record.reply.fields.retain(|(name, _)| !replaced(name));
        let kept = newer.iter().filter(|(name, _)| replaced(name)).cloned();
        record.reply.fields.extend(kept);
        // RFC 9110 §6.6.1.
        if values(newer, "date").first().is_none_or(|date| self.date(date).is_none()) {
            record.reply.fields.retain(|(name, _)| name != "date");
            record.reply.fields.push(("date".to_owned(), date_now.to_owned()));
        }
        (record.requested, record.received, record.purged) = (requested, received, None);
        let keeps = self.may_keep(ask, record.reply.status, &record.reply.fields);
        record.ask = ask.clone();
        if !keeps {
            let (_, said_by) = effective(&record.reply.fields);
            let understood = !NOT_UNDERSTOOD.contains(&record.reply.status);
            let forbids =
                said(&said_by, "no-store") && !(granted(&said_by, "must-understand") && understood);
            if forbids {
                return Err(true);
            }
            // What is of this one request comes before `private`, and `private` before its user.
            let by_request = said(&self.request_directives(ask), "no-store");
            return Err(!by_request && whole(&said_by, "private"));
        }
        if !self.is_useful(&record) {
            return Err(true);
        }
        // §5.2.2.7: a field that is named now was stored before.
        let gone = dropped(&record.reply.fields, &effective(&record.reply.fields).1, &self.rules);
        record
            .reply
            .fields
            .retain(|(name, _)| !gone.contains(name) || counts.contains(&name.as_str()));
        self.records[at] = record;
        Ok(())
    }

    pub(crate) fn purge(&mut self, at: usize, now: i64) {
        let purged = &mut self.records[at].purged;
        *purged = Some(purged.map_or(now, |known| known.min(now)));
    }

    /// §3.1: what is sent of a record, sorted.
    pub(crate) fn sent(&self, at: usize, date_received: &str) -> Fields {
        let record = &self.records[at];
        let (_, said_by) = effective(&record.reply.fields);
        let gone = dropped(&record.reply.fields, &said_by, &self.rules);
        let mut sent = record.reply.fields.clone();
        sent.retain(|(name, _)| !gone.contains(name));
        if values(&sent, "date").first().is_none_or(|date| self.date(date).is_none()) {
            sent.retain(|(name, _)| name != "date");
            sent.push(("date".to_owned(), date_received.to_owned()));
        }
        sent.sort();
        sent
    }

    pub(crate) fn received(&self, at: usize) -> i64 {
        self.records[at].received
    }
}

/// §3.1 and §5.2.2: the names that are not stored to be sent.
fn dropped(fields: &Fields, said_by: &Directives, rules: &Rules) -> Vec<String> {
    let mut gone: Vec<String> = [
        "age",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "transfer-encoding",
        "surrogate-key",
        "wharf-cache-control",
    ]
    .map(str::to_owned)
    .into();
    if rules.cookies != "store" {
        gone.push("set-cookie".to_owned());
    }
    gone.extend(list(&values(fields, "connection")).iter().map(|name| name.to_lowercase()));
    gone.extend(names(said_by, "no-cache").unwrap_or_default());
    gone.extend(names(said_by, "private").unwrap_or_default());
    gone
}

/// RFC 9110 §12.4.2: names with weights, in no order. A refused coding is one that is not named, unless
/// anything is accepted.
fn preferences(lines: &[&str], codings: bool) -> Vec<(String, u32)> {
    let mut all: Vec<(String, u32)> = list(lines)
        .iter()
        .map(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight: f64 = weight.trim()[2..].parse().unwrap();
            (name.trim().to_lowercase(), (weight * 1000.0).round() as u32)
        })
        .collect();
    let any = all.iter().any(|(name, _)| name == "*");
    all.retain(|(name, weight)| !codings || any || *weight > 0 || name == "identity");
    all.sort();
    all.dedup();
    all
}
