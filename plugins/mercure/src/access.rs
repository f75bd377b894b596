//! What a token allows: to publish on topics, and to read what is private.

use serde::Deserialize;
use serde_json::Value;
use wharf_sdk::hub;

use crate::matcher::{EVERYTHING, MatchType, Matcher};
use crate::token::{Invalid, LegacyClaim, Rights, Token};

/// The type of Mercure's authorization details (RFC 9396 §2), and the one that drafts before 1.0 had.
pub(crate) const DETAIL_TYPES: [&str; 2] =
    ["https://mercure.rocks/authorization-detail", "mercure"];

/// Matchers of a token, at the most: the host takes no more for one subscriber.
const MAX_MATCHERS: usize = 256;

/// A token that was verified and understood, all of it.
#[derive(Debug)]
pub(crate) struct Access {
    /// Seconds since 1970.
    pub(crate) expires: Option<f64>,
    details: Vec<Detail>,
    /// 0.x: that of all subscriptions that have none of their own.
    payload: Option<Value>,
}

#[derive(Debug)]
struct Detail {
    publish: bool,
    subscribe: bool,
    topics: Vec<Matcher>,
    payload: Option<Value>,
}

/// An authorization detail of Mercure's type, as it stands in a token.
#[derive(Deserialize)]
struct RawDetail {
    actions: Vec<String>,
    topics: Vec<RawTopic>,
    payload: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(rename = "match")]
    text: String,
    match_type: Option<String>,
}

impl Access {
    /// Reads what a token says; `base` is the hub's URL.
    ///
    /// # Errors
    /// Any part of it cannot be understood: the rest does not count either.
    pub(crate) fn of(token: Token, base: &str) -> Result<Self, Invalid> {
        let Token { expires, rights } = token;
        let (details, payload) = match rights {
            Rights::Details(claim) => (details(claim, base)?, None),
            Rights::Legacy(claim) => legacy(claim, base)?,
        };
        let matchers: usize = details.iter().map(|detail| detail.topics.len()).sum();
        if matchers > MAX_MATCHERS {
            return Err(Invalid);
        }
        Ok(Self { expires, details, payload })
    }

    /// Whether an update may be published: each of its topics.
    pub(crate) fn may_publish(&self, topics: &[String]) -> bool {
        topics.iter().all(|topic| {
            let mut granted = self.details.iter().filter(|detail| detail.publish);
            granted.any(|detail| detail.matches(topic))
        })
    }

    /// Whether what is private on a topic may be read.
    pub(crate) fn may_read(&self, topic: &str) -> bool {
        self.details.iter().any(|detail| detail.subscribe && detail.matches(topic))
    }

    /// All that may be read, for the host.
    pub(crate) fn readable(&self) -> impl Iterator<Item = hub::Selector> {
        let granted = self.details.iter().filter(|detail| detail.subscribe);
        granted.flat_map(|detail| &detail.topics).map(Matcher::selector)
    }

    /// What goes along with a subscription: the payload of the first detail that has one and matches the
    /// subscription's own matcher as if it were a topic.
    pub(crate) fn payload(&self, subscription: &Matcher) -> Option<&Value> {
        let granted = self.details.iter().filter(|detail| detail.subscribe);
        granted
            .filter(|detail| detail.matches(&subscription.text))
            .find_map(|detail| detail.payload.as_ref())
            .or(self.payload.as_ref())
    }
}

impl Detail {
    fn matches(&self, topic: &str) -> bool {
        self.topics.iter().any(|matcher| matcher.text == EVERYTHING || matcher.matches(topic))
    }
}

fn details(claim: Option<Value>, base: &str) -> Result<Vec<Detail>, Invalid> {
    let list = match claim {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Invalid),
    };
    list.into_iter()
        // RFC 9396: those of other types are for somebody else, in whatever shape.
        .filter(|detail| {
            detail.get("type").and_then(Value::as_str).is_some_and(|t| DETAIL_TYPES.contains(&t))
        })
        .map(|detail| self::detail(detail, base))
        .collect()
}

fn detail(detail: Value, base: &str) -> Result<Detail, Invalid> {
    let RawDetail { actions, topics, payload } =
        serde_json::from_value(detail).map_err(|_| Invalid)?;
    if actions.is_empty() || topics.is_empty() || topics.len() > MAX_MATCHERS {
        return Err(Invalid);
    }
    let topics = topics.into_iter().map(|RawTopic { text, match_type }| {
        let kind = MatchType::named(match_type.as_deref().unwrap_or("exact")).ok_or(Invalid)?;
        Matcher::new(kind, text, base).map_err(|_| Invalid)
    });
    Ok(Detail {
        // Actions that are not known grant nothing and do no harm.
        publish: actions.iter().any(|action| action == "publish"),
        subscribe: actions.iter().any(|action| action == "subscribe"),
        topics: topics.collect::<Result<_, _>>()?,
        payload: payload.map(Value::Object),
    })
}

fn legacy(claim: LegacyClaim, base: &str) -> Result<(Vec<Detail>, Option<Value>), Invalid> {
    let LegacyClaim { publish, subscribe, payload } = claim;
    let mut details = Vec::new();
    for (list, publish) in [(publish, true), (subscribe, false)] {
        let list = list.unwrap_or_default();
        if list.len() > MAX_MATCHERS {
            return Err(Invalid);
        }
        let topics = list.into_iter().map(|text| Matcher::new(MatchType::Topic, text, base));
        let topics = topics.collect::<Result<_, _>>().map_err(|_| Invalid)?;
        details.push(Detail { publish, subscribe: !publish, topics, payload: None });
    }
    Ok((details, payload.filter(|payload| !payload.is_null())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HUB: &str = "https://hub.example.com/.well-known/mercure";

    fn read(details: Value) -> Result<Access, Invalid> {
        Access::of(Token { expires: None, rights: Rights::Details(Some(details)) }, HUB)
    }

    fn old(claim: Value) -> Access {
        let claim = serde_json::from_value(claim).unwrap();
        Access::of(Token { expires: None, rights: Rights::Legacy(claim) }, HUB).unwrap()
    }

    fn detail(actions: &[&str], topics: &Value) -> Value {
        json!([{"type": DETAIL_TYPES[0], "actions": actions, "topics": topics}])
    }

    #[test]
    fn details_grant_their_actions_on_their_topics() {
        let access = read(json!([
            {"type": DETAIL_TYPES[0], "actions": ["publish", "fly"], "topics": [{"match": "a"}]},
            {"type": "mercure", "actions": ["subscribe"],
             "topics": [{"match": "https://example.com/:id", "match_type": "urlpattern"}]},
            {"type": "tenant", "topics": "acme", "actions": {"read": true}},
        ]))
        .unwrap();

        assert!(access.may_publish(&["a".into()]));
        assert!(!access.may_publish(&["a".into(), "b".into()]), "each topic counts");
        assert!(!access.may_publish(&["https://example.com/1".into()]));
        assert!(access.may_read("https://example.com/1"));
        assert!(!access.may_read("a"));
    }

    #[test]
    fn one_fault_makes_all_of_a_token_invalid() {
        for topics in [
            json!([]),
            json!([null]),
            json!(["a"]),
            json!([{"match_type": "exact"}]),
            json!([{"match": ""}]),
            json!([{"match": "a", "match_type": "Exact"}]),
            json!([{"match": "a", "match_type": "regexp"}]),
            json!([{"match": "a"}, {"match": "/(x", "match_type": "urlpattern"}]),
            json!([{"match": "a\nb"}]),
            json!([{"match": 1}]),
            json!(vec![json!({"match": "a"}); MAX_MATCHERS + 1]),
        ] {
            assert_eq!(read(detail(&["publish"], &topics)).unwrap_err(), Invalid, "{topics}");
        }
        for details in [
            json!({}),
            json!([{"type": "mercure", "topics": [{"match": "a"}]}]),
            json!([{"type": "mercure", "actions": [], "topics": [{"match": "a"}]}]),
            json!([{"type": "mercure", "actions": [1], "topics": [{"match": "a"}]}]),
            json!([{"type": "mercure", "actions": ["publish"], "topics": [{"match": "a"}], "payload": 1}]),
        ] {
            assert_eq!(read(details.clone()).unwrap_err(), Invalid, "{details}");
        }
    }

    #[test]
    fn tokens_without_details_grant_nothing() {
        let access = read(json!([])).unwrap();

        assert!(!access.may_publish(&["a".into()]) && !access.may_read("a"));
        assert_eq!(access.readable().count(), 0);
    }

    #[test]
    fn claims_of_0_x_grant_topics_and_templates() {
        let access =
            old(json!({"publish": ["https://example.com/{id}"], "subscribe": ["a", "{+x}/b"]}));

        assert!(access.may_publish(&["https://example.com/1".into()]));
        assert!(!access.may_publish(&["https://example.com/1/2".into()]));
        assert!(access.may_read("a") && access.may_read("x/y/b"));
        assert!(!access.may_read("https://example.com/1"));
        assert!(!old(json!({"publish": []})).may_publish(&["a".into()]));
        assert!(old(json!({"publish": ["*"]})).may_publish(&["a".into(), "b".into()]));
    }

    #[test]
    fn the_first_payload_whose_topics_match_goes_along() {
        let access = read(json!([
            {"type": "mercure", "actions": ["publish"], "topics": [{"match": "*"}], "payload": {"n": 0}},
            {"type": "mercure", "actions": ["subscribe"], "topics": [{"match": "a"}], "payload": {"n": 1}},
            {"type": "mercure", "actions": ["subscribe"],
             "topics": [{"match": "https://example.com/:id", "match_type": "urlpattern"}], "payload": {"n": 2}},
            {"type": "mercure", "actions": ["subscribe"], "topics": [{"match": "*"}], "payload": {"n": 3}},
        ]))
        .unwrap();

        for (kind, text, n) in [
            (MatchType::Exact, "a", 1),
            (MatchType::UrlPattern, "https://example.com/:id", 2),
            (MatchType::Exact, "b", 3),
        ] {
            let matcher = Matcher::new(kind, text.into(), HUB).unwrap();
            assert_eq!(access.payload(&matcher), Some(&json!({"n": n})), "{text}");
        }
        let matcher = Matcher::new(MatchType::Topic, "a".into(), HUB).unwrap();
        assert_eq!(old(json!({"payload": {"n": 4}})).payload(&matcher), Some(&json!({"n": 4})));
        assert_eq!(old(json!({"payload": null})).payload(&matcher), None);
    }
}
