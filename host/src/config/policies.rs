//! Named cache policies: a name stands for a `Cache-Control` text. Those of [`BUILT_IN`] are always
//! there; `wharf.toml` and each plugin's manifest add to them, and theirs prevail.
//!
//! A text is checked when it is read, harder than RFC 9111 §5.2 asks of a recipient: a directive that
//! is nearly a known one is a mistake, not an extension.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::nearest_key;

/// Names that always stand for something. The first five are the classes of data by how often they
/// change, the others combinations for data that changes all the time.
pub const BUILT_IN: [(&str, &str); 10] = [
    ("static", "public, max-age=86400, immutable"),
    ("semi-static", "public, max-age=3600"),
    ("dynamic", "private, max-age=300"),
    ("realtime", "no-cache, max-age=30"),
    ("sensitive", "no-store, no-cache"),
    ("ultra-fresh", "max-age=1, must-revalidate"),
    ("frequently-updated", "no-cache, max-age=30"),
    ("user-specific", "private, max-age=60, must-revalidate"),
    ("public-realtime", "public, max-age=300, stale-while-revalidate=900"),
    ("sensitive-realtime", "no-store, no-cache, must-revalidate"),
];
/// Most policies that one file may name.
pub const MAX_POLICIES: usize = 256;
/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest text of a policy, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// What a directive's argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    None,
    Seconds,
    /// A list of field names, or nothing.
    Fields,
}

/// Response directives: RFC 9111 §5.2.2, RFC 5861, RFC 8246.
const DIRECTIVES: [(&str, Argument); 13] = [
    ("max-age", Argument::Seconds),
    ("s-maxage", Argument::Seconds),
    ("stale-while-revalidate", Argument::Seconds),
    ("stale-if-error", Argument::Seconds),
    ("public", Argument::None),
    ("private", Argument::Fields),
    ("no-cache", Argument::Fields),
    ("no-store", Argument::None),
    ("no-transform", Argument::None),
    ("must-revalidate", Argument::None),
    ("proxy-revalidate", Argument::None),
    ("must-understand", Argument::None),
    ("immutable", Argument::None),
];

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a name.
    #[error(
        "\"{0}\" is not a name: lower-case letters, digits and hyphens, at most {MAX_NAME_BYTES}"
    )]
    Name(String),
    /// Nothing is called so.
    #[error("no policy is called \"{name}\" ({hint})")]
    Unknown {
        /// As written.
        name: String,
        /// What it may have meant.
        hint: String,
    },
    /// The text says nothing.
    #[error("a policy says something: write a name, or text such as \"public, max-age=60\"")]
    Empty,
    /// The text is too long, or cannot stand in a field.
    #[error("it is not a field value of at most {MAX_TEXT_BYTES} bytes")]
    Text,
    /// A directive is not written as it must be.
    #[error("`{directive}`: {cause}")]
    Directive {
        /// As written.
        directive: String,
        /// What is wrong with it.
        cause: String,
    },
    /// More than [`MAX_POLICIES`].
    #[error("more than {MAX_POLICIES} policies")]
    TooMany,
}

/// A checked `Cache-Control` text.
#[derive(Clone, PartialEq, Eq)]
pub struct Policy(HeaderValue);

impl Policy {
    /// Reads a text, not a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(PolicyError::Empty);
        }
        if text.len() > MAX_TEXT_BYTES || !text.is_ascii() {
            return Err(PolicyError::Text);
        }
        let value = HeaderValue::from_str(text).map_err(|_| PolicyError::Text)?;
        let mut seen: Vec<String> = Vec::new();
        for directive in directives(text) {
            let name = check_directive(directive).map_err(|cause| PolicyError::Directive {
                directive: directive.to_owned(),
                cause,
            })?;
            if seen.contains(&name) {
                let cause = "it is there twice".to_owned();
                return Err(PolicyError::Directive { directive: name, cause });
            }
            seen.push(name);
        }
        Ok(Self(value))
    }

    /// The value of `Cache-Control`.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The value of `Cache-Control` as text.
    pub fn as_str(&self) -> &str {
        // Only visible ASCII is let in.
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Policies by their names; cheap to clone.
#[derive(Clone, Debug)]
pub struct NamedPolicies(Arc<BTreeMap<Box<str>, Policy>>);

impl Default for NamedPolicies {
    /// [`BUILT_IN`].
    fn default() -> Self {
        let policy = |text| Policy(HeaderValue::from_static(text));
        let built_in = BUILT_IN.into_iter();
        Self(Arc::new(built_in.map(|(name, text)| (name.into(), policy(text))).collect()))
    }
}

impl NamedPolicies {
    /// These and `added`, which prevail.
    ///
    /// # Errors
    /// The name of the one that is refused, and why.
    pub fn with(&self, added: &BTreeMap<String, String>) -> Result<Self, (String, PolicyError)> {
        if added.is_empty() {
            return Ok(self.clone());
        }
        if let Some((name, _)) = added.iter().nth(MAX_POLICIES) {
            return Err((name.clone(), PolicyError::TooMany));
        }
        let mut policies = BTreeMap::clone(&self.0);
        for (name, text) in added {
            let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
                return Err((name.clone(), PolicyError::Name(name.clone())));
            }
            let policy = Policy::parse(text).map_err(|error| (name.clone(), error))?;
            policies.insert(name.as_str().into(), policy);
        }
        Ok(Self(Arc::new(policies)))
    }

    /// The policy of that name; underscores count as hyphens.
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.0.get(name).or_else(|| self.0.get(name.replace('_', "-").as_str()))
    }

    /// A name, or the text itself.
    ///
    /// # Errors
    /// It is neither.
    pub fn resolve(&self, written: &str) -> Result<Policy, PolicyError> {
        let written = written.trim();
        if let Some(policy) = self.get(written) {
            return Ok(policy.clone());
        }
        let known = |name| DIRECTIVES.iter().any(|(directive, _)| *directive == name);
        let one_word = !written.is_empty() && !written.contains(['=', ',', ' ', '"']);
        if one_word && !known(written.to_ascii_lowercase().as_str()) {
            return Err(self.unknown(written));
        }
        Policy::parse(written)
    }

    /// Names and texts, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.0.iter().map(|(name, policy)| (&**name, policy))
    }

    /// That nothing is called `name`, with the nearest that something is called.
    pub fn unknown(&self, name: &str) -> PolicyError {
        let names = self.0.keys().map(|name| &**name);
        let hint = match nearest_key(name, names.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known here: {}", names.collect::<Vec<_>>().join(", ")),
        };
        PolicyError::Unknown { name: name.to_owned(), hint }
    }
}

/// Splits at the commas outside of quotes; empty elements are left out (RFC 9110 §5.6.1).
fn directives(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == ',' && !quoted,
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// The directive's name in lower case, or what is wrong with it.
fn check_directive(directive: &str) -> Result<String, String> {
    let (name, argument) = match directive.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (directive, None),
    };
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err("a directive is a word, or a word, `=` and a value".to_owned());
    }
    let name = name.to_ascii_lowercase();
    let Some((_, kind)) = DIRECTIVES.iter().find(|(known, _)| *known == name) else {
        let known = DIRECTIVES.iter().map(|(known, _)| *known);
        return match nearest_key(&name, known) {
            Some(near) => Err(format!("did you mean `{near}`?")),
            // RFC 9111 §5.2.3: others may know what we do not.
            None if argument.is_none_or(is_value) => Ok(name),
            None => Err("its value is neither a word nor in quotes".to_owned()),
        };
    };
    match (kind, argument) {
        (Argument::None, None) | (Argument::Fields, None) => Ok(name),
        (Argument::None, Some(_)) => Err("it takes no value".to_owned()),
        (Argument::Seconds, Some(digits))
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(name)
        }
        (Argument::Seconds, _) => Err(format!("write whole seconds, as in `{name}=60`")),
        (Argument::Fields, Some(fields)) if is_quoted(fields) => Ok(name),
        (Argument::Fields, Some(_)) => {
            Err(format!("field names stand in quotes, as in `{name}=\"set-cookie\"`"))
        }
    }
}

fn is_value(value: &str) -> bool {
    is_quoted(value) || (!value.is_empty() && value.bytes().all(is_token_byte))
}

fn is_quoted(value: &str) -> bool {
    value.len() >= 2 && value.starts_with('"') && value.ends_with('"')
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_is_built_in_would_also_be_read() {
        for (name, text) in BUILT_IN {
            assert_eq!(Policy::parse(text).unwrap().as_str(), text, "{name}");
            let policies = NamedPolicies::default().with(&added(&[(name, text)]));
            assert_eq!(policies.unwrap().get(name).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_policy_is_a_name_or_a_text() {
        let policies = NamedPolicies::default();
        let own = policies.with(&added(&[("day", "max-age=86400"), ("static", "max-age=1")]));
        let own = own.unwrap();

        for (written, text) in [
            ("semi-static", "public, max-age=3600"),
            ("semi_static", "public, max-age=3600"),
            (" realtime ", "no-cache, max-age=30"),
            ("no-store", "no-store"),
            ("Max-Age=5, x=\"a,b\"", "Max-Age=5, x=\"a,b\""),
            ("private=\"set-cookie, x-a\", max-age=60", "private=\"set-cookie, x-a\", max-age=60"),
        ] {
            assert_eq!(policies.resolve(written).unwrap().as_str(), text, "{written}");
        }
        assert_eq!(own.resolve("day").unwrap().as_str(), "max-age=86400");
        assert_eq!(own.resolve("static").unwrap().as_str(), "max-age=1");
        assert!(own.iter().count() == BUILT_IN.len() + 1);
    }

    #[test]
    fn mistakes_are_told_with_what_was_probably_meant() {
        let policies = NamedPolicies::default();
        for (written, told) in [
            ("sttic", "no policy is called \"sttic\" (did you mean \"static\"?)"),
            ("weekly", "known here: dynamic, frequently-updated"),
            ("", "says something"),
            ("max-age", "`max-age`: write whole seconds, as in `max-age=60`"),
            ("max-age=1h", "whole seconds"),
            ("max-age=-1", "whole seconds"),
            ("max-aeg=60", "did you mean `max-age`?"),
            ("public=1", "it takes no value"),
            ("no-cache=set-cookie", "in quotes"),
            ("public max-age=60", "a directive is a word"),
            ("max-age=1, max-age=2", "there twice"),
            ("public,\nx", "not a field value"),
            ("x=\"", "neither a word nor in quotes"),
        ] {
            let error = policies.resolve(written).unwrap_err().to_string();
            assert!(error.contains(told), "{written}: {error}");
        }
        let (name, error) = policies.with(&added(&[("Day", "max-age=1")])).unwrap_err();
        assert!(name == "Day" && error.to_string().contains("lower-case"), "{error}");
    }
}
