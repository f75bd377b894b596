//! Random histories of requests, replies, purges and clock steps, against a model that is slow and
//! literal (`model/literal.rs`): every decision, every stored field and every age is the same.
//!
//! The seeds are fixed. `WHARF_FUZZ_SECONDS=3600` goes on for an hour; `WHARF_FUZZ_SEED=N` starts at
//! another seed, and repeats what a failure names.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use wharf_cache::key::Target;
use wharf_cache::lookup::{Failure, Missing, decide_without, select, stale_on_error};
use wharf_cache::options::Heuristic;
use wharf_cache::validate::{HeadEffect, freshen, head};
use wharf_cache::{
    Decision, Key, KeyRules, Options, Policies, Request, SetCookie, Stored, Times, decide,
    invalidate, policy, storable,
};

use crate::history::Dice;
use crate::literal::{Ask, Fields, Model, Reply, Rules};

#[path = "model/history.rs"]
mod history;
#[path = "model/literal.rs"]
mod literal;

/// In CI; each has [`STEPS`].
const HISTORIES: u64 = 120;
const STEPS: usize = 120;

/// The crate's side: entries as the host keeps them, in one list.
struct Real {
    options: Options,
    rules: KeyRules,
    entries: Vec<Entry>,
}

struct Entry {
    key: Key,
    stored: Stored,
    number: usize,
}

impl AsRef<Stored> for Entry {
    fn as_ref(&self) -> &Stored {
        &self.stored
    }
}

#[test]
fn random_histories_go_as_the_clauses_say() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("WHARF_FUZZ_SEED").unwrap_or(0);
    let limit = number("WHARF_FUZZ_SECONDS").map(Duration::from_secs);
    let begun = Instant::now();
    let mut tally = HashMap::new();

    for seed in first.. {
        let done = match limit {
            Some(limit) => begun.elapsed() >= limit,
            None => seed >= first + HISTORIES,
        };
        if done {
            println!("{} histories: {tally:?}", seed - first);
            break;
        }
        History::new(seed).run(&mut tally);
    }

    for outcome in ["hit", "stale", "validate", "forward", "504", "stored", "freshened", "on-error"]
    {
        assert!(tally.contains_key(outcome), "no history led to {outcome}: {tally:?}");
    }
}

struct History {
    seed: u64,
    dice: Dice,
    /// In milliseconds since the epoch.
    now: i64,
    model: Model,
    real: Real,
    count: usize,
    trace: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let rules = history::rules(&mut dice);
        let real = Real {
            options: options(&rules),
            rules: KeyRules::new(["utm_*", "x"], [HeaderName::from_static("x-tenant")]).unwrap(),
            entries: Vec::new(),
        };
        let trace = vec![format!("{rules:?}")];
        let model = Model { rules, dates: HashMap::new(), records: Vec::new() };
        Self { seed, dice, now: 1_800_000_000_000, model, real, count: 0, trace }
    }

    fn run(mut self, tally: &mut HashMap<String, usize>) {
        for _ in 0..STEPS {
            let step = [0, 0, 10, 250, 1_000, 5_000, 9_750, 30_000, 61_000];
            self.now += self.dice.pick(&step);
            if self.dice.chance(4) && !self.model.records.is_empty() {
                let at = self.dice.roll(self.model.records.len());
                self.trace.push(format!("{} purge {at}", self.now));
                self.model.purge(at, self.now);
                self.real.entries[at].stored =
                    self.real.entries[at].stored.purged(at_time(self.now));
                continue;
            }
            let ask = history::ask(&mut self.dice);
            self.step(&ask, tally);
        }
    }

    fn step(&mut self, ask: &Ask, tally: &mut HashMap<String, usize>) {
        let key = model_key(ask);
        let real_key = self.real.key(ask);
        let expected = self.model.decide(&key, ask, self.now);
        let head = Head::of(ask);
        let chosen = self.real.select(&real_key, &head);
        let decision = match chosen {
            Some(at) => {
                let stored = &self.real.entries[at].stored;
                decide(head.request(), stored, &self.real.options, at_time(self.now))
            }
            None => {
                let known = self.real.entries.iter().any(|entry| entry.key == real_key);
                let missing = if known { Missing::Variant } else { Missing::Uri };
                decide_without(head.request(), &self.real.options, missing)
            }
        };
        self.trace.push(format!("{} {ask:?} -> {expected}", self.now));
        self.same(&expected, &name(&decision), "decision");
        let chosen_number = chosen.map(|at| self.real.entries[at].number);
        let model_chosen = self.model.select(&key, ask);
        let model_number = model_chosen.map(|at| self.model.records[at].number);
        self.same(&model_number, &chosen_number, "chosen");
        *tally.entry(expected.split(' ').next().unwrap().to_owned()).or_default() += 1;
        if let Some(at) = chosen {
            self.same_head(at);
        }
        match decision {
            Decision::Serve { .. } | Decision::GatewayTimeout => {}
            Decision::ServeStale { revalidate: false, .. } => {}
            Decision::ServeStale { .. } | Decision::Validate { .. } | Decision::Forward { .. } => {
                let validates = !matches!(decision, Decision::Forward { .. });
                self.ask_origin(ask, &key, &real_key, chosen.filter(|_| validates), tally);
            }
        }
    }

    /// The plugin answers, or does not.
    fn ask_origin(
        &mut self,
        ask: &Ask,
        key: &str,
        real_key: &Key,
        validated: Option<usize>,
        tally: &mut HashMap<String, usize>,
    ) {
        let requested = self.now;
        self.now += self.dice.pick(&[0, 0, 0, 10, 700, 2_000]);
        let received = self.now;
        let times = Times { requested: at_time(requested), received: at_time(received) };
        let head_of_ask = Head::of(ask);
        let request = head_of_ask.request();

        let of_key = self.real.select(real_key, &head_of_ask);
        if self.dice.chance(15) {
            let status = self.dice.pick(&[None, Some(500), Some(503), Some(404)]);
            let Some(at) = of_key else { return };
            let failure = match status {
                Some(status) => Failure::Status(StatusCode::from_u16(status).unwrap()),
                None => Failure::NoAnswer,
            };
            let stored = &self.real.entries[at].stored;
            let options = &self.real.options;
            let got =
                stale_on_error(request, stored, options, at_time(received), failure).is_some();
            let expected = self.model.on_error(at, ask, received, status);
            self.trace.push(format!("{received} fails with {status:?} -> {expected}"));
            self.same(&expected, &got, "stale on error");
            *tally.entry("on-error".to_owned()).or_default() += usize::from(got);
            return;
        }

        let not_modified = validated.is_some() && self.dice.chance(60);
        let known = validated.map(|at| self.model.records[at].reply.fields.clone());
        let mut reply = history::reply(
            &mut self.dice,
            received,
            &mut self.model.dates,
            known.as_ref().filter(|_| not_modified),
        );
        if not_modified {
            reply.status = 304;
        }
        let mut fields = history::headers(&reply.fields);
        let status = StatusCode::from_u16(reply.status).unwrap();
        policy::apply(request, status, &mut fields, &self.real.options);
        self.model.apply(ask, &mut reply);
        self.trace.push(format!("{received} {reply:?}"));
        self.same(&sorted(&history::headers(&reply.fields)), &sorted(&fields), "policy");
        let date_now = httpdate::fmt_http_date(at_time(received));
        self.model.dates.insert(date_now.clone(), received / 1000 * 1000);

        if let Some(at) = validated.filter(|_| not_modified) {
            let stored = &self.real.entries[at].stored;
            let got = freshen(stored, request, &fields, times, &self.real.options);
            let about = self.model.is_about(at, &reply.fields);
            self.same(&about, &got.is_some(), "is about");
            let Some(got) = got else { return };
            let outcome =
                self.model.update(at, ask, &reply.fields, (requested, received), &date_now);
            self.settle(at, outcome, got.stored.map_err(|refusal| !refusal.leaves_stored()), tally);
            return;
        }
        if ask.method == "HEAD" {
            self.head_answered(ask, of_key, &reply, &fields, times, tally);
            return;
        }
        if ask.method != "GET" {
            self.unsafe_answered(ask, &reply, &fields);
            return;
        }
        self.count += 1;
        let number = self.count;
        let expected = self.model.store(key, ask, &reply, (requested, received), number);
        let got = storable(request, status, &fields, times, &self.real.options);
        self.same(&expected, &got.is_ok(), &format!("stored ({:?})", got.as_ref().err()));
        if let Ok(stored) = got {
            *tally.entry("stored".to_owned()).or_default() += 1;
            let key = real_key.clone();
            self.real
                .entries
                .retain(|entry| entry.key != key || !entry.stored.matches(request.headers));
            self.real.entries.push(Entry { key, stored, number });
            self.same_head(self.real.entries.len() - 1);
        }
    }

    fn head_answered(
        &mut self,
        ask: &Ask,
        of_key: Option<usize>,
        reply: &Reply,
        fields: &HeaderMap,
        times: Times,
        tally: &mut HashMap<String, usize>,
    ) {
        let Some(at) = of_key else { return };
        let known = self.model.records[at].reply.clone();
        let one = |fields: &Fields, name: &str| {
            literal::values(fields, name).first().map(|v| (*v).to_owned())
        };
        let differs = |name: &str| {
            let new = one(&reply.fields, name);
            new.is_some() && new != one(&known.fields, name)
        };
        let length = one(&reply.fields, "content-length").is_some_and(|length| length != "5");
        let expected = if reply.status != known.status {
            "none"
        } else if differs("etag") || differs("last-modified") || length {
            "stale"
        } else {
            "fresh"
        };
        let status = StatusCode::from_u16(reply.status).unwrap();
        let head_of_ask = Head::of(ask);
        let request = head_of_ask.request();
        let stored = &self.real.entries[at].stored;
        let effect = head(stored, 5, request, (status, fields), times, &self.real.options);
        match effect {
            HeadEffect::None => self.same(&expected, &"none", "head"),
            HeadEffect::Stale => {
                self.same(&expected, &"stale", "head");
                self.model.purge(at, self.now);
                self.real.entries[at].stored = stored.purged(at_time(self.now));
            }
            HeadEffect::Freshened(got) => {
                self.same(&expected, &"fresh", "head");
                let date = httpdate::fmt_http_date(times.received);
                let span = (millis(times.requested), millis(times.received));
                let outcome = self.model.update(at, ask, &reply.fields, span, &date);
                let got = got.stored.map_err(|refusal| !refusal.leaves_stored());
                self.settle(at, outcome, got, tally);
            }
        }
    }

    /// Both sides after a 304 or a HEAD.
    fn settle(
        &mut self,
        at: usize,
        expected: Result<(), bool>,
        got: Result<Stored, bool>,
        tally: &mut HashMap<String, usize>,
    ) {
        self.same(&expected, &got.as_ref().map(|_| ()).map_err(|removes| *removes), "freshened");
        match got {
            Ok(stored) => {
                *tally.entry("freshened".to_owned()).or_default() += 1;
                self.real.entries[at].stored = stored;
                self.same_head(at);
            }
            Err(true) => {
                self.real.entries.remove(at);
                self.model.records.remove(at);
            }
            Err(false) => {}
        }
    }

    /// §4.4: the target, and what is named on the same origin.
    fn unsafe_answered(&mut self, ask: &Ask, reply: &Reply, fields: &HeaderMap) {
        let invalid =
            !["OPTIONS"].contains(&ask.method.as_str()) && (200..400).contains(&reply.status);
        let mut expected: Vec<String> = Vec::new();
        if invalid {
            expected.push(target(&ask.path));
            for text in literal::values(&reply.fields, "location") {
                let (_, named) =
                    history::LOCATIONS.iter().find(|(known, _)| *known == text).unwrap();
                expected.extend(named.map(target));
            }
        }
        let target =
            Target { scheme: "https", authority: "example.com", path_and_query: &ask.path };
        let method: Method = ask.method.parse().unwrap();
        let status = StatusCode::from_u16(reply.status).unwrap();
        let rules = &self.real.rules;
        let keys = invalidate::targets(rules, "shop", target, &method, status, fields);
        self.real.entries.retain(|entry| !keys.contains(&entry.key.target()));
        self.model.records.retain(|record| {
            !expected.contains(&record.key.split('\n').next().unwrap().to_owned())
        });
        self.same(&self.model.records.len(), &self.real.entries.len(), "invalidated");
    }

    fn same_head(&self, at: usize) {
        let stored = &self.real.entries[at].stored;
        let again = Stored::from_bytes(&stored.to_bytes());
        self.same(&Some(stored), &again.as_ref(), "written and read");
        let received = at_time(self.model.received(at));
        let expected = self.model.sent(at, &httpdate::fmt_http_date(received));
        self.same(&expected, &sorted(stored.headers()), "stored fields");
    }

    fn same<T: PartialEq + std::fmt::Debug>(&self, expected: &T, got: &T, what: &str) {
        assert!(
            expected == got,
            "seed {}: {what}: the model says {expected:?}, the crate {got:?}\n{}",
            self.seed,
            self.trace.join("\n")
        );
    }
}

impl Real {
    fn key(&self, ask: &Ask) -> Key {
        let target =
            Target { scheme: "https", authority: "example.com", path_and_query: &ask.path };
        Key::new(&self.rules, "shop", target, &history::headers(&ask.fields))
    }

    fn select(&self, key: &Key, head: &Head) -> Option<usize> {
        let variants: Vec<_> = self.entries.iter().filter(|entry| entry.key == *key).collect();
        let chosen = select(variants, &head.headers)?;
        self.entries.iter().position(|entry| std::ptr::eq(entry, chosen))
    }
}

struct Head {
    method: Method,
    headers: HeaderMap,
    has_body: bool,
}

impl Head {
    fn of(ask: &Ask) -> Self {
        let headers = history::headers(&ask.fields);
        Self { method: ask.method.parse().unwrap(), headers, has_body: ask.body }
    }

    fn request(&self) -> Request<'_> {
        Request { method: &self.method, headers: &self.headers, has_body: self.has_body }
    }
}

/// The path, and its query without what is ignored.
fn target(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let pairs = query.split('&');
    let kept: Vec<_> = pairs
        .filter(|pair| !pair.starts_with("utm_") && *pair != "x" && !pair.starts_with("x="))
        .collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

fn model_key(ask: &Ask) -> String {
    format!("{}\n{:?}", target(&ask.path), literal::values(&ask.fields, "x-tenant"))
}

fn at_time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
}

fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn sorted(headers: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let mut fields: Fields =
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    fields.sort();
    fields
}

fn name(decision: &Decision) -> String {
    match decision {
        Decision::Serve { age, .. } => format!("hit {}", age.as_secs()),
        Decision::ServeStale { reason, revalidate, .. } => {
            format!("stale {}{}", reason.token(), if *revalidate { "+" } else { "" })
        }
        Decision::Validate { conditions, reason } => format!(
            "validate {}{}{}",
            reason.token(),
            if conditions.if_none_match.is_some() { " etag" } else { "" },
            if conditions.if_modified_since.is_some() { " date" } else { "" }
        ),
        Decision::Forward { reason } => format!("forward {}", reason.token()),
        Decision::GatewayTimeout => "504".to_owned(),
    }
}

fn options(rules: &Rules) -> Options {
    let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    let policy = |text| Policies::default().resolve(text).unwrap();
    Options {
        honour_request: !rules.deaf,
        policy: rules.policy.map(policy),
        default: rules.default.map(policy),
        heuristic: rules
            .heuristic
            .then_some(Heuristic { percent: 10, limit: Duration::from_secs(86_400) }),
        errors: seconds(rules.errors),
        stale_while_revalidate: seconds(rules.while_revalidating),
        stale_if_error: seconds(rules.if_error),
        set_cookie: match rules.cookies {
            "refuse" => SetCookie::Refuse,
            "store" => SetCookie::Store,
            _ => SetCookie::Explicit,
        },
    }
}
