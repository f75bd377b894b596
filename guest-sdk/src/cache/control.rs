//! [`CacheControl`]: a `Cache-Control` made of its directives.

use std::fmt;
use std::time::Duration;

use http::HeaderName;

/// The directives of a response's `Cache-Control` (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
///
/// ```
/// use std::time::Duration;
/// use wharf_sdk::cache::CacheControl;
///
/// let control = CacheControl::new()
///     .public()
///     .max_age(Duration::from_secs(300))
///     .stale_while_revalidate(Duration::from_secs(86_400));
/// assert_eq!(control.to_string(), "public, max-age=300, stale-while-revalidate=86400");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    directives: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    None,
    Seconds(u64),
    Fields(Vec<HeaderName>),
}

impl CacheControl {
    /// No directives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any cache may store it, even an answer to a request with credentials. Not private, then.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.directives.retain(|(name, argument)| {
            *name != "private" || matches!(argument, Argument::Fields(_))
        });
        self.with("public", Argument::None)
    }

    /// Only the client's own cache may store it. Not public, then.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.directives.retain(|(name, _)| *name != "public");
        self.with("private", Argument::None)
    }

    /// Shared caches store it without these fields.
    #[must_use]
    pub fn private_fields(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with("private", Argument::Fields(fields.into_iter().collect()))
    }

    /// Stored, and not used again without asking first.
    #[must_use]
    pub fn no_cache(self) -> Self {
        self.with("no-cache", Argument::None)
    }

    /// Stored, and these fields not used again without asking first.
    #[must_use]
    pub fn no_cache_fields(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with("no-cache", Argument::Fields(fields.into_iter().collect()))
    }

    /// Stored nowhere.
    #[must_use]
    pub fn no_store(self) -> Self {
        self.with("no-store", Argument::None)
    }

    /// Fresh for so long, in whole seconds.
    #[must_use]
    pub fn max_age(self, time: Duration) -> Self {
        self.with("max-age", Argument::Seconds(time.as_secs()))
    }

    /// Fresh for so long in shared caches.
    #[must_use]
    pub fn s_maxage(self, time: Duration) -> Self {
        self.with("s-maxage", Argument::Seconds(time.as_secs()))
    }

    /// Never used stale.
    #[must_use]
    pub fn must_revalidate(self) -> Self {
        self.with("must-revalidate", Argument::None)
    }

    /// Never used stale by shared caches.
    #[must_use]
    pub fn proxy_revalidate(self) -> Self {
        self.with("proxy-revalidate", Argument::None)
    }

    /// Stored only by caches that know what its status means.
    #[must_use]
    pub fn must_understand(self) -> Self {
        self.with("must-understand", Argument::None)
    }

    /// Not changed on its way: not coded by the host, either.
    #[must_use]
    pub fn no_transform(self) -> Self {
        self.with("no-transform", Argument::None)
    }

    /// Does not change while it is fresh.
    #[must_use]
    pub fn immutable(self) -> Self {
        self.with("immutable", Argument::None)
    }

    /// Given stale for so long while it is asked for anew.
    #[must_use]
    pub fn stale_while_revalidate(self, time: Duration) -> Self {
        self.with("stale-while-revalidate", Argument::Seconds(time.as_secs()))
    }

    /// Given stale for so long where asking fails.
    #[must_use]
    pub fn stale_if_error(self, time: Duration) -> Self {
        self.with("stale-if-error", Argument::Seconds(time.as_secs()))
    }

    /// Each directive once: the last one counts.
    fn with(mut self, name: &'static str, argument: Argument) -> Self {
        self.directives.retain(|(there, _)| *there != name);
        self.directives.push((name, argument));
        self
    }
}

impl fmt::Display for CacheControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, argument)) in self.directives.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
            match argument {
                Argument::None => {}
                Argument::Seconds(seconds) => write!(f, "={seconds}")?,
                Argument::Fields(fields) => {
                    let fields: Vec<&str> = fields.iter().map(HeaderName::as_str).collect();
                    write!(f, "=\"{}\"", fields.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::*;

    #[test]
    fn directives_come_in_their_order_and_once() {
        let seconds = Duration::from_secs;
        for (control, text) in [
            (CacheControl::new(), ""),
            (
                CacheControl::new().no_store().no_cache().must_revalidate(),
                "no-store, no-cache, must-revalidate",
            ),
            (CacheControl::new().max_age(seconds(1)).max_age(seconds(2)), "max-age=2"),
            (CacheControl::new().public().private(), "private"),
            (
                CacheControl::new().private_fields([SET_COOKIE]).public().s_maxage(seconds(9)),
                "private=\"set-cookie\", public, s-maxage=9",
            ),
        ] {
            assert_eq!(control.to_string(), text);
        }
    }
}
