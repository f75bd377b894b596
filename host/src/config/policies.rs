//! Named cache policies: a name stands for a `Cache-Control` text. Those of [`wharf_cache::policy::NAMED`]
//! are always there; `wharf.toml` and each plugin's manifest add to them, and theirs prevail.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_cache::policy::NAMED;
use wharf_cache::{Policies, Policy};

use super::nearest_key;

/// Most policies that one file may name.
pub const MAX_POLICIES: usize = 256;
/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest text of a policy, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

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
    /// The text is too long.
    #[error("longer than {MAX_TEXT_BYTES} bytes")]
    TooLong,
    /// The text is no policy.
    #[error("{0}")]
    Text(wharf_cache::policy::PolicyError),
    /// More than [`MAX_POLICIES`].
    #[error("more than {MAX_POLICIES} policies")]
    TooMany,
}

/// Policies by their names; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NamedPolicies(Arc<Policies>);

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
        let mut policies = Policies::clone(&self.0);
        for (name, text) in added {
            let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
                return Err((name.clone(), PolicyError::Name(name.clone())));
            }
            let policy = parse(text).map_err(|error| (name.clone(), error))?;
            policies.insert(name, policy);
        }
        Ok(Self(Arc::new(policies)))
    }

    /// The policy of that name; underscores count as hyphens.
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.0.find(name)
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
        parse(written).map_err(|error| {
            // One word is rather a name than a directive.
            let is_word = !written.is_empty() && !written.contains(['=', ',', ' ', '"']);
            match error {
                PolicyError::Text(wharf_cache::policy::PolicyError::Unknown { .. }) if is_word => {
                    self.unknown(written)
                }
                error => error,
            }
        })
    }

    /// Names and policies, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.0.iter()
    }

    /// That nothing is called `name`, with the nearest that something is called.
    pub fn unknown(&self, name: &str) -> PolicyError {
        let names = self.0.iter().map(|(name, _)| name);
        let hint = match nearest_key(name, names) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let names: Vec<&str> = self.0.iter().map(|(name, _)| name).collect();
                format!("known here: {}", names.join(", "))
            }
        };
        PolicyError::Unknown { name: name.to_owned(), hint }
    }

    /// Those that were added, as TOML would have them.
    pub fn added(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.iter().filter(|(name, policy)| !NAMED.contains(&(*name, policy.text())))
    }
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(PolicyError::TooLong);
    }
    Policy::parse(text).map_err(PolicyError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
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
            ("Max-Age=5", "max-age=5"),
            ("private=\"set-cookie, x-a\", max-age=60", "private=\"set-cookie, x-a\", max-age=60"),
        ] {
            assert_eq!(policies.resolve(written).unwrap().text(), text, "{written}");
        }
        assert_eq!(own.resolve("day").unwrap().text(), "max-age=86400");
        assert_eq!(own.resolve("static").unwrap().text(), "max-age=1");
        let names: Vec<&str> = own.added().map(|(name, _)| name).collect();
        assert_eq!((own.iter().count(), names), (NAMED.len() + 1, vec!["day", "static"]));
    }

    #[test]
    fn mistakes_are_told_with_what_was_probably_meant() {
        let policies = NamedPolicies::default();
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        for (written, told) in [
            ("sttic", "no policy is called \"sttic\" (did you mean \"static\"?)"),
            ("weekly", "known here: dynamic, frequently-updated"),
            ("", "at least one directive"),
            ("max-age=1h", "max-age=60"),
            ("max-aeg=60", "did you mean \"max-age\"?"),
            ("public=1", "takes no argument"),
            (&long, "longer than 1024 bytes"),
        ] {
            let error = policies.resolve(written).unwrap_err().to_string();
            assert!(error.contains(told), "{written}: {error}");
        }
        let (name, error) = policies.with(&added(&[("Day", "max-age=1")])).unwrap_err();
        assert!(name == "Day" && error.to_string().contains("lower-case"), "{error}");
    }
}
