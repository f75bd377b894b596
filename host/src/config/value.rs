//! Values that a flag, an environment variable and a key of `wharf.toml` spell alike. Each parses
//! itself, so that an error is told where the value was written.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not an address.
    #[error("`{0}` is not an address: write one such as 127.0.0.1:8080 or [::1]:8080, or off")]
    Address(String),
    /// Not a switch.
    #[error("`{0}` is neither on nor off")]
    Switch(String),
    /// Not a log format.
    #[error("`{0}` is not a log format: write text or json")]
    LogFormat(String),
}

/// Where a listener listens; `off`: nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(written: &str) -> Result<Self, ValueError> {
        let written = written.trim();
        if written == "off" {
            return Ok(Self(None));
        }
        // The one name that needs no resolver: listeners must not wait for DNS.
        if let Some(port) = written.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Self(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))));
        }
        let address = written.parse().map_err(|_| ValueError::Address(written.to_owned()))?;
        Ok(Self(Some(address)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// `on` or `off`; in `wharf.toml` also `true` and `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = ValueError;

    fn from_str(written: &str) -> Result<Self, ValueError> {
        match written.trim() {
            "on" | "true" => Ok(Self(true)),
            "off" | "false" => Ok(Self(false)),
            other => Err(ValueError::Switch(other.to_owned())),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "on" } else { "off" })
    }
}

/// The shape of log lines on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(written: &str) -> Result<Self, ValueError> {
        match written.trim() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(ValueError::LogFormat(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Reads a value that spells itself, from a string or a boolean.
fn spelled<'de, T, D>(deserializer: D, what: &'static str) -> Result<T, D::Error>
where
    T: FromStr<Err = ValueError>,
    D: Deserializer<'de>,
{
    struct Spelled<T>(&'static str, std::marker::PhantomData<T>);

    impl<T: FromStr<Err = ValueError>> Visitor<'_> for Spelled<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, written: &str) -> Result<T, E> {
            written.parse().map_err(E::custom)
        }

        fn visit_bool<E: Error>(self, written: bool) -> Result<T, E> {
            // `http = false` means what it says; `http = true` names no address and is refused.
            let written = if written { "true" } else { "off" };
            written.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Spelled(what, std::marker::PhantomData))
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled(deserializer, "an address in quotes, or \"off\"")
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled(deserializer, "\"on\" or \"off\"")
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled(deserializer, "\"text\" or \"json\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_address_or_localhost_or_off() {
        assert_eq!("off".parse(), Ok(Listen(None)));
        assert_eq!(
            "localhost:80".parse::<Listen>().map(|l| l.to_string()),
            Ok("127.0.0.1:80".into())
        );
        assert_eq!("[::1]:0".parse::<Listen>().map(|l| l.to_string()), Ok("[::1]:0".into()));
        assert_eq!("8080".parse::<Listen>(), Err(ValueError::Address("8080".into())));
    }
}
