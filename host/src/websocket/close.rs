//! Close codes (RFC 6455 §7.4) and what a Close frame carries (§5.5.1).

use super::frame::MAX_CONTROL;

/// The purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server is leaving.
pub const GOING_AWAY: u16 = 1001;
/// The client broke the protocol.
pub const PROTOCOL: u16 = 1002;
/// Never sent: the Close had no code.
pub const NO_CODE: u16 = 1005;
/// Never sent: there was no Close.
pub const ABNORMAL: u16 = 1006;
/// Text that is not UTF-8, or compressed data that cannot be decompressed.
pub const INVALID_DATA: u16 = 1007;
/// The client does what no client should.
pub const POLICY: u16 = 1008;
/// A message of more than the limit.
pub const TOO_BIG: u16 = 1009;
/// The plugin failed.
pub const INTERNAL: u16 = 1011;
/// The server is being replaced.
pub const RESTART: u16 = 1012;
/// Too much is going on.
pub const TRY_AGAIN: u16 = 1013;

/// Bytes of a reason: what is left of a control frame beside the code.
pub const MAX_REASON: usize = MAX_CONTROL - 2;

/// Why a connection is failed (RFC 6455 §7.1.7): the code and the reason that the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// One of the codes above.
    pub code: u16,
    /// In a few words.
    pub reason: &'static str,
}

impl Violation {
    /// The protocol is broken.
    pub const fn protocol(reason: &'static str) -> Self {
        Self { code: PROTOCOL, reason }
    }

    /// The data is not what it says it is.
    pub const fn data(reason: &'static str) -> Self {
        Self { code: INVALID_DATA, reason }
    }

    /// The message is larger than it may be.
    pub const TOO_BIG: Self = Self { code: TOO_BIG, reason: "message too big" };
}

/// Whether a Close frame may carry the code: those that RFC 6455 §7.4.1 and the IANA registry define
/// for the wire, and the ranges of libraries and applications.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// What the payload of a Close frame says; no code where it is empty.
///
/// # Errors
/// 1002 for half a code or one that must not be sent, 1007 for a reason that is not UTF-8.
pub fn parse(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::protocol("close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable(code) {
                return Err(Violation::protocol("close code that must not be sent"));
            }
            let reason = str::from_utf8(reason);
            let reason = reason.map_err(|_| Violation::data("close reason is not UTF-8"))?;
            Ok(Some((code, reason)))
        }
    }
}

/// The payload of a Close frame; empty for [`NO_CODE`]. A reason that is too long is cut at a
/// character's end.
pub fn payload(code: u16, reason: &str) -> Vec<u8> {
    if code == NO_CODE {
        return Vec::new();
    }
    let end = reason.floor_char_boundary(MAX_REASON);
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_wire() {
        for (codes, sendable) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for code in codes {
                assert_eq!(is_sendable(code), sendable, "{code}");
                assert_eq!(parse(&code.to_be_bytes()).is_ok(), sendable, "{code}");
            }
        }
    }

    #[test]
    fn payloads_are_what_they_were() {
        assert_eq!(parse(&payload(NO_CODE, "")), Ok(None));
        assert_eq!(parse(&payload(4000, "späß")), Ok(Some((4000, "späß"))));
        assert_eq!(parse(&[3]).unwrap_err().code, PROTOCOL);
        assert_eq!(parse(&[3, 232, 0xff]).unwrap_err().code, INVALID_DATA);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = payload(NORMAL, &"ä".repeat(100));

        assert_eq!(payload.len(), 2 + 122);
        assert!(parse(&payload).is_ok());
    }
}
