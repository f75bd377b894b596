//! Every limit and timeout of connections and requests: the defaults as named constants, and
//! [`Limits`], what is in force (`[limits]` in `wharf.toml`). The README's table is this file.

use std::time::Duration;

/// The TLS or QUIC handshake, from accept to finished.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first bytes on the cleartext listener, until HTTP/1 or HTTP/2 is known.
pub const SNIFF_TIMEOUT: Duration = Duration::from_secs(10);
/// A request head, from its first byte to its last.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// An open connection without an exchange.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A request body that brings no byte for this long while it is being read.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// After a grace of `BODY_IDLE_TIMEOUT`, a request body must keep this mean rate, in bytes a second,
/// over the time that the reader was waiting for it.
pub const BODY_MIN_RATE: u64 = 240;
/// A response of which the client takes no byte for this long.
pub const WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream that has switched to another protocol, on which no byte moves either way. Where only
/// `idle-timeout` is configured, that holds here too.
pub const SWITCH_IDLE_TIMEOUT: Duration = IDLE_TIMEOUT;
/// What is read and thrown away of a request body that the plugin left unread: to keep an HTTP/1.1
/// connection, and not to reset an HTTP/2 stream that has its response.
pub const DISCARD_BYTES: u64 = 256 * 1024;
/// How long that may take once the response is out.
pub const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an HTTP/1.1 client that has closed its sending side is still served before it counts
/// as gone: a half-closed client and one that left look the same until something is written.
pub const HALF_CLOSE_GRACE: Duration = Duration::from_millis(80);

/// Open connections over all listeners; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 20_000;
/// Open connections from one address.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 12_000;
/// Concurrent streams on one HTTP/2 or HTTP/3 connection.
pub const MAX_STREAMS: u32 = 256;
/// Fields in a request head or in trailers.
pub const MAX_HEADERS: usize = 100;
/// Bytes of a request head (request line and fields), and of trailers.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Bytes of the request target (path and query).
pub const MAX_URL_BYTES: usize = 16 * 1024;
/// HTTP/2 PING, SETTINGS, PRIORITY, RST_STREAM and empty DATA frames a second that a connection may
/// send before it is closed with ENHANCE_YOUR_CALM.
pub const MAX_H2_CONTROL_FRAMES: u32 = 500;
/// HTTP/2 streams that the client may have reset while they wait to be accepted.
pub const MAX_H2_PENDING_RESETS: usize = 20;
/// HTTP/2 streams reset by us for the client's errors (MadeYouReset) before the connection ends.
pub const MAX_H2_LOCAL_RESETS: usize = 256;

/// The limits in force. `Default` gives the constants above.
#[derive(Clone, Debug)]
pub struct Limits {
    /// [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// [`SNIFF_TIMEOUT`].
    pub sniff_timeout: Duration,
    /// [`HEADER_TIMEOUT`].
    pub header_timeout: Duration,
    /// [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// [`BODY_IDLE_TIMEOUT`].
    pub body_idle_timeout: Duration,
    /// [`BODY_MIN_RATE`].
    pub body_min_rate: u64,
    /// [`WRITE_IDLE_TIMEOUT`].
    pub write_idle_timeout: Duration,
    /// [`SWITCH_IDLE_TIMEOUT`].
    pub switch_idle_timeout: Duration,
    /// [`HALF_CLOSE_GRACE`].
    pub half_close_grace: Duration,
    /// [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// [`MAX_CONNECTIONS_PER_ADDRESS`].
    pub connections_per_address: usize,
    /// [`MAX_STREAMS`].
    pub streams: u32,
    /// [`MAX_HEADERS`].
    pub headers: usize,
    /// [`MAX_HEADER_BYTES`].
    pub header_bytes: usize,
    /// [`MAX_URL_BYTES`].
    pub url_bytes: usize,
    /// [`MAX_H2_CONTROL_FRAMES`].
    pub h2_control_frames: u32,
    /// [`MAX_H2_PENDING_RESETS`].
    pub h2_pending_resets: usize,
    /// [`MAX_H2_LOCAL_RESETS`].
    pub h2_local_resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            sniff_timeout: SNIFF_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            body_min_rate: BODY_MIN_RATE,
            write_idle_timeout: WRITE_IDLE_TIMEOUT,
            switch_idle_timeout: SWITCH_IDLE_TIMEOUT,
            half_close_grace: HALF_CLOSE_GRACE,
            connections: MAX_CONNECTIONS,
            connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            streams: MAX_STREAMS,
            headers: MAX_HEADERS,
            header_bytes: MAX_HEADER_BYTES,
            url_bytes: MAX_URL_BYTES,
            h2_control_frames: MAX_H2_CONTROL_FRAMES,
            h2_pending_resets: MAX_H2_PENDING_RESETS,
            h2_local_resets: MAX_H2_LOCAL_RESETS,
        }
    }
}
