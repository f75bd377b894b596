//! The way out: outbound HTTP.
