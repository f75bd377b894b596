//! Faults in TOML files, told by file, line and cause: `wharf.toml:12: unknown key `htttp` (did you
//! mean `http`?)`. `wharf.toml` and plugin manifests share it.

use toml::de::Error;

/// What is wrong in a TOML file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TomlFault {
    /// The file, as it is to be told.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The cause, without its place.
    pub message: String,
}

/// Reads `text` into a serde struct that denies unknown fields.
///
/// # Errors
/// [`TomlFault`] with the line and, for an unknown key, the nearest known one.
pub fn parse_toml<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlFault> {
    toml::from_str(text).map_err(|error| toml_fault(file, text, &error))
}

/// Tells `error`, which came from reading `text`, by line and cause.
pub fn toml_fault(file: &str, text: &str, error: &Error) -> TomlFault {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    let message = unknown_key(error.message()).unwrap_or_else(|| match key_of_value(text, at) {
        Some(key) => format!("`{key}`: {}", error.message()),
        None => error.message().to_owned(),
    });
    TomlFault { file: file.to_owned(), line, message }
}

/// The key whose value has the byte `at`; none where that is not a value on the line of its key.
fn key_of_value(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    Some(line.split_once('=')?.0.trim())
}

/// The known key that `written` is most likely meant to be, if one is near.
pub fn nearest_key<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Underscores for hyphens are not a spelling mistake but a habit of other tools.
    let written = written.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|key| (strsim::damerau_levenshtein(&written, key), key))
        .filter(|(distance, key)| *distance <= (key.len().max(written.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// "unknown key `htttp` (did you mean `http`?)"; with nothing near, the known keys are listed.
pub fn unknown_key_message(written: &str, known: &[&str]) -> String {
    if let Some(near) = nearest_key(written, known.iter().copied()) {
        return format!("unknown key `{written}` (did you mean `{near}`?)");
    }
    let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    format!("unknown key `{written}` (known here: {})", known.join(", "))
}

/// Serde says "unknown field `x`, expected one of `a`, `b`" (`serde::de::Error::unknown_field`):
/// its names are the only place where the keys known at this level can be had.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (written, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(unknown_key_message(written, &known))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::units::{DurationValue, SizeValue};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only the errors of reading it are looked at")]
    struct Sample {
        http: Option<String>,
        tls_cert: Option<String>,
        limits: Option<SampleLimits>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only the errors of reading it are looked at")]
    struct SampleLimits {
        body: Option<SizeValue>,
        request_timeout: Option<DurationValue>,
    }

    fn fault(text: &str) -> String {
        parse_toml::<Sample>("wharf.toml", text).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            fault("# a comment\nhtttp = \"off\"\n"),
            "wharf.toml:2: unknown key `htttp` (did you mean `http`?)"
        );
        assert_eq!(
            fault("[limits]\nrequest_timeout = \"1s\"\n"),
            "wharf.toml:2: unknown key `request_timeout` (did you mean `request-timeout`?)"
        );
        assert_eq!(
            fault("colour = 1"),
            "wharf.toml:1: unknown key `colour` (known here: `http`, `tls-cert`, `limits`)"
        );
    }

    #[test]
    fn a_bad_value_is_told_with_its_line_and_the_right_spelling() {
        assert_eq!(
            fault("[limits]\nrequest-timeout = 30\n"),
            "wharf.toml:2: `request-timeout`: `30` has no unit: write \"30s\" for seconds, or use ms, m, h or d"
        );
        assert_eq!(
            fault("\n\n[limits]\nbody = -1\n"),
            "wharf.toml:4: `body`: invalid value: integer `-1`, expected a size such as \
             \"16MiB\", \"64KiB\" or a number of bytes"
        );
    }

    #[test]
    fn broken_syntax_is_told_with_its_line() {
        assert!(fault("http = \"a\"\nhttp = \"b\"").starts_with("wharf.toml:2: duplicate key"));
    }
}
