//! `POST /.well-known/mercure`: an update comes in.

use std::time::Duration;

use url::Url;
use wharf_sdk::hub::{Event, Publication};
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::credentials::{self, Refusal};
use crate::settings::Settings;
use crate::text::{FormError, form, is_protocol_string, urn};
use crate::{HUB, WITHIN, matcher};

/// Bytes of a request's body, at the most; what is sent as events has less, see [`MAX_DATA`].
const MAX_BODY: usize = 2 << 20;
/// Bytes of an update's data, at the most.
const MAX_DATA: usize = 1 << 20;
/// Topics of an update, at the most: one, and its alternates.
const MAX_TOPICS: usize = 17;
/// Bytes of a topic, at the most: what the host takes, less the prefix.
pub(crate) const MAX_TOPIC: usize = 1024 - WITHIN.len();
/// Bytes of an id and of a type, at the most.
const MAX_NAME: usize = 255;
/// Says where to begin, so that no event can have it as its id.
const EARLIEST: &str = "earliest";

/// An update as it was sent.
#[derive(Debug, PartialEq, Eq)]
struct Update {
    topics: Vec<String>,
    data: String,
    private: bool,
    id: Option<String>,
    kind: Option<String>,
    retry: Option<Duration>,
}

pub(crate) async fn publish(mut request: Request, settings: &Settings) -> Result<Response, Error> {
    let access = credentials::access(&request, settings, &settings.publishers)
        .and_then(|access| access.ok_or(Refusal::Missing))
        .map_err(|refusal| refusal.error(&request))?;
    if !is_form(request.header("content-type")) {
        let detail = "an update is sent as application/x-www-form-urlencoded";
        return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail(detail));
    }
    let body = request.bytes(MAX_BODY).await?;
    let update = Update::read(&body)?;
    let hub = settings.hub(&request);
    if update.topics.iter().any(|topic| is_reserved(topic, &hub)) {
        let detail = format!("topics below {HUB} are the hub's own");
        return Err(Error::new(StatusCode::FORBIDDEN).detail(detail));
    }
    if !access.may_publish(&update.topics) {
        return Err(Refusal::InsufficientScope.error(&request));
    }
    let id = update.publication()?.await?;
    Response::text(id).with_header(header::CACHE_CONTROL, "no-store")
}

fn is_form(content_type: Option<&str>) -> bool {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether a topic, whatever its scheme and host, leads to a path of the hub (§ Publication of 1.0): a
/// publisher could otherwise announce subscribers that there are not.
fn is_reserved(topic: &str, hub: &Url) -> bool {
    let Ok(url) = hub.join(topic) else { return false };
    let path = unreserved_decoded(url.path());
    path.strip_prefix(HUB).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path whose encoded unreserved characters are as they are (RFC 3986 §6.2.2.2); dot segments are
/// gone already.
fn unreserved_decoded(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let byte = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.map(char::from) {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => {
                decoded.push(plain);
                rest = &rest[at + 3..];
            }
            _ => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

impl Update {
    /// Reads the form.
    ///
    /// # Errors
    /// 400 with what is wrong, 413 where something is too long.
    fn read(body: &[u8]) -> Result<Self, Error> {
        let fields = form(body).map_err(|error| match error {
            FormError::NotUtf8 => Error::bad_request("the fields of an update are UTF-8"),
            FormError::TooMany => too_large("fields"),
        })?;
        let mut update = Self {
            topics: Vec::new(),
            data: String::new(),
            private: false,
            id: None,
            kind: None,
            retry: None,
        };
        let mut seen = Vec::new();
        for (name, value) in fields {
            let once = matches!(name.as_str(), "data" | "id" | "type" | "retry");
            if once && seen.contains(&name) {
                return Err(Error::bad_request(format!("the field {name} comes once")));
            }
            match name.as_str() {
                "topic" => update.topics.push(value),
                "data" => update.data = value,
                // Its being there counts, not what it says.
                "private" => update.private = true,
                // An empty one, as forms send it, is none.
                "id" => update.id = Some(value).filter(|id| !id.is_empty()),
                "type" => update.kind = Some(value).filter(|kind| !kind.is_empty()),
                "retry" => update.retry = retry(&value)?,
                _ => {}
            }
            if once {
                seen.push(name);
            }
        }
        update.check()?;
        Ok(update)
    }

    fn check(&self) -> Result<(), Error> {
        if self.topics.is_empty() {
            return Err(Error::bad_request("an update has a topic"));
        }
        if self.topics.len() > MAX_TOPICS {
            return Err(too_large("topics"));
        }
        for topic in &self.topics {
            if topic.len() > MAX_TOPIC {
                return Err(too_large("characters in a topic"));
            }
            if topic.is_empty() || !is_protocol_string(topic) {
                let detail = "a topic has neither control nor format characters, and is not empty";
                return Err(Error::bad_request(detail));
            }
            // A matcher `*` is every topic: that one topic could not be told from all.
            if topic == matcher::EVERYTHING {
                return Err(Error::bad_request("the topic `*` is reserved"));
            }
        }
        for (name, value) in [("id", &self.id), ("type", &self.kind)] {
            let Some(value) = value else { continue };
            if value.len() > MAX_NAME {
                return Err(too_large("characters in a field"));
            }
            if !is_protocol_string(value) {
                let detail = format!("the field {name} has neither control nor format characters");
                return Err(Error::bad_request(detail));
            }
        }
        if self.id.as_deref().is_some_and(|id| id.starts_with('#') || id == EARLIEST) {
            return Err(Error::bad_request("an id neither begins with # nor is `earliest`"));
        }
        if self.kind.as_deref() == Some("mercure") {
            return Err(Error::bad_request("the type mercure is the hub's own"));
        }
        if self.data.len() > MAX_DATA {
            return Err(too_large("data"));
        }
        Ok(())
    }

    /// What the host publishes. An update without an id gets one that tells nothing of others.
    fn publication(self) -> Result<Publication, Error> {
        let Self { topics, data, private, id, kind, retry } = self;
        let id = match id {
            Some(id) => id,
            None => urn()?,
        };
        let mut event = Event::new(data).id(id);
        event.name = kind;
        event.retry = retry;
        let mut topics = topics.iter().map(|topic| format!("{WITHIN}{topic}"));
        let first = topics.next().unwrap_or_default();
        let publication = topics.fold(Publication::new(first, event), Publication::also);
        Ok(if private { publication.private() } else { publication })
    }
}

fn retry(text: &str) -> Result<Option<Duration>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::bad_request("retry is a number of milliseconds"));
    }
    // Who is to come back in more than 49 days comes back in 49 days.
    Ok(Some(Duration::from_millis(
        text.parse().map_or(u64::from(u32::MAX), |ms: u64| ms.min(u32::MAX.into())),
    )))
}

fn too_large(what: &str) -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE)
        .detail(format!("an update with too many or too long {what}"))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::settings::tests::read;
    use crate::testing::{answer, legacy_token, request};

    fn update(body: &str) -> Result<Update, u16> {
        Update::read(body.as_bytes()).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn an_update_has_topics_and_what_events_have() {
        let update =
            update("topic=a&topic=b&data=x%0Ay&private&id=urn%3Ax&type=t&retry=5&more=z").unwrap();

        assert_eq!(
            update,
            Update {
                topics: vec!["a".into(), "b".into()],
                data: "x\ny".into(),
                private: true,
                id: Some("urn:x".into()),
                kind: Some("t".into()),
                retry: Some(Duration::from_millis(5)),
            }
        );
    }

    #[test]
    fn what_could_forge_a_field_of_the_stream_is_refused() {
        for field in ["topic", "id", "type"] {
            for text in
                ["a%0Ab", "a%0Db", "a%00b", "a%7Fb", "a%C2%9Fb", "a%E2%80%AEb", "%EF%BB%BFa"]
            {
                let body = if field == "topic" {
                    format!("topic={text}")
                } else {
                    format!("topic=a&{field}={text}")
                };
                assert_eq!(update(&body), Err(400), "{body}");
            }
        }
        for body in [
            "",
            "data=x",
            "topic=",
            "topic=*",
            "topic=a&topic=*",
            "topic=a&id=%23x",
            "topic=a&id=earliest",
            "topic=a&retry=-1",
            "topic=a&retry=1.5",
            "topic=a&retry=1%0A",
            "topic=a&type=mercure",
            "topic=%ff",
            "topic=a&id=1&id=2",
            "topic=a&type=x&type=y",
        ] {
            assert_eq!(update(body), Err(400), "{body}");
        }
    }

    #[test]
    fn what_is_too_long_is_413() {
        let long = "x".repeat(2000);
        for body in [
            format!("topic={long}"),
            format!("topic=a&id={long}"),
            format!("topic=a&type={long}"),
            "topic=a&".repeat(18),
            format!("topic=a&data={}", "x".repeat(MAX_DATA + 1)),
            "a&".repeat(1001),
        ] {
            assert_eq!(update(&body).unwrap_err(), 413, "{}", &body[..20]);
        }
        assert_eq!(
            update("topic=a&retry=99999999999999999999").unwrap().retry,
            Some(Duration::from_millis(u32::MAX.into()))
        );
    }

    #[test]
    fn paths_of_the_hub_are_reserved_however_they_are_written() {
        let base = Url::parse("https://hub.example.com/.well-known/mercure").unwrap();
        for topic in [
            "/.well-known/mercure",
            "/.well-known/mercure/subscriptions/x",
            "https://hub.example.com/.well-known/mercure/subscriptions/x",
            "http://other.example/.well-known/mercure/x",
            "HTTPS://hub.example.com:443/.well-known/mercure",
            "/.well-known/%6Dercure/x",
            "/%2Ewell-known/mercure",
            "/.well-known/mercure/../mercure/x",
            "/a/%2e%2e/.well-known/mercure",
            "/.well-known\\mercure/x",
            "mercure/x",
            "//x/.well-known/mercure",
            "foo:/.well-known/mercure/x",
            " /.well-known/mercure/x",
            "?a",
        ] {
            assert!(is_reserved(topic, &base), "{topic}");
        }
        for topic in [
            "/.well-known/mercurex",
            "/.well-known/mercure%2Fx",
            "a",
            "https://[x",
            "/x/.well-known/mercure",
        ] {
            assert!(!is_reserved(topic, &base), "{topic}");
        }
    }

    #[test]
    fn who_may_not_publish_is_refused_before_the_body_counts() {
        let settings = read(&[]).unwrap();
        let form = ("content-type", "application/x-www-form-urlencoded");
        let bearer = |claims: &str| format!("Bearer {}", legacy_token(claims));
        let all = bearer(r#"{"mercure":{"publish":["*"]}}"#);
        let some = bearer(r#"{"mercure":{"publish":["a"]}}"#);
        let none = bearer(r#"{"mercure":{"subscribe":["*"]}}"#);
        for (token, kind, body, status) in [
            (None, form.1, "topic=a", 401),
            (Some("Bearer x"), form.1, "topic=a", 401),
            (Some(none.as_str()), form.1, "topic=a", 403),
            (Some(some.as_str()), form.1, "topic=b", 403),
            (Some(some.as_str()), form.1, "topic=a&topic=b", 403),
            (Some(all.as_str()), form.1, "topic=/.well-known/mercure/x", 403),
            (Some(all.as_str()), "application/json", "topic=a", 415),
            (Some(all.as_str()), form.1, "", 400),
            // There is no host to publish it.
            (
                Some(all.as_str()),
                "application/x-www-form-urlencoded; charset=UTF-8",
                "topic=a",
                500,
            ),
        ] {
            let mut fields = vec![("content-type", kind)];
            fields.extend(token.map(|token| ("authorization", token)));
            let response =
                answer(request(Method::POST, "/.well-known/mercure", &fields, body), &settings);

            assert_eq!(response.status(), status, "{token:?} {body}");
            let challenged = response.header("www-authenticate").is_some();
            assert_eq!(
                challenged,
                matches!(status, 401 | 403) && !body.contains("well-known"),
                "{body}"
            );
        }
    }
}
