//! What can go wrong on the way out, in the words of `wasi:http`: each variant of [`UpstreamError`]
//! is one `error-code` of `wasi:http/types`, so that the conversion at the guest boundary is a
//! `match` without a judgement in it. The judgement, which variant a library's error is, is here.

use std::error::Error as StdError;
use std::io;

/// Any error, as bodies carry it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a request got no response, or a response body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// `DNS-timeout`.
    #[error("the name was not resolved in time")]
    DnsTimeout,
    /// `DNS-error`; what the resolver said.
    #[error("the name could not be resolved: {reason}")]
    Dns {
        /// The resolver's words.
        reason: String,
    },
    /// `destination-not-found`: the name has no address.
    #[error("the destination was not found")]
    DestinationNotFound,
    /// `destination-IP-prohibited`: the name leads to an address that only a grant which names it
    /// may reach.
    #[error("the name leads to an address that is not public")]
    DestinationIpProhibited,
    /// `destination-IP-unroutable`.
    #[error("there is no route to the destination")]
    DestinationIpUnroutable,
    /// `connection-refused`.
    #[error("the connection was refused")]
    ConnectionRefused,
    /// `connection-terminated`: it ended before the response began.
    #[error("the connection ended before the response")]
    ConnectionTerminated,
    /// `connection-timeout`.
    #[error("the connection was not established in time")]
    ConnectionTimeout,
    /// `connection-read-timeout`: the response body brought nothing for too long.
    #[error("the response body made no progress in time")]
    ConnectionReadTimeout,
    /// `connection-limit-reached`: no connection became free in time, or too many wait for one.
    #[error("no connection to the destination became free")]
    ConnectionLimitReached,
    /// `TLS-protocol-error`.
    #[error("TLS failed: {reason}")]
    TlsProtocol {
        /// rustls' words, for the log.
        reason: String,
    },
    /// `TLS-certificate-error`: the certificate is not valid for the authority.
    #[error("the certificate is not valid: {reason}")]
    TlsCertificate {
        /// rustls' words, for the log.
        reason: String,
    },
    /// `TLS-alert-received`.
    #[error("the destination ended TLS with the alert {message}")]
    TlsAlert {
        /// The alert's number (RFC 8446 §6).
        id: u8,
        /// Its name.
        message: String,
    },
    /// `HTTP-request-denied`: no grant covers this origin.
    #[error("the plugin has no grant for {origin}")]
    RequestDenied {
        /// The origin asked for.
        origin: String,
    },
    /// `HTTP-request-body-size`: not as long as its content-length says.
    #[error("the request body is not as long as its content-length says")]
    RequestBodySize {
        /// The bytes that came, or had come when they became too many.
        size: u64,
    },
    /// `HTTP-request-method-invalid`: CONNECT has no meaning for a client without tunnels.
    #[error("this method cannot be sent")]
    RequestMethodInvalid,
    /// `HTTP-request-URI-invalid`.
    #[error("the request URI is not an absolute http or https URI")]
    RequestUriInvalid,
    /// `HTTP-request-URI-too-long`.
    #[error("the request URI is too long")]
    RequestUriTooLong,
    /// `HTTP-request-header-section-size`.
    #[error("the request's fields are too large or too many")]
    RequestHeaderSectionSize {
        /// Bytes of names and values.
        size: u32,
    },
    /// The request body ended with an error of its producer: `internal-error` with its words.
    #[error("the request body failed: {reason}")]
    RequestBody {
        /// The producer's words.
        reason: String,
    },
    /// `HTTP-response-incomplete`.
    #[error("the response ended before it was complete")]
    ResponseIncomplete,
    /// `HTTP-response-header-section-size`.
    #[error("the response's fields are too large or too many")]
    ResponseHeaderSectionSize,
    /// `HTTP-response-trailer-section-size`.
    #[error("the response's trailers are too large or too many")]
    ResponseTrailerSectionSize,
    /// `HTTP-response-timeout`: no response head in time.
    #[error("no response in time")]
    ResponseTimeout,
    /// `HTTP-upgrade-failed`: the destination switched protocols, which nobody asked for.
    #[error("the destination switched protocols unasked")]
    UpgradeFailed,
    /// `HTTP-protocol-error`.
    #[error("the exchange broke the protocol: {reason}")]
    Protocol {
        /// What was wrong, for the log.
        reason: String,
    },
    /// `configuration-error`: no root certificates.
    #[error("the root certificates cannot be used: {reason}")]
    Configuration {
        /// What was wrong.
        reason: String,
    },
    /// `internal-error`.
    #[error("{reason}")]
    Internal {
        /// What was wrong, for the log.
        reason: String,
    },
}

impl UpstreamError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns-timeout",
            Self::Dns { .. } => "dns-error",
            Self::DestinationNotFound => "destination-not-found",
            Self::DestinationIpProhibited => "destination-ip-prohibited",
            Self::DestinationIpUnroutable => "destination-ip-unroutable",
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectionTerminated => "connection-terminated",
            Self::ConnectionTimeout => "connection-timeout",
            Self::ConnectionReadTimeout => "connection-read-timeout",
            Self::ConnectionLimitReached => "connection-limit-reached",
            Self::TlsProtocol { .. } => "tls-protocol-error",
            Self::TlsCertificate { .. } => "tls-certificate-error",
            Self::TlsAlert { .. } => "tls-alert-received",
            Self::RequestDenied { .. } => "http-request-denied",
            Self::RequestBodySize { .. } => "http-request-body-size",
            Self::RequestMethodInvalid => "http-request-method-invalid",
            Self::RequestUriInvalid => "http-request-uri-invalid",
            Self::RequestUriTooLong => "http-request-uri-too-long",
            Self::RequestHeaderSectionSize { .. } => "http-request-header-section-size",
            Self::RequestBody { .. } => "request-body",
            Self::ResponseIncomplete => "http-response-incomplete",
            Self::ResponseHeaderSectionSize => "http-response-header-section-size",
            Self::ResponseTrailerSectionSize => "http-response-trailer-section-size",
            Self::ResponseTimeout => "http-response-timeout",
            Self::UpgradeFailed => "http-upgrade-failed",
            Self::Protocol { .. } => "http-protocol-error",
            Self::Configuration { .. } => "configuration-error",
            Self::Internal { .. } => "internal-error",
        }
    }

    /// A connection could not be opened: the cause decides.
    pub(super) fn connect(error: &(dyn StdError + 'static)) -> Self {
        if let Some(own) = find::<Self>(error) {
            return own.clone();
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::ConnectionRefused,
            Some(io::ErrorKind::TimedOut) => Self::ConnectionTimeout,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                Self::DestinationIpUnroutable
            }
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => {
                Self::ConnectionTerminated
            }
            _ => Self::Internal { reason: error.to_string() },
        }
    }

    /// A TLS handshake that failed.
    pub(super) fn tls(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::TlsAlert { id: u8::from(*alert), message: format!("{alert:?}") }
            }
            Some(
                cause @ (rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::UnsupportedNameType),
            ) => Self::TlsCertificate { reason: cause.to_string() },
            Some(cause) => Self::TlsProtocol { reason: cause.to_string() },
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::ConnectionTerminated,
            None => Self::connect(error),
        }
    }

    /// An exchange that failed before its response head was there.
    pub(super) fn exchange(error: &hyper::Error) -> Self {
        if let Some(own) = find::<Self>(error) {
            return own.clone();
        }
        if error.is_parse_too_large() || is_h2_fields_too_large(error) {
            return Self::ResponseHeaderSectionSize;
        }
        if error.is_parse() {
            return Self::Protocol { reason: error.to_string() };
        }
        if error.is_user() {
            return Self::RequestBody { reason: root(error) };
        }
        if let Some(h2) = find::<h2::Error>(error)
            && !h2.is_io()
            && !h2.is_go_away()
        {
            return Self::Protocol { reason: h2.to_string() };
        }
        Self::ConnectionTerminated
    }

    /// A response body that failed.
    pub(super) fn body(error: &hyper::Error) -> Self {
        if let Some(own) = find::<Self>(error) {
            return own.clone();
        }
        if let Some(h2) = find::<h2::Error>(error)
            && !h2.is_io()
            && !h2.is_remote()
        {
            return Self::Protocol { reason: h2.to_string() };
        }
        // hyper reports a chunked body that is cut off and one that is malformed with the same kind;
        // the I/O error below it tells them apart.
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                Self::Protocol { reason: root(error) }
            }
            _ => Self::ResponseIncomplete,
        }
    }
}

/// HTTP/2 response fields beyond our SETTINGS_MAX_HEADER_LIST_SIZE; h2 has no predicate for it.
fn is_h2_fields_too_large(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|h2| h2.is_library() && h2.is_reset())
        && root(error).contains("too large")
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error shows what it wraps by its source, not itself.
        next = error.source();
    }
    None
}

/// The innermost cause's words.
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
