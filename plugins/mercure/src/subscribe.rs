//! `GET /.well-known/mercure`: somebody follows topics. The host holds the stream.

use std::time::{Duration, SystemTime};

use wharf_sdk::hub::{Resumption, Start, Subscription};
use wharf_sdk::{Error, HeaderValue, Request, Response, header, sse};

use crate::WITHIN;
use crate::credentials::{self, Refusal};
use crate::matcher::{MatchType, Matcher};
use crate::publish::MAX_TOPIC;
use crate::settings::Settings;
use crate::subscriptions;
use crate::text::{FormError, form};

/// Matchers of a subscriber, at the most: as many events tell that it came.
const MAX_MATCHERS: usize = 100;
/// Says to begin with the oldest update, and that nothing is known of what came before.
const EARLIEST: &str = "earliest";
/// Says where to begin: of 1.0, of 0.x, and as clients before 0.11 spelt it.
const LAST_EVENT_ID: [&str; 6] = [
    "last_event_id",
    "lastEventID",
    "Last-Event-ID",
    "last-event-id",
    "Last-Event-Id",
    "LAST-EVENT-ID",
];

/// What a request asks for.
#[derive(Debug)]
struct Asked {
    matchers: Vec<Matcher>,
    last_event_id: Option<String>,
    /// The token is in the query, where caches look.
    has_query_token: bool,
}

pub(crate) fn subscribe(request: &Request, settings: &Settings) -> Result<Response, Error> {
    let access = credentials::access(request, settings, &settings.subscribers)
        .map_err(|refusal| refusal.error(request))?;
    if access.is_none() && !settings.anonymous {
        return Err(Refusal::Missing.error(request));
    }
    let asked = Asked::read(request, settings).map_err(Error::bad_request)?;

    let subscription = asked
        .matchers
        .iter()
        .map(Matcher::selector)
        .fold(Subscription::new().within(WITHIN), Subscription::select);
    let readable = access.iter().flat_map(|access| access.readable());
    let subscription = readable.fold(subscription, Subscription::private);
    let subscriptions = subscriptions::of(&asked.matchers, access.as_ref())?;
    let (name, value) = subscriptions::attribute(&subscriptions)?;
    let expires = access.as_ref().and_then(|access| access.expires);
    let mut stream = sse::stream(request)
        .subscription(subscription)
        .start(asked.start())
        .attribute(name, value)
        .max_age(remaining(expires).map_or(settings.lifetime, |left| left.min(settings.lifetime)));
    for subscription in &subscriptions {
        if subscription.path().len() > MAX_TOPIC {
            return Err(Error::bad_request("a matcher is too long"));
        }
        stream = stream.on_open(subscription.event(true)?).on_close(subscription.event(false)?);
    }
    let stream = stream.open()?;
    let mut response = stream.response;
    if let Some(asked) = &asked.last_event_id {
        let before = before_first(asked, stream.resumption, &stream.last_id);
        let value = HeaderValue::from_bytes(before.as_bytes())?;
        for name in ["last-event-id", "mercure-last-event-id"] {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if asked.has_query_token {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    Ok(response)
}

/// The id of the event before the first that is sent, or `earliest`: where that is not the one that was
/// asked for, something may have been lost.
fn before_first(asked: &str, resumption: Resumption, last_id: &str) -> String {
    match resumption {
        Resumption::Complete if !last_id.is_empty() => asked.to_owned(),
        Resumption::Fresh if !last_id.is_empty() => format!("#{last_id}"),
        _ => EARLIEST.to_owned(),
    }
}

fn remaining(expires: Option<f64>) -> Option<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let left = expires? - now.as_secs_f64();
    // One that is good for longer than can be told is good for as long as anybody stays.
    Duration::try_from_secs_f64(left.max(0.001)).ok()
}

impl Asked {
    /// Reads the query.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(request: &Request, settings: &Settings) -> Result<Self, String> {
        let query = request.uri().query().unwrap_or_default();
        let fields = form(query.as_bytes()).map_err(|error| match error {
            FormError::NotUtf8 => "the query is UTF-8".to_owned(),
            FormError::TooMany => too_many(),
        })?;
        let hub = settings.hub(request);
        let mut matchers: Vec<Matcher> = Vec::new();
        let mut last_event_id = last_event_id(request);
        let mut has_query_token = false;
        for (name, value) in fields {
            if let Some(kind) = match_type(&name, settings)? {
                let matcher = Matcher::new(kind, value, hub.as_str())?;
                let is_new = matchers.iter().all(|known| known.selector() != matcher.selector());
                if is_new && matchers.len() == MAX_MATCHERS {
                    return Err(too_many());
                }
                if is_new {
                    matchers.push(matcher);
                }
            } else if LAST_EVENT_ID.contains(&name.as_str()) {
                // The header comes first: a browser that comes back still has the old query.
                last_event_id.get_or_insert(value);
            } else {
                has_query_token |= matches!(name.as_str(), "access_token" | "authorization");
            }
        }
        if matchers.is_empty() {
            return Err(
                "at least one `match`, `match_urlpattern` or `topic` says what is followed"
                    .to_owned(),
            );
        }
        Ok(Self { matchers, last_event_id, has_query_token })
    }

    fn start(&self) -> Start {
        match self.last_event_id.as_deref() {
            None | Some("") => Start::Now,
            Some(EARLIEST) => Start::Earliest,
            // Positions of the host go out as fragments (`#…`), which are relative IRIs.
            Some(id) => Start::After(id.strip_prefix('#').unwrap_or(id).to_owned()),
        }
    }
}

fn too_many() -> String {
    format!("at most {MAX_MATCHERS} matchers")
}

fn last_event_id(request: &Request) -> Option<String> {
    let value = request.headers().get("last-event-id")?;
    // Clients send it as UTF-8 (WHATWG HTML §9.2.3).
    String::from_utf8(value.as_bytes().to_vec()).ok()
}

/// The type of the matchers in this parameter; all that begin with `match` are reserved.
fn match_type(name: &str, settings: &Settings) -> Result<Option<MatchType>, String> {
    match name {
        "match" | "match_exact" => Ok(Some(MatchType::Exact)),
        "match_urlpattern" => Ok(Some(MatchType::UrlPattern)),
        "topic" if settings.compatible => Ok(Some(MatchType::Topic)),
        "topic" => {
            Err("`topic` is of Mercure 0.x, which this hub does not speak: `match`".to_owned())
        }
        _ if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match")) => {
            Err("there is no such type of matcher: `match`, `match_exact` or `match_urlpattern`"
                .to_owned())
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{answer, legacy_token, request};

    fn asked(query: &str, last: Option<&str>) -> Result<Asked, String> {
        let fields: Vec<_> = last.into_iter().map(|last| ("last-event-id", last)).collect();
        let settings = read(&[]).unwrap();
        Asked::read(
            &request(Method::GET, &format!("/.well-known/mercure?{query}"), &fields, ""),
            &settings,
        )
    }

    #[test]
    fn parameters_name_the_type_of_their_matcher() {
        let asked = asked(
            "match=a&match_exact=b&match_urlpattern=%2Fbooks%2F%3Aid&topic=%2F%7Bx%7D&match=a&x=y",
            None,
        )
        .unwrap();

        let kinds: Vec<_> = asked.matchers.iter().map(|m| (m.kind, m.text.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (MatchType::Exact, "a"),
                (MatchType::Exact, "b"),
                (MatchType::UrlPattern, "/books/:id"),
                (MatchType::Topic, "/{x}"),
            ]
        );
    }

    #[test]
    fn mistakes_fail_loudly() {
        for query in [
            "",
            "x=y",
            "match=",
            "match_regexp=a",
            "matchURLPattern=a",
            "Match=a",
            "MATCH_EXACT=a",
            "matches=a",
            "match_=a",
            "match=a%0Ab",
            "match=a%00",
            "match=a%E2%80%AEb",
            "match=%ff",
            "match_urlpattern=%2F(x",
            "match_urlpattern=%2F((%3F%3Da))",
            &format!("match={}", "a".repeat(1025)),
            &(0..=MAX_MATCHERS).map(|n| format!("topic={n}&")).collect::<String>(),
            &(0..5_000).map(|n| format!("match={n}&")).collect::<String>(),
        ] {
            assert!(asked(query, None).is_err(), "{query:.40}");
        }
        let settings = read(&[("compatibility", "off")]).unwrap();
        let request = request(Method::GET, "/.well-known/mercure?topic=a", &[], "");
        assert_eq!(answer(request, &settings).status(), 400);
    }

    #[test]
    fn the_header_comes_before_the_query() {
        for name in LAST_EVENT_ID {
            assert_eq!(
                asked(&format!("match=a&{name}=x"), None).unwrap().start(),
                Start::After("x".into())
            );
        }
        assert_eq!(
            asked("match=a&lastEventID=x", Some("y")).unwrap().start(),
            Start::After("y".into())
        );
        assert_eq!(asked("match=a&lastEventID=earliest", None).unwrap().start(), Start::Earliest);
        assert_eq!(asked("match=a", Some("#1-2")).unwrap().start(), Start::After("1-2".into()));
        assert_eq!(asked("match=a", None).unwrap().start(), Start::Now);
        assert_eq!(asked("match=a&last_event_id=", None).unwrap().start(), Start::Now);
    }

    #[test]
    fn the_answer_tells_whether_something_may_have_been_lost() {
        for (asked, resumption, last_id, expected) in [
            ("urn:x", Resumption::Complete, "urn:x", "urn:x"),
            ("#1-2", Resumption::Complete, "1-2", "#1-2"),
            ("urn:x", Resumption::Lost, "", "earliest"),
            ("earliest", Resumption::Complete, "", "earliest"),
            ("", Resumption::Fresh, "1-2", "#1-2"),
        ] {
            assert_eq!(before_first(asked, resumption, last_id), expected, "{asked}");
        }
    }

    #[test]
    fn who_has_no_token_or_a_bad_one_is_told_before_all_else() {
        let closed = read(&[("anonymous", "off")]).unwrap();
        let open = read(&[]).unwrap();
        let good = format!("Bearer {}", legacy_token(r#"{"mercure":{"subscribe":["*"]}}"#));
        for (settings, token, status) in [
            (&closed, None, 401),
            (&closed, Some("Bearer x.y.z"), 401),
            (&open, Some("Bearer x.y.z"), 401),
            // There is no host to hold the stream.
            (&open, None, 500),
            (&closed, Some(good.as_str()), 500),
        ] {
            let fields: Vec<_> = token.into_iter().map(|token| ("authorization", token)).collect();
            let response =
                answer(request(Method::GET, "/.well-known/mercure?match=a", &fields, ""), settings);

            assert_eq!(response.status(), status, "{token:?}");
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge.is_some(), status == 401);
            assert!(challenge.is_none_or(|text| text.contains("error=") == token.is_some()));
        }
    }

    #[test]
    fn streams_end_with_their_token() {
        assert_eq!(remaining(None), None);
        assert!(remaining(Some(0.0)).unwrap() < Duration::from_secs(1));
        assert_eq!(remaining(Some(f64::MAX)), None);
    }
}
