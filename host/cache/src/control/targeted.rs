//! Targeted fields (RFC 9213): dictionaries of structured fields (RFC 9651).
//!
//! Of a key that comes twice the last counts. The type of each known directive is inferred from its
//! grammar (§2.1); where it is another, the field is not used.

use std::convert::Infallible;
use std::time::Duration;

use http::HeaderValue;
use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef};

use super::{CacheControl, Qualified};
use crate::date::MAX_DELTA_SECONDS;

/// A longer field is not read.
const MAX_BYTES: usize = 8 * 1024;

/// Reads the lines of one targeted field. Nothing where it is not there, is empty or has an error.
pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Option<CacheControl> {
    let mut lines = lines.into_iter();
    let first = lines.next()?;
    let joined;
    let mut text = first.as_bytes();
    if let Some(second) = lines.next() {
        let mut all = [text, second.as_bytes()].join(&b", "[..]);
        for line in lines {
            if all.len() > MAX_BYTES {
                return None;
            }
            all.extend_from_slice(b", ");
            all.extend_from_slice(line.as_bytes());
        }
        joined = all;
        text = &joined;
    }
    if text.len() > MAX_BYTES {
        return None;
    }
    sfv::Parser::new(text).parse_dictionary_with_visitor(Reader::default()).ok()?
}

/// A directive's value, where its type is one that the directive may have.
#[derive(Clone, Debug)]
enum Value {
    Flag(bool),
    Seconds(Duration),
    Names(Qualified),
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flag,
    Seconds,
    Names,
}

/// The directives that a response may have, in the order of [`Reader::values`].
const KNOWN: [(&str, Kind); 13] = [
    ("max-age", Kind::Seconds),
    ("s-maxage", Kind::Seconds),
    ("stale-while-revalidate", Kind::Seconds),
    ("stale-if-error", Kind::Seconds),
    ("no-cache", Kind::Names),
    ("private", Kind::Names),
    ("no-store", Kind::Flag),
    ("public", Kind::Flag),
    ("must-revalidate", Kind::Flag),
    ("proxy-revalidate", Kind::Flag),
    ("must-understand", Kind::Flag),
    ("no-transform", Kind::Flag),
    ("immutable", Kind::Flag),
];

#[derive(Default)]
struct Reader {
    values: [Option<Value>; KNOWN.len()],
    members: usize,
}

impl<'de> DictionaryVisitor<'de> for Reader {
    type Out = Option<CacheControl>;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.members += 1;
        let known = KNOWN.iter().position(|(name, _)| key.as_str() == *name);
        Ok(known.map(|at| Entry { kind: KNOWN[at].1, value: &mut self.values[at] }))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        // RFC 9213 §2.1: an empty field is ignored.
        if self.members == 0 || self.values.iter().any(|value| matches!(value, Some(Value::Wrong)))
        {
            return Ok(None);
        }
        let [
            max_age,
            s_maxage,
            while_revalidating,
            if_error,
            no_cache,
            private,
            no_store,
            public,
            must_revalidate,
            proxy_revalidate,
            must_understand,
            no_transform,
            immutable,
        ] = self.values;
        Ok(Some(CacheControl {
            max_age: seconds(max_age.as_ref()),
            s_maxage: seconds(s_maxage.as_ref()),
            no_store: flag(no_store.as_ref()),
            no_cache: names(no_cache),
            private: names(private),
            public: flag(public.as_ref()),
            must_revalidate: flag(must_revalidate.as_ref()),
            proxy_revalidate: flag(proxy_revalidate.as_ref()),
            must_understand: flag(must_understand.as_ref()),
            no_transform: flag(no_transform.as_ref()),
            immutable: flag(immutable.as_ref()),
            stale_while_revalidate: seconds(while_revalidating.as_ref()),
            stale_if_error: seconds(if_error.as_ref()),
        }))
    }
}

struct Entry<'a> {
    kind: Kind,
    value: &'a mut Option<Value>,
}

impl<'de> EntryVisitor<'de> for Entry<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        *self.value = Some(Value::Wrong);
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Entry<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        *self.value = Some(match (self.kind, item) {
            (Kind::Flag, BareItemFromInput::Boolean(flag)) => Value::Flag(flag),
            (Kind::Seconds, BareItemFromInput::Integer(seconds)) => {
                let seconds = i64::from(seconds).clamp(0, MAX_DELTA_SECONDS.into());
                Value::Seconds(Duration::from_secs(seconds.unsigned_abs()))
            }
            (Kind::Names, BareItemFromInput::Boolean(true)) => Value::Names(Qualified::Whole),
            (Kind::Names, BareItemFromInput::Boolean(false)) => Value::Names(Qualified::Absent),
            (Kind::Names, BareItemFromInput::String(list)) => {
                Value::Names(Qualified::of_list(list.as_str().as_bytes()))
            }
            (Kind::Names, BareItemFromInput::Token(name)) => {
                Value::Names(Qualified::of_list(name.as_str().as_bytes()))
            }
            _ => Value::Wrong,
        });
        // Parameters are ignored (§2.1).
        Ok(Ignored)
    }
}

fn seconds(value: Option<&Value>) -> Option<Duration> {
    match value {
        Some(Value::Seconds(seconds)) => Some(*seconds),
        _ => None,
    }
}

fn flag(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Flag(true)))
}

fn names(value: Option<Value>) -> Qualified {
    match value {
        Some(Value::Names(names)) => names,
        _ => Qualified::Absent,
    }
}
