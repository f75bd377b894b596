//! Dates and delta-seconds as a cache reads them: leniently where RFC 9111 §4.2 says so, and never
//! trusting a number to be small.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// RFC 9111 §1.2.2: what is greater counts as this.
pub(crate) const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// The longest form of RFC 9110 §5.6.7 is that of RFC 850, with 33 bytes.
const MAX_DATE_BYTES: usize = 40;

/// `1*DIGIT`, saturating. A sign, a point, a blank or no digit is no number.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0u32, |sum, digit| {
        sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')).min(MAX_DELTA_SECONDS)
    });
    Some(Duration::from_secs(seconds.into()))
}

/// An HTTP date. RFC 9111 §4.2: names are matched whatever their case; a zone other than GMT is invalid.
pub(crate) fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.as_bytes().trim_ascii();
    let mut folded = [0; MAX_DATE_BYTES];
    let folded = folded.get_mut(..text.len())?;
    let mut in_word = false;
    for (to, byte) in folded.iter_mut().zip(text) {
        *to = if in_word { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
        in_word = byte.is_ascii_alphabetic();
    }
    let zone = folded.len().saturating_sub(b" GMT".len());
    if folded[zone..].eq_ignore_ascii_case(b" GMT") {
        folded[zone..].make_ascii_uppercase();
    }
    httpdate::parse_http_date(std::str::from_utf8(folded).ok()?).ok()
}

/// A date as a field value; what no HTTP date can say is the epoch, or the end of the year 9998.
pub(crate) fn http_date_value(time: SystemTime) -> HeaderValue {
    const LAST: Duration = Duration::from_secs(253_370_764_800);
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + since_epoch);
    HeaderValue::try_from(text).expect("a date is visible ASCII")
}

/// How much later one time is; zero where it is not, as clocks step back.
pub(crate) fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}
