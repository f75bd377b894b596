//! `[capabilities] hub` and `[[topic]]`: which topics a plugin may use, and what is kept of them.

use serde::Deserialize;
use wharf_hub::{HistoryLimits, Pattern, Rule};

use super::HubGrants;
use crate::config::units::{parse_duration, parse_size};

/// Events of one topic that are kept, at the most.
pub const MAX_HISTORY_EVENTS: usize = 1_000_000;
/// Bytes of one topic that are kept, at the most.
pub const MAX_TOPIC_HISTORY_BYTES: u64 = 64 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHub {
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
}

/// Patterns of `[capabilities] hub`.
///
/// # Errors
/// The key, and what is wrong with its value.
pub(super) fn grants(raw: RawHub) -> Result<HubGrants, (&'static str, String)> {
    let patterns = |key, list: Vec<String>| {
        let parse = |text: &String| {
            Pattern::parse(text).map_err(|error| (key, format!("\"{text}\": {error}")))
        };
        list.iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    Ok(HubGrants {
        publish: patterns("capabilities.hub.publish", raw.publish)?.into(),
        subscribe: patterns("capabilities.hub.subscribe", raw.subscribe)?.into(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopic {
    pattern: String,
    #[serde(default)]
    durable: bool,
    events: Option<usize>,
    bytes: Option<String>,
    age: Option<String>,
}

/// The rules of `[[topic]]`.
///
/// # Errors
/// What is wrong with one of them.
pub(super) fn rules(raw: Vec<RawTopic>) -> Result<Vec<Rule>, String> {
    raw.into_iter()
        .map(|raw| {
            let RawTopic { pattern: text, durable, events, bytes, age } = raw;
            let wrong = |cause: String| format!("\"{text}\": {cause}");
            let pattern = Pattern::parse(&text).map_err(|error| wrong(error.to_string()))?;
            let mut limits = HistoryLimits::default();
            if let Some(events) = events {
                if events > MAX_HISTORY_EVENTS {
                    return Err(wrong(format!("`events` is at most {MAX_HISTORY_EVENTS}")));
                }
                limits.events = events;
            }
            if let Some(bytes) = bytes {
                let bytes = parse_size(&bytes).map_err(|error| wrong(error.to_string()))?;
                if bytes > MAX_TOPIC_HISTORY_BYTES {
                    return Err(wrong("`bytes` is at most 64MiB".to_owned()));
                }
                limits.bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            if let Some(age) = age {
                let age = parse_duration(&age).map_err(|error| wrong(error.to_string()))?;
                limits.age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            }
            Ok(Rule { pattern, durable, limits })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;

    #[test]
    fn topics_and_grants_are_read() {
        let manifest = parse(
            "[capabilities]\nhub = { publish = [\"orders/*\"], subscribe = [\"*\"] }\n\
             [[topic]]\npattern = \"orders/*\"\ndurable = true\nevents = 5\nbytes = \"1KiB\"\nage = \"2d\"",
        )
        .unwrap();

        let [rule] = manifest.topics.as_slice() else { panic!("one rule") };
        assert!(rule.durable);
        assert_eq!(
            (rule.limits.events, rule.limits.bytes, rule.limits.age),
            (5, 1024, 172_800_000)
        );
        assert!(manifest.capabilities.hub.publish[0].matches("orders/1"));
    }

    #[test]
    fn mistakes_in_topics_name_the_topic() {
        for (text, expected) in [
            ("[[topic]]\npattern = \"a*\"", "a whole segment"),
            ("[[topic]]\npattern = \"a\"\nbytes = \"1GiB\"", "at most 64MiB"),
            ("[[topic]]\npattern = \"a\"\nage = \"x\"", "\"a\""),
            ("[capabilities]\nhub = { publish = [\"\"] }", "capabilities.hub.publish"),
            ("[capabilities]\nhub = { publishes = [] }", "did you mean `publish`"),
        ] {
            let error = parse(text).expect_err(text);

            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
