//! The opening handshake (RFC 6455 §4.2; over HTTP/2 RFC 8441 §5, over HTTP/3 RFC 9220): whether a
//! request may become a WebSocket, and what the response says. Pure.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::{
    HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use http::{HeaderMap, HeaderValue, Method, request};

use super::deflate::{MAX_WINDOW, MIN_WINDOW};
use crate::http::conn::Protocol;

/// The one version there is (§4.1).
const VERSION: &[u8] = b"13";
/// What the key is hashed with (§1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key (§4.1).
const KEY: usize = 16;
/// Offers of extensions that are looked at.
const MAX_OFFERS: usize = 16;
/// Some clients fill the key's last character's spare bits.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What of a request the handshake is about.
#[derive(Debug)]
pub struct Request {
    protocol: Protocol,
    is_get: bool,
    authority: Box<str>,
    headers: HeaderMap,
}

/// What a plugin accepts.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Subprotocols, the best first.
    pub protocols: &'a [String],
    /// Origins that may; `None`: the server's own.
    pub origins: Option<&'a [String]>,
    /// Whether permessage-deflate may be used.
    pub compression: bool,
}

/// What both sides have agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// `Sec-WebSocket-Accept`, over HTTP/1.1.
    pub accept: Option<HeaderValue>,
    /// The subprotocol.
    pub protocol: Option<String>,
    /// permessage-deflate.
    pub deflate: Option<Deflate>,
}

/// permessage-deflate as agreed; no context is taken over either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The bits of our window, where the client has asked for fewer.
    pub server_window: Option<u8>,
}

/// Why a handshake fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is wrong; how.
    Malformed(&'static str),
    /// It is of another version (§4.4).
    Version,
    /// The origin may not (§10.2).
    Origin,
}

impl Request {
    /// What `request` says.
    pub fn of(protocol: Protocol, request: &request::Parts) -> Self {
        let names: [HeaderName; 5] = [
            ORIGIN,
            SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION,
        ];
        let mut headers = HeaderMap::new();
        for name in names {
            for value in request.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let authority = request.uri.authority().map_or("", |authority| authority.as_str());
        let is_get = request.method == Method::GET;
        Self { protocol, is_get, authority: authority.into(), headers }
    }

    /// Shakes hands on `terms`.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, terms: &Terms<'_>) -> Result<Agreed, Refused> {
        if !self.is_get {
            return Err(Refused::Malformed("the method is not GET"));
        }
        let accept = match self.protocol {
            // §4.2.1
            Protocol::H1 => Some(self.answer_to_key()?),
            // RFC 8441 §5: a stream is nobody else's, so there is nothing to prove.
            Protocol::H2 | Protocol::H3 => None,
        };
        let mut versions = self.headers.get_all(SEC_WEBSOCKET_VERSION).iter();
        match (versions.next(), versions.next()) {
            (Some(version), None) if version.as_bytes().trim_ascii() == VERSION => {}
            _ => return Err(Refused::Version),
        }
        self.check_origin(terms.origins)?;
        let offered = self.protocols()?;
        let protocol = terms.protocols.iter().find(|&own| offered.contains(&own.as_str()));
        let deflate = if terms.compression { self.deflate()? } else { None };
        Ok(Agreed { accept, protocol: protocol.cloned(), deflate })
    }

    fn answer_to_key(&self) -> Result<HeaderValue, Refused> {
        let mut keys = self.headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(Refused::Malformed("there is not one Sec-WebSocket-Key"));
        };
        let key = key.as_bytes().trim_ascii();
        if !LENIENT.decode(key).is_ok_and(|key| key.len() == KEY) {
            return Err(Refused::Malformed("Sec-WebSocket-Key is not 16 bytes in base64"));
        }
        // A checksum of the handshake, not a secret.
        let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key);
        hash.update(GUID);
        let answer = STANDARD.encode(hash.finish());
        HeaderValue::try_from(answer).map_err(|_| Refused::Malformed("Sec-WebSocket-Key"))
    }

    fn check_origin(&self, allowed: Option<&[String]>) -> Result<(), Refused> {
        let mut origins = self.headers.get_all(ORIGIN).iter();
        // Only browsers send one, and they always do.
        let Some(origin) = origins.next() else { return Ok(()) };
        let is_any = allowed.is_some_and(|allowed| allowed.iter().any(|origin| origin == "*"));
        if is_any {
            return Ok(());
        }
        let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
        let origin = origin.ok_or(Refused::Origin)?;
        let is_allowed = match allowed {
            Some(allowed) => allowed.iter().any(|allowed| same_origin(allowed, origin)),
            // By authority alone: in front of this server may be one that speaks TLS.
            None => ["http", "https"].iter().any(|scheme| {
                let own = format!("{scheme}://{}", self.authority);
                same_origin(&own, origin)
            }),
        };
        if is_allowed { Ok(()) } else { Err(Refused::Origin) }
    }

    fn protocols(&self) -> Result<Vec<&str>, Refused> {
        const MALFORMED: Refused = Refused::Malformed("Sec-WebSocket-Protocol is not a list");
        let mut all = Vec::new();
        for value in self.headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            for name in value.to_str().map_err(|_| MALFORMED)?.split(',') {
                let name = name.trim_matches([' ', '\t']);
                if !is_token(name) {
                    return Err(MALFORMED);
                }
                all.push(name);
            }
        }
        Ok(all)
    }

    /// The first offer of permessage-deflate that can be kept (RFC 7692 §5, §7.1).
    fn deflate(&self) -> Result<Option<Deflate>, Refused> {
        const MALFORMED: Refused = Refused::Malformed("Sec-WebSocket-Extensions is not a list");
        let mut looked_at = 0;
        for value in self.headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            let value = value.to_str().map_err(|_| MALFORMED)?;
            for offer in split(value, ',').ok_or(MALFORMED)? {
                let mut parts = split(offer, ';').ok_or(MALFORMED)?.into_iter();
                let name = parts.next().unwrap_or_default();
                let parameters: Option<Vec<_>> = parts.map(parameter).collect();
                let parameters = parameters.filter(|_| is_token(name)).ok_or(MALFORMED)?;
                looked_at += 1;
                if name.eq_ignore_ascii_case("permessage-deflate")
                    && looked_at <= MAX_OFFERS
                    && let Some(agreed) = Deflate::agree(&parameters)
                {
                    return Ok(Some(agreed));
                }
            }
        }
        Ok(None)
    }
}

impl Agreed {
    /// Puts what the response must say into `headers`, in place of whatever is there.
    pub fn write(&self, headers: &mut HeaderMap) {
        for name in [
            SEC_WEBSOCKET_ACCEPT,
            SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION,
        ] {
            headers.remove(name);
        }
        if let Some(accept) = &self.accept {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        let protocol = self.protocol.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(protocol)) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(deflate) = &self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, deflate.value());
        }
    }
}

impl Deflate {
    /// What an offer comes to; `None` where it is to be declined: it cannot be kept, or has a parameter
    /// that is not known, wrong or there twice (RFC 7692 §7.1).
    fn agree(parameters: &[(&str, Option<&str>)]) -> Option<Self> {
        let mut agreed = Self { server_window: None };
        for (index, &(name, value)) in parameters.iter().enumerate() {
            if parameters[..index].iter().any(|&(other, _)| other.eq_ignore_ascii_case(name)) {
                return None;
            }
            match (name.to_ascii_lowercase().as_str(), value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // A hint, or the promise of a window that ours follows anyway.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => {
                    window(bits)?;
                }
                ("server_max_window_bits", Some(bits)) => {
                    let bits = window(bits).filter(|&bits| bits >= MIN_WINDOW)?;
                    agreed.server_window = Some(bits);
                }
                _ => return None,
            }
        }
        Some(agreed)
    }

    /// The bits of the window that we compress with.
    pub fn window(self) -> u8 {
        self.server_window.unwrap_or(MAX_WINDOW)
    }

    fn value(self) -> HeaderValue {
        const BOTH: &str =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let with_window = self.server_window.and_then(|bits| {
            HeaderValue::try_from(format!("{BOTH}; server_max_window_bits={bits}")).ok()
        });
        with_window.unwrap_or(HeaderValue::from_static(BOTH))
    }
}

/// A decimal from 8 to 15 without leading zeros (RFC 7692 §7.1.2).
fn window(bits: &str) -> Option<u8> {
    let number = bits.parse().ok().filter(|bits| (8..=MAX_WINDOW).contains(bits))?;
    (!bits.starts_with(['0', '+'])).then_some(number)
}

/// `token [ "=" ( token / quoted-string ) ]`, the latter with a token in it (RFC 6455 §9.1).
fn parameter(text: &str) -> Option<(&str, Option<&str>)> {
    let Some((name, value)) = text.split_once('=') else {
        return is_token(text).then_some((text, None));
    };
    let (name, value) = (name.trim_end_matches([' ', '\t']), value.trim_start_matches([' ', '\t']));
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    (is_token(name) && is_token(value)).then_some((name, Some(value)))
}

/// The parts of a list, trimmed; `None` for one with an empty part. Quoted strings hold tokens only, so
/// that no separator can be in one.
fn split(list: &str, separator: char) -> Option<Vec<&str>> {
    let parts: Vec<_> = list.split(separator).map(|part| part.trim_matches([' ', '\t'])).collect();
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// RFC 9110 §5.6.2.
pub fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether two serialised origins (RFC 6454 §6.2) are the same; the default port may be there or not.
fn same_origin(one: &str, other: &str) -> bool {
    fn parts(origin: &str) -> Option<(&str, &str)> {
        let (scheme, authority) = origin.split_once("://")?;
        let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        Some((scheme, authority.strip_suffix(port).unwrap_or(authority)))
    }
    match (parts(one), parts(other)) {
        (Some((scheme, host)), Some((other_scheme, other_host))) => {
            scheme.eq_ignore_ascii_case(other_scheme) && host.eq_ignore_ascii_case(other_host)
        }
        // `null`.
        (None, None) => one == other,
        _ => false,
    }
}

/// Whether it can be compared with what browsers send: `*`, `null`, or `scheme://host[:port]`.
pub fn is_origin(text: &str) -> bool {
    if matches!(text, "*" | "null") {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme =
        scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_authority =
        authority.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte));
    !scheme.is_empty() && is_scheme && !authority.is_empty() && is_authority
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const THIRTEEN: (&str, &str) = ("sec-websocket-version", "13");

    fn request(protocol: Protocol, method: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().method(method).uri("http://example.com/chat");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Request::of(protocol, &request.body(()).unwrap().into_parts().0)
    }

    fn accept(fields: &[(&str, &str)], terms: &Terms<'_>) -> Result<Agreed, Refused> {
        let all = [&[KEY, THIRTEEN], fields].concat();
        request(Protocol::H1, "GET", &all).accept(terms)
    }

    fn terms<'a>(protocols: &'a [String], origins: Option<&'a [String]>) -> Terms<'a> {
        Terms { protocols, origins, compression: true }
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let agreed = accept(&[], &terms(&[], None)).unwrap();
        let mut headers = HeaderMap::new();
        agreed.write(&mut headers);

        // §1.3
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn handshakes_are_held_to_the_rfc() {
        let malformed =
            |result: &Result<Agreed, Refused>| matches!(result, Err(Refused::Malformed(_)));
        let version = |result: &Result<Agreed, Refused>| *result == Err(Refused::Version);
        let fine = |result: &Result<Agreed, Refused>| result.is_ok();
        type Check<'a> = &'a dyn Fn(&Result<Agreed, Refused>) -> bool;
        for (protocol, method, fields, expected) in [
            // §4.2.1: GET, a key of 16 bytes, version 13.
            (Protocol::H1, "GET", vec![KEY, THIRTEEN], &fine as Check<'_>),
            (Protocol::H1, "POST", vec![KEY, THIRTEEN], &malformed),
            (Protocol::H1, "GET", vec![THIRTEEN], &malformed),
            (Protocol::H1, "GET", vec![KEY, KEY, THIRTEEN], &malformed),
            (Protocol::H1, "GET", vec![("sec-websocket-key", "c2hvcnQ="), THIRTEEN], &malformed),
            (Protocol::H1, "GET", vec![("sec-websocket-key", "?"), THIRTEEN], &malformed),
            (Protocol::H1, "GET", vec![KEY], &version),
            (Protocol::H1, "GET", vec![KEY, ("sec-websocket-version", "8")], &version),
            (Protocol::H1, "GET", vec![KEY, THIRTEEN, THIRTEEN], &version),
            // RFC 8441 §5, RFC 9220: without a key.
            (Protocol::H2, "GET", vec![THIRTEEN], &fine),
            (Protocol::H3, "GET", vec![THIRTEEN], &fine),
            (Protocol::H2, "GET", vec![("sec-websocket-version", "7")], &version),
            // §4.3: lists of tokens.
            (
                Protocol::H1,
                "GET",
                vec![KEY, THIRTEEN, ("sec-websocket-protocol", "a,,b")],
                &malformed,
            ),
            (
                Protocol::H1,
                "GET",
                vec![KEY, THIRTEEN, ("sec-websocket-extensions", "permessage-deflate;;")],
                &malformed,
            ),
        ] {
            let result = request(protocol, method, &fields).accept(&terms(&[], None));
            assert!(expected(&result), "{protocol:?} {method} {fields:?}: {result:?}");
            if let Ok(agreed) = result {
                assert_eq!(agreed.accept.is_some(), protocol == Protocol::H1);
            }
        }
    }

    #[test]
    fn the_plugin_likes_its_first_subprotocol_best() {
        let own = ["graphql-ws".to_owned(), "chat".to_owned()];
        for (offered, expected) in [
            (vec![("sec-websocket-protocol", "chat, graphql-ws")], Some("graphql-ws")),
            (
                vec![("sec-websocket-protocol", "other"), ("sec-websocket-protocol", "chat")],
                Some("chat"),
            ),
            (vec![("sec-websocket-protocol", "CHAT")], None),
            (vec![], None),
        ] {
            let agreed = accept(&offered, &terms(&own, None)).unwrap();
            assert_eq!(agreed.protocol.as_deref(), expected, "{offered:?}");
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let list =
            |origins: &[&str]| Some(origins.iter().map(|&o| o.to_owned()).collect::<Vec<_>>());
        for (allowed, origin, expected) in [
            (None, "http://example.com", true),
            (None, "https://EXAMPLE.com", true),
            (None, "http://example.com:80", true),
            (None, "http://example.com:8080", false),
            (None, "http://example.com.evil.org", false),
            (None, "http://evil.org", false),
            (None, "null", false),
            (list(&["*"]), "null", true),
            (list(&["null"]), "null", true),
            (list(&["https://a.org"]), "https://a.org:443", true),
            (list(&["https://a.org"]), "http://a.org", false),
            (list(&["https://a.org"]), "http://example.com", false),
            (list(&[]), "http://example.com", false),
        ] {
            let result = accept(&[("origin", origin)], &terms(&[], allowed.as_deref()));
            assert_eq!(result.is_ok(), expected, "{allowed:?} {origin}");
        }
        let two = accept(
            &[("origin", "http://example.com"), ("origin", "http://evil.org")],
            &terms(&[], None),
        );
        assert_eq!(two, Err(Refused::Origin));
    }

    #[test]
    fn offers_of_compression_are_kept_or_declined() {
        const BOTH: &str =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (offers, expected) in [
            ("permessage-deflate", Some(String::new())),
            ("permessage-deflate; client_max_window_bits", Some(String::new())),
            ("permessage-deflate; client_max_window_bits=8", Some(String::new())),
            (
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
                Some(String::new()),
            ),
            (
                "permessage-deflate;server_max_window_bits = \"10\"",
                Some("; server_max_window_bits=10".to_owned()),
            ),
            // RFC 7692 §7.1.2: zlib has no window of 8 bits; §5: the next offer counts then.
            ("permessage-deflate; server_max_window_bits=8", None),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate",
                Some(String::new()),
            ),
            // §7.1: declined.
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=010", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
            ("permessage-deflate; unknown", None),
            ("x-webkit-deflate-frame, permessage-bzip2", None),
        ] {
            let agreed =
                accept(&[("sec-websocket-extensions", offers)], &terms(&[], None)).unwrap();
            let mut headers = HeaderMap::new();
            agreed.write(&mut headers);
            let said = headers.get(SEC_WEBSOCKET_EXTENSIONS).map(|value| value.to_str().unwrap());
            assert_eq!(said, expected.map(|rest| format!("{BOTH}{rest}")).as_deref(), "{offers}");
        }
    }

    #[test]
    fn origins_of_options_are_checked() {
        for (text, expected) in [
            ("*", true),
            ("null", true),
            ("https://example.com", true),
            ("http://[::1]:8080", true),
            ("example.com", false),
            ("https://example.com/", false),
            ("https://", false),
            ("https://user@example.com", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }
}
