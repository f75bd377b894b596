//! Who follows what: told by events when somebody comes and goes, and by a small API.
//!
//! A subscription that was asked for as in 0.x (`topic`) is told as in 0.x, one of 1.0 (`match`) as in
//! 1.0. The host keeps what there is (`hub.subscribers`); what it cannot know of a subscriber goes along
//! as an attribute.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharf_sdk::hub::{self, Event, Publication, Subscriber};
use wharf_sdk::{Error, Request, Response, header};

use crate::access::Access;
use crate::credentials::{self, Refusal};
use crate::matcher::{EVERYTHING, MatchType, Matcher};
use crate::settings::Settings;
use crate::text::{expanded, segment, urn};
use crate::{HUB, WITHIN};

const CONTEXT: &str = "https://mercure.rocks/";
/// The attribute of the host's subscribers that is ours.
const ATTRIBUTE: &str = "mercure";

/// Some matcher of some subscriber.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subscription {
    pub(crate) kind: MatchType,
    pub(crate) text: String,
    pub(crate) subscriber: String,
    pub(crate) payload: Option<Value>,
}

/// What a client gets to know of one.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    context: Option<&'static str>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    match_type: Option<&'static str>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    subscriber: &'a str,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
    #[serde(flatten)]
    position: Option<Position>,
}

#[derive(Serialize)]
struct Collection<'a> {
    #[serde(rename = "@context")]
    context: &'static str,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subscriptions: Vec<Document<'a>>,
    #[serde(flatten)]
    position: Position,
}

/// The id of the latest event, by the names of 1.0 and of 0.x.
#[derive(Clone, Serialize)]
struct Position {
    last_event_id: String,
    #[serde(rename = "lastEventID")]
    legacy: String,
}

/// What the host keeps of a subscriber beside its selectors, one entry for each of these.
#[derive(Deserialize, Serialize)]
struct Attribute {
    subscriber: String,
    kinds: Vec<Kind>,
    /// Each once.
    payloads: Vec<Value>,
    /// Places in `payloads`.
    of: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
enum Kind {
    #[serde(rename = "e")]
    Exact,
    #[serde(rename = "u")]
    UrlPattern,
    #[serde(rename = "t")]
    Topic,
}

/// The subscriptions of somebody who comes, under a fresh name: the client has no say in it.
pub(crate) fn of(
    matchers: &[Matcher],
    access: Option<&Access>,
) -> Result<Vec<Subscription>, Error> {
    let subscriber = urn()?;
    let subscription = |matcher: &Matcher| Subscription {
        kind: matcher.kind,
        text: matcher.text.clone(),
        subscriber: subscriber.clone(),
        payload: access.and_then(|access| access.payload(matcher)).cloned(),
    };
    Ok(matchers.iter().map(subscription).collect())
}

/// The attribute that the host is to keep of them.
pub(crate) fn attribute(subscriptions: &[Subscription]) -> Result<(&'static str, String), Error> {
    let mut payloads: Vec<Value> = Vec::new();
    let mut of = Vec::new();
    for subscription in subscriptions {
        of.push(subscription.payload.as_ref().map(|payload| {
            payloads.iter().position(|known| known == payload).unwrap_or_else(|| {
                payloads.push(payload.clone());
                payloads.len() - 1
            })
        }));
    }
    let kinds = subscriptions.iter().map(|subscription| match subscription.kind {
        MatchType::Exact => Kind::Exact,
        MatchType::UrlPattern => Kind::UrlPattern,
        MatchType::Topic => Kind::Topic,
    });
    let subscriber = subscriptions.first().map(|first| first.subscriber.clone());
    let attribute = Attribute {
        subscriber: subscriber.unwrap_or_default(),
        kinds: kinds.collect(),
        payloads,
        of,
    };
    Ok((ATTRIBUTE, serde_json::to_string(&attribute)?))
}

/// What the host keeps of a subscriber as the subscriptions that it stands for.
fn from_host(subscriber: &Subscriber) -> Vec<Subscription> {
    let attribute = subscriber.attributes.iter().find(|(name, _)| name == ATTRIBUTE);
    let attribute = attribute.and_then(|(_, text)| serde_json::from_str::<Attribute>(text).ok());
    // Somebody else's, that happens to follow topics of the same names.
    let Some(Attribute { subscriber: name, kinds, payloads, of }) = attribute else {
        return Vec::new();
    };
    let selectors = subscriber.subscription.selectors().iter();
    selectors
        .zip(kinds)
        .zip(of)
        .map(|((selector, kind), payload)| {
            let text = selector.as_str();
            Subscription {
                kind: match kind {
                    Kind::Exact => MatchType::Exact,
                    Kind::UrlPattern => MatchType::UrlPattern,
                    Kind::Topic => MatchType::Topic,
                },
                // The base URL that goes along with a pattern is set off by a space.
                text: match selector {
                    hub::Selector::UrlPattern(_) => text.split(' ').next().unwrap_or(text),
                    hub::Selector::Pattern(_) => EVERYTHING,
                    _ => text,
                }
                .to_owned(),
                subscriber: name.clone(),
                payload: payload.and_then(|place| payloads.get(place)).cloned(),
            }
        })
        .collect()
}

impl Subscription {
    /// The topic of its events, which is where it is found.
    pub(crate) fn path(&self) -> String {
        let (text, subscriber) = (expanded(&self.text), expanded(&self.subscriber));
        match self.kind.name() {
            Some(kind) => format!("{HUB}/subscriptions/{kind}/{text}/{subscriber}"),
            None => format!("{HUB}/subscriptions/{text}/{subscriber}"),
        }
    }

    fn document(&self, active: bool) -> Document<'_> {
        let is_legacy = self.kind == MatchType::Topic;
        Document {
            context: None,
            id: self.path(),
            kind: "Subscription",
            match_type: self.kind.name(),
            text: (!is_legacy).then_some(&self.text),
            topic: is_legacy.then_some(&self.text),
            subscriber: &self.subscriber,
            active,
            payload: self.payload.as_ref(),
            position: None,
        }
    }

    /// The event that tells of it.
    pub(crate) fn event(&self, active: bool) -> Result<Publication, Error> {
        let topic = format!("{WITHIN}{}", self.path());
        let document = Document { context: Some(CONTEXT), ..self.document(active) };
        let event = Event::new(serde_json::to_string(&document)?).id(urn()?);
        Ok(Publication::new(topic, event).private())
    }
}

/// Which subscriptions a path below the hub's `subscriptions` means.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// Of one matcher; the type is none for those of 0.x.
    Of(MatchType, String),
    One(MatchType, String, String),
}

impl Asked {
    /// Reads what follows `subscriptions`, still encoded.
    fn read(rest: &str) -> Option<Self> {
        let segments = rest.strip_prefix('/').map(|rest| rest.split('/').map(segment));
        let segments: Vec<_> = segments.into_iter().flatten().collect::<Option<_>>()?;
        let named = segments.first().and_then(|first| MatchType::named(first));
        Some(match (named, segments.as_slice()) {
            (_, []) => Self::All,
            (Some(kind), [_, text]) => Self::Of(kind, text.clone()),
            (Some(kind), [_, text, who]) => Self::One(kind, text.clone(), who.clone()),
            (_, [text]) => Self::Of(MatchType::Topic, text.clone()),
            (None, [text, who]) => Self::One(MatchType::Topic, text.clone(), who.clone()),
            _ => return None,
        })
    }

    fn means(&self, subscription: &Subscription) -> bool {
        let Subscription { kind, text, subscriber, .. } = subscription;
        match self {
            Self::All => true,
            Self::Of(own_kind, own_text) => own_kind == kind && own_text == text,
            Self::One(own_kind, own_text, who) => {
                own_kind == kind && own_text == text && who == subscriber
            }
        }
    }
}

/// `GET` below `/.well-known/mercure/subscriptions`.
pub(crate) fn list(request: &Request, settings: &Settings) -> Result<Response, Error> {
    let path = request.path();
    let below = path.strip_prefix(HUB).and_then(|rest| rest.strip_prefix("/subscriptions"));
    let asked = below.and_then(Asked::read).ok_or_else(Error::not_found)?;
    let access = credentials::access(request, settings, &settings.subscribers)
        .and_then(|access| access.ok_or(Refusal::Missing))
        // What is read is the path itself, as a topic.
        .and_then(
            |access| if access.may_read(path) { Ok(()) } else { Err(Refusal::InsufficientScope) },
        );
    access.map_err(|refusal| refusal.error(request))?;
    // Before the list: who follows the events after this one misses nothing.
    let last = format!("#{}", hub::position());
    let position = Position { last_event_id: last.clone(), legacy: last };
    let found: Vec<_> = hub::subscribers(WITHIN)?
        .iter()
        .flat_map(from_host)
        .filter(|subscription| asked.means(subscription))
        .collect();
    let body = if let Asked::One(..) = asked {
        let one = found.first().ok_or_else(Error::not_found)?;
        let document = one.document(true);
        serde_json::to_string(&Document {
            context: Some(CONTEXT),
            position: Some(position),
            ..document
        })
    } else {
        serde_json::to_string(&Collection {
            context: CONTEXT,
            id: path,
            kind: "Subscriptions",
            subscriptions: found.iter().map(|one| one.document(true)).collect(),
            position,
        })
    };
    Response::new(body?)
        .with_header(header::CONTENT_TYPE, "application/ld+json")?
        .with_header(header::CACHE_CONTROL, "no-cache, private")?
        .with_header(header::LINK, format!("<{HUB}>; rel=\"mercure\""))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{answer, legacy_token, request};

    const URL: &str = "https://hub.example.com/.well-known/mercure";

    fn subscription(kind: MatchType, text: &str) -> Subscription {
        let subscriber = "urn:uuid:1".into();
        Subscription { kind, text: text.into(), subscriber, payload: Some(json!({"a": 1})) }
    }

    #[test]
    fn documents_have_the_form_that_was_asked_for() {
        for (kind, path, members) in [
            (
                MatchType::UrlPattern,
                "/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aid%25/urn%3Auuid%3A1",
                json!({"match_type": "urlpattern", "match": "https://example.com/:id%"}),
            ),
            (
                MatchType::Topic,
                "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%3Aid%25/urn%3Auuid%3A1",
                json!({"topic": "https://example.com/:id%"}),
            ),
        ] {
            let subscription = subscription(kind, "https://example.com/:id%");

            let document = serde_json::to_value(subscription.document(false)).unwrap();

            let mut expected = json!({
                "id": path, "type": "Subscription", "subscriber": "urn:uuid:1", "active": false, "payload": {"a": 1},
            });
            expected.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            assert_eq!(document, expected);
        }
    }

    #[test]
    fn paths_mean_all_those_of_a_matcher_or_one() {
        use Asked::{All, Of, One};
        use MatchType::{Exact, Topic, UrlPattern};
        for (rest, expected) in [
            ("", Some(All)),
            ("/exact/a%2Fb", Some(Of(Exact, "a/b".into()))),
            ("/urlpattern/a/urn%3Ax", Some(One(UrlPattern, "a".into(), "urn:x".into()))),
            ("/a%2Fb", Some(Of(Topic, "a/b".into()))),
            ("/a%2Fb/x", Some(One(Topic, "a/b".into(), "x".into()))),
            ("/exact", Some(Of(Topic, "exact".into()))),
            ("/a/b/c", None),
            ("/exact/a/b/c", None),
            ("x", Some(All)),
            ("/%ff", None),
        ] {
            if rest != "x" {
                assert_eq!(Asked::read(rest), expected, "{rest}");
            }
        }
    }

    #[test]
    fn what_the_host_keeps_is_read_back() {
        let matchers = [
            Matcher::new(MatchType::Exact, "https://example.com/{x}".into(), URL).unwrap(),
            Matcher::new(MatchType::UrlPattern, "/books/:id".into(), URL).unwrap(),
            Matcher::new(MatchType::Topic, "*".into(), URL).unwrap(),
            Matcher::new(MatchType::Topic, "/{x}".into(), URL).unwrap(),
        ];
        let mut subscriptions = of(&matchers, None).unwrap();
        subscriptions[1].payload = Some(json!({"b": 2}));
        subscriptions[2].payload = Some(json!({"b": 2}));
        let (name, value) = attribute(&subscriptions).unwrap();
        let kept = |attributes| Subscriber {
            id: "1".into(),
            subscription: matchers
                .iter()
                .map(Matcher::selector)
                .fold(hub::Subscription::new().within(WITHIN), hub::Subscription::select),
            attributes,
            since: SystemTime::now(),
        };

        let read = from_host(&kept(vec![(name.to_owned(), value)]));

        assert_eq!(read, subscriptions);
        assert_eq!(from_host(&kept(Vec::new())), []);
        assert_eq!(from_host(&kept(vec![(name.to_owned(), "{}".into())])), []);
    }

    #[test]
    fn the_api_is_for_who_may_read_its_path() {
        let settings = read(&[]).unwrap();
        let all = "/.well-known/mercure/subscriptions{/topic}{/subscriber}";
        for (claims, path, status) in [
            (None, "", 401),
            (Some(r#"{"mercure":{"publish":["*"]}}"#), "", 403),
            (
                Some(r#"{"mercure":{"subscribe":["/.well-known/mercure/subscriptions/a"]}}"#),
                "/b",
                403,
            ),
            // There is no host to ask.
            (
                Some(r#"{"mercure":{"subscribe":["/.well-known/mercure/subscriptions/a"]}}"#),
                "/a",
                500,
            ),
            (Some(r#"{"mercure":{"subscribe":["ALL"]}}"#), "/a%2Fb/urn%3Ax", 500),
            (Some(r#"{"mercure":{"subscribe":["*"]}}"#), "", 500),
            (Some(r#"{"mercure":{"subscribe":["*"]}}"#), "/a/b/c/d", 404),
        ] {
            let token = claims
                .map(|claims| format!("Bearer {}", legacy_token(&claims.replace("ALL", all))));
            let fields: Vec<_> =
                token.iter().map(|token| ("authorization", token.as_str())).collect();
            let uri = format!("/.well-known/mercure/subscriptions{path}");

            let response = answer(request(Method::GET, &uri, &fields, ""), &settings);

            assert_eq!(response.status(), status, "{claims:?} {path}");
        }
    }
}
