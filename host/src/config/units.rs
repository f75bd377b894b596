//! Durations and sizes as people write them: `"30s"`, `"1h30m"`, `"16MiB"`.
//!
//! Both `wharf.toml` and `plugin.toml` read their numbers here, through [`DurationValue`] and
//! [`SizeValue`] in serde structs or through the parsers themselves. A bare number is a size in
//! bytes, but never a duration: its unit would be a guess.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// Why a duration or a size cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// No number where one is needed.
    #[error("`{written}` is not a {what}: write {example}")]
    NotANumber {
        /// What was written.
        written: String,
        /// `duration` or `size`.
        what: &'static str,
        /// A right spelling.
        example: &'static str,
    },
    /// A duration without a unit.
    #[error("`{written}` has no unit: write \"{written}s\" for seconds, or use ms, m, h or d")]
    NoUnit {
        /// What was written.
        written: String,
    },
    /// A unit that does not exist.
    #[error("unknown unit `{unit}` in `{written}`: use {known}")]
    UnknownUnit {
        /// What was written.
        written: String,
        /// The unit in it.
        unit: String,
        /// The units that exist.
        known: &'static str,
    },
    /// A fraction; there is always a smaller unit to write instead.
    #[error("`{written}` has a fraction: use a smaller unit, {example}")]
    Fraction {
        /// What was written.
        written: String,
        /// A right spelling.
        example: &'static str,
    },
    /// Larger than can be held.
    #[error("`{written}` is too large")]
    TooLarge {
        /// What was written.
        written: String,
    },
}

const DURATION_EXAMPLE: &str = "\"30s\", \"250ms\" or \"1h30m\"";
const DURATION_UNITS: &str = "us, ms, s, m, h or d";
const SIZE_EXAMPLE: &str = "\"16MiB\", \"64KiB\" or a number of bytes";
const SIZE_UNITS: &str = "B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (of 1000)";

/// Reads a duration: whole numbers, each with a unit of `us`, `ms`, `s`, `m`, `h` or `d`, added up.
///
/// # Errors
/// [`UnitError`], which names the right spelling.
pub fn parse_duration(written: &str) -> Result<Duration, UnitError> {
    let too_large = || UnitError::TooLarge { written: written.to_owned() };
    let mut rest = written.trim();
    let mut total = Duration::ZERO;
    loop {
        let (number, unit, after) = split(rest, written, "duration", DURATION_EXAMPLE)?;
        let micros: u64 = match unit {
            "" => {
                return Err(UnitError::NoUnit { written: written.trim().to_owned() });
            }
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" | "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => {
                return Err(UnitError::UnknownUnit {
                    written: written.to_owned(),
                    unit: unit.to_owned(),
                    known: DURATION_UNITS,
                });
            }
        };
        let part = number.checked_mul(micros).ok_or_else(too_large)?;
        total = total.checked_add(Duration::from_micros(part)).ok_or_else(too_large)?;
        if after.is_empty() {
            return Ok(total);
        }
        rest = after;
    }
}

/// Reads a size in bytes: a whole number, with or without a unit.
///
/// # Errors
/// [`UnitError`], which names the right spelling.
pub fn parse_size(written: &str) -> Result<u64, UnitError> {
    let (number, unit, after) = split(written.trim(), written, "size", SIZE_EXAMPLE)?;
    if !after.is_empty() {
        return Err(UnitError::NotANumber {
            written: written.to_owned(),
            what: "size",
            example: SIZE_EXAMPLE,
        });
    }
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => {
            return Err(UnitError::UnknownUnit {
                written: written.to_owned(),
                unit: unit.to_owned(),
                known: SIZE_UNITS,
            });
        }
    };
    number.checked_mul(factor).ok_or_else(|| UnitError::TooLarge { written: written.to_owned() })
}

/// Takes one number and its unit from the front of `rest`.
fn split<'a>(
    rest: &'a str,
    written: &str,
    what: &'static str,
    example: &'static str,
) -> Result<(u64, &'a str, &'a str), UnitError> {
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NotANumber { written: written.to_owned(), what, example });
    }
    if rest.starts_with(['.', ',']) {
        return Err(UnitError::Fraction { written: written.to_owned(), example });
    }
    let number = number
        .replace('_', "")
        .parse()
        .map_err(|_| UnitError::TooLarge { written: written.to_owned() })?;
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Ok((number, unit, rest.trim_start()))
}

/// A duration in a serde struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationValue(pub Duration);

/// A size in bytes in a serde struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeValue(pub u64);

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = DurationValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a duration such as {DURATION_EXAMPLE}")
            }

            fn visit_str<E: Error>(self, written: &str) -> Result<DurationValue, E> {
                parse_duration(written).map(DurationValue).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<DurationValue, E> {
                Err(E::custom(UnitError::NoUnit { written: number.to_string() }))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for SizeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = SizeValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a size such as {SIZE_EXAMPLE}")
            }

            fn visit_str<E: Error>(self, written: &str) -> Result<SizeValue, E> {
                parse_size(written).map(SizeValue).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<SizeValue, E> {
                u64::try_from(number)
                    .map(SizeValue)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// A duration as [`parse_duration`] reads it, in the largest units that fit.
pub fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s")];
    let small = [(1_000, "ms"), (1, "us")];
    let mut left = micros;
    let mut shown = String::new();
    for (size, unit) in units.into_iter().chain(small) {
        let count = left / size;
        if count > 0 {
            shown.push_str(&format!("{count}{unit}"));
            left %= size;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// A size as [`parse_size`] reads it, in the largest binary unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    units
        .into_iter()
        .find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size))
        .map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        for (written, millis) in [
            ("30s", 30_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1m 30s", 90_000),
            (" 2d ", 172_800_000),
            ("0s", 0),
            ("1_000ms", 1_000),
        ] {
            assert_eq!(parse_duration(written), Ok(Duration::from_millis(millis)), "{written}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_of_bytes_or_units() {
        for (written, bytes) in [
            ("16MiB", 16 << 20),
            ("64 KiB", 64 << 10),
            ("1mib", 1 << 20),
            ("10MB", 10_000_000),
            ("512", 512),
            ("512B", 512),
            ("1g", 1 << 30),
        ] {
            assert_eq!(parse_size(written), Ok(bytes), "{written}");
        }
    }

    #[test]
    fn errors_name_the_right_spelling() {
        for (error, text) in [
            (
                parse_duration("30").err(),
                "`30` has no unit: write \"30s\" for seconds, or use ms, m, h or d",
            ),
            (
                parse_duration("30 parsecs").err(),
                "unknown unit `parsecs` in `30 parsecs`: use us, ms, s, m, h or d",
            ),
            (
                parse_duration("soon").err(),
                "`soon` is not a duration: write \"30s\", \"250ms\" or \"1h30m\"",
            ),
            (
                parse_duration("-1s").err(),
                "`-1s` is not a duration: write \"30s\", \"250ms\" or \"1h30m\"",
            ),
            (
                parse_duration("1.5s").err(),
                "`1.5s` has a fraction: use a smaller unit, \"30s\", \"250ms\" or \"1h30m\"",
            ),
            (parse_size("99999999999TiB").err(), "`99999999999TiB` is too large"),
            (
                parse_size("").err(),
                "`` is not a size: write \"16MiB\", \"64KiB\" or a number of bytes",
            ),
        ] {
            assert_eq!(error.expect("must be refused").to_string(), text);
        }
        assert!(parse_size("1MiB2").is_err());
        assert!(parse_duration("99999999999999999999s").is_err());
    }

    #[test]
    fn shown_values_read_back() {
        for seconds in [0, 1, 59, 60, 3_661, 86_400] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1023, 1 << 20, 10_000_000] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }
}
