//! Events, and the ids that give each its place.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::frame;
use crate::topic::{Topic, TopicError};

/// Topics of one event beside its first.
pub const MAX_ALTERNATES: usize = 16;
/// Bytes of an event's data.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// Bytes of an event's own id, or of its name.
pub const MAX_FIELD_BYTES: usize = 255;
/// Fields of an event, and their bytes together.
pub const MAX_FIELDS: usize = 16;
/// See [`MAX_FIELDS`].
pub const MAX_FIELDS_BYTES: usize = 4096;

/// One run of the hub: ids of another run say nothing about what was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run(pub u32);

/// A place in the order of publication.
///
/// Durable events are ordered when they are on disk, the others at once, so each kind counts for
/// itself, and a place is what was delivered of both: whoever has got the event with this id has got
/// every durable one up to `durable` and every other one of this run up to `volatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The run that delivered it.
    pub run: Run,
    /// Durable events so far, over all runs.
    pub durable: u64,
    /// Other events so far, in this run.
    pub volatile: u64,
}

impl EventId {
    /// Grows with every event of a run.
    pub fn serial(&self) -> u64 {
        self.durable + self.volatile
    }

    /// The place of whoever has got all that is before either.
    #[must_use]
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            run: other.run,
            durable: self.durable.max(other.durable),
            volatile: self.volatile.max(other.volatile),
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| {
            let plain = !part.is_empty()
                && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            plain.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        });
        let (run, durable, volatile) = (parts.next()??, parts.next()??, parts.next()??);
        // Far from where the sum of both would wrap.
        let sound =
            parts.next().is_none() && durable <= i64::MAX as u64 && volatile <= i64::MAX as u64;
        let run = Run(u32::try_from(run).ok()?);
        sound.then_some(Self { run, durable, volatile })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.run.0, self.durable, self.volatile)
    }
}

/// What an event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// UTF-8.
    Text(Bytes),
    /// Anything.
    Binary(Bytes),
}

impl Payload {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// The bytes of either.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// An event that has no place yet, checked.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where it goes, and where else.
    pub(crate) topic: Topic,
    pub(crate) alternates: Box<[Topic]>,
    pub(crate) content: Content,
    pub(crate) private: bool,
    pub(crate) except: Option<SubscriberId>,
}

/// What the publisher says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The publisher's own id.
    pub id: Option<Box<str>>,
    /// The name; none means `message`.
    pub name: Option<Box<str>>,
    /// What it carries.
    pub data: Payload,
    /// How long a client waits before it comes back, in milliseconds.
    pub retry: Option<u32>,
    /// Header fields of a long poll's answer.
    pub fields: Box<[(Box<str>, Box<str>)]>,
}

/// Why something is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// One of its topics is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A part cannot be so; which and why.
    #[error("{part}: {cause}")]
    Invalid {
        /// Which.
        part: &'static str,
        /// Why.
        cause: &'static str,
    },
    /// Its data has more than [`MAX_DATA_BYTES`].
    #[error("the data of an event has at most {MAX_DATA_BYTES} bytes")]
    TooLarge,
}

impl Content {
    /// Text without anything else.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            id: None,
            name: None,
            data: Payload::text(text),
            retry: None,
            fields: Box::default(),
        }
    }

    /// Whether an event may be so: nothing in it can begin another field or line.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), EventError> {
        let wrong = |part, cause| Err(EventError::Invalid { part, cause });
        for (part, value) in [("id", &self.id), ("name", &self.name)] {
            let Some(value) = value else { continue };
            if value.is_empty() || value.len() > MAX_FIELD_BYTES {
                return wrong(part, "has 1 to 255 bytes");
            }
            if value.contains(char::is_control) {
                return wrong(part, "has no control characters");
            }
        }
        if self.id.as_ref().is_some_and(|id| id.starts_with('#')) {
            return wrong("id", "does not begin with `#`");
        }
        if self.data.bytes().len() > MAX_DATA_BYTES {
            return Err(EventError::TooLarge);
        }
        if let Payload::Text(text) = &self.data
            && std::str::from_utf8(text).is_err()
        {
            return wrong("data", "is not UTF-8");
        }
        let bytes: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.fields.len() > MAX_FIELDS || bytes > MAX_FIELDS_BYTES {
            return wrong("fields", "are at most 16, with 4 KiB together");
        }
        Ok(())
    }
}

impl Draft {
    /// Checks what is to be published.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(topic: Topic, alternates: Vec<Topic>, content: Content) -> Result<Self, EventError> {
        content.check()?;
        if alternates.len() > MAX_ALTERNATES {
            let cause = "are at most 16";
            return Err(EventError::Invalid { part: "alternates", cause });
        }
        Ok(Self { topic, alternates: alternates.into(), content, private: false, except: None })
    }

    /// The same, only for those who may see private events of its topics.
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// The same, but not for this subscriber.
    #[must_use]
    pub fn except(mut self, subscriber: Option<SubscriberId>) -> Self {
        self.except = subscriber;
        self
    }

    /// Where it goes first.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// All its topics.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::once(&self.topic).chain(&self.alternates)
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether it is private.
    pub fn is_private(&self) -> bool {
        self.private
    }
}

/// Names a subscriber: 128 random bits, in hexadecimal where it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub u128);

impl SubscriberId {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscriberId(..)")
    }
}

/// An event that has its place.
#[derive(Debug)]
pub struct Event {
    id: EventId,
    durable: bool,
    published_at: u64,
    draft: Draft,
    weight: usize,
    /// As an event stream has it; made when the first one wants it, then shared by all.
    frame: OnceLock<Bytes>,
    /// As others have it, likewise.
    form: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Event {
    pub(crate) fn new(id: EventId, durable: bool, published_at: u64, draft: Draft) -> Arc<Self> {
        Arc::new(Self {
            id,
            durable,
            published_at,
            weight: weight(&draft),
            draft,
            frame: OnceLock::new(),
            form: OnceLock::new(),
        })
    }

    /// Its place.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its id as subscribers get it: the publisher's own, or its place.
    pub fn id_text(&self) -> String {
        match &self.draft.content.id {
            Some(own) => own.to_string(),
            None => self.id.to_string(),
        }
    }

    /// Its place among those of its kind.
    pub(crate) fn count(&self) -> u64 {
        if self.durable { self.id.durable } else { self.id.volatile }
    }

    /// The place before it.
    pub(crate) fn before(&self) -> EventId {
        let EventId { run, durable, volatile } = self.id;
        let (d, v) = (u64::from(self.durable), u64::from(!self.durable));
        EventId { run, durable: durable - d, volatile: volatile - v }
    }

    /// Whether it is on disk.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// When it was published: milliseconds since 1970.
    pub fn published_at(&self) -> u64 {
        self.published_at
    }

    /// Its first topic.
    pub fn topic(&self) -> &Topic {
        &self.draft.topic
    }

    /// All its topics.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.draft.topics()
    }

    /// What the publisher said.
    pub fn content(&self) -> &Content {
        &self.draft.content
    }

    /// Whether only those get it who may.
    pub fn is_private(&self) -> bool {
        self.draft.private
    }

    /// Who does not get it.
    pub fn except(&self) -> Option<SubscriberId> {
        self.draft.except
    }

    /// As an event stream has it, its id among it.
    pub fn frame(&self) -> &Bytes {
        self.frame.get_or_init(|| frame::event(&self.draft.content, Some(&self.id_text())))
    }

    /// As another protocol has it: made by `make` when the first one wants it, then shared by all. There
    /// is room for one such form; another type is made anew each time.
    pub fn form<T: Any + Send + Sync>(&self, make: impl Fn(&Self) -> T) -> Arc<T> {
        let form = self.form.get_or_init(|| Arc::new(make(self)));
        Arc::clone(form).downcast().unwrap_or_else(|_another| Arc::new(make(self)))
    }

    /// About what it costs in memory, without its frame and form, which are there while it is sent.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

fn weight(draft: &Draft) -> usize {
    const OVERHEAD: usize = 256;
    /// Of one header field of an answer.
    const FIELD: usize = 32;
    let Content { id, name, data, fields, .. } = &draft.content;
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    let topics: usize = draft.topics().map(|topic| topic.as_str().len()).sum();
    // Twice: whoever publishes it under its own id is found by it.
    let own = 2 * text(id) + text(name);
    let fields: usize = fields.iter().map(|(name, value)| FIELD + name.len() + value.len()).sum();
    OVERHEAD + topics + own + fields + data.bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for (run, durable, volatile) in [(0, 0, 0), (u32::MAX, 1, 2), (7, i64::MAX as u64, 0)] {
            let id = EventId { run: Run(run), durable, volatile };

            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
        for text in [
            "",
            "-",
            "--",
            "1-2",
            "1-2-3-4",
            "1-2-",
            "-1-2-3",
            "+1-2-3",
            "1-2-x",
            "1-2-3 ",
            "A-2-3",
            "100000000-0-0",
            "1-8000000000000000-0",
            "1-0-ffffffffffffffff",
            "1-2-00000000000000000001-",
            "1-11111111111111111-0",
            "\u{661}-0-0",
        ] {
            assert_eq!(EventId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn nothing_of_an_event_can_break_a_line() {
        for value in ["", "a\nb", "a\rb", "a\0b", "a\u{7f}", "a\u{85}b", &"x".repeat(256)] {
            for part in ["id", "name"] {
                let mut content = Content::text("x");
                let field = if part == "id" { &mut content.id } else { &mut content.name };
                *field = Some(value.into());

                let refused = content.check();

                assert!(
                    matches!(refused, Err(EventError::Invalid { part: named, .. }) if named == part),
                    "{part} {value:?}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let fields = |count: usize, length: usize| Content {
            fields: (0..count).map(|_| ("x".into(), "y".repeat(length).into())).collect(),
            ..Content::text("")
        };
        let data = |length: usize| Content::text("x".repeat(length));
        for (content, fits) in [
            (data(MAX_DATA_BYTES), true),
            (data(MAX_DATA_BYTES + 1), false),
            (fields(16, 10), true),
            (fields(17, 10), false),
            (fields(1, 4096), false),
        ] {
            assert_eq!(content.check().is_ok(), fits, "{} fields", content.fields.len());
        }
        let topic = Topic::parse("a").unwrap();
        let alternates = |count| vec![topic.clone(); count];
        assert!(Draft::new(topic.clone(), alternates(16), data(0)).is_ok());
        assert!(Draft::new(topic.clone(), alternates(17), data(0)).is_err());
    }

    #[test]
    fn all_that_an_event_holds_is_weighed() {
        let place = EventId { run: Run(1), durable: 0, volatile: 1 };
        let weight = |content: Content| {
            let draft = Draft::new(Topic::parse("a").unwrap(), Vec::new(), content).unwrap();
            Event::new(place, false, 0, draft).weight()
        };
        let fields = Box::new([("x".into(), "y".repeat(4000).into())]);

        let plain = weight(Content::text(""));

        assert!(weight(Content { fields, ..Content::text("") }) >= plain + 4000);
        assert!(
            weight(Content { id: Some("i".repeat(255).into()), ..Content::text("") })
                >= plain + 510
        );
        assert_eq!(weight(Content::text("x".repeat(1000))), plain + 1000);
    }
}
