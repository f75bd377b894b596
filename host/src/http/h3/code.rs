//! Error codes of HTTP/3 (RFC 9114 §8.1) and QPACK (RFC 9204 §6), and how an exchange ends early.

use quinn::VarInt;

/// An error code as it stands in CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(u32);

impl Code {
    /// Nothing is wrong.
    pub(super) const NO_ERROR: Self = Self(0x100);
    /// Our fault.
    pub(super) const INTERNAL_ERROR: Self = Self(0x102);
    /// A stream that must not be.
    pub(super) const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// A stream that must stay open was closed.
    pub(super) const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// A frame that is not allowed here.
    pub(super) const FRAME_UNEXPECTED: Self = Self(0x105);
    /// A frame of the wrong size or layout.
    pub(super) const FRAME_ERROR: Self = Self(0x106);
    /// More than we put up with.
    pub(super) const EXCESSIVE_LOAD: Self = Self(0x107);
    /// A push or stream id that cannot be.
    pub(super) const ID_ERROR: Self = Self(0x108);
    /// A setting that cannot be.
    pub(super) const SETTINGS_ERROR: Self = Self(0x109);
    /// The control stream did not begin with SETTINGS.
    pub(super) const MISSING_SETTINGS: Self = Self(0x10a);
    /// Not processed at all: may be sent again elsewhere.
    pub(super) const REQUEST_REJECTED: Self = Self(0x10b);
    /// No longer wanted.
    pub(super) const REQUEST_CANCELLED: Self = Self(0x10c);
    /// The stream ended before the request did.
    pub(super) const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// A malformed message.
    pub(super) const MESSAGE_ERROR: Self = Self(0x10e);
    /// A field section that cannot be decoded.
    pub(super) const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    /// An instruction that cannot be on the encoder stream.
    pub(super) const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    /// An instruction that cannot be on the decoder stream.
    pub(super) const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code.0)
    }
}

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A connection error: everything ends.
    Connection(Code, &'static str),
    /// A stream error: this exchange ends.
    Stream(Code, &'static str),
    /// The peer reset the stream, or the connection is lost.
    Gone,
}
