//! What becomes of a message on its way through (RFC 9110 §7.6): target, `Host`, `Via`, `Max-Forwards`
//! and what tells the upstream about the client. Fields of one hop the host takes off itself.

use std::net::SocketAddr;

use wharf_sdk::exchange::Protocol;
use wharf_sdk::{Error, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::settings::{Forwarded, Settings};

/// This proxy's name in `Via`.
const PSEUDONYM: &str = "wharf";

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const HOST: HeaderName = HeaderName::from_static("host");
const MAX_FORWARDS: HeaderName = HeaderName::from_static("max-forwards");
const VIA: HeaderName = HeaderName::from_static("via");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client, as far as the upstream may want to know.
struct Client {
    protocol: &'static str,
    address: Option<String>,
    scheme: String,
    authority: String,
}

/// The proxy's own answer, where the request is not to go further: OPTIONS and TRACE that may be
/// forwarded no more often (RFC 9110 §7.6.2), and CONNECT, for which there is no upstream.
pub(crate) fn final_recipient(request: &mut Request) -> Result<Option<Response>, Error> {
    if *request.method() == Method::CONNECT {
        return Err(Error::new(StatusCode::NOT_IMPLEMENTED).detail("tunnels are not forwarded"));
    }
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return Ok(None);
    }
    let Some(left) = request.header("max-forwards").and_then(|text| text.trim().parse().ok())
    else {
        return Ok(None);
    };
    match u64::checked_sub(left, 1) {
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, left.into());
            Ok(None)
        }
        None if *request.method() == Method::OPTIONS => {
            Ok(Some(Response::new(()).with_status(StatusCode::NO_CONTENT)))
        }
        None => Err(Error::new(StatusCode::METHOD_NOT_ALLOWED)
            .detail("this proxy does not answer TRACE itself")),
    }
}

/// Makes a request that was received the one that is sent.
pub(crate) fn outgoing(request: &mut Request, settings: &Settings) -> Result<(), Error> {
    let client = client(request);
    let target = target(request, settings);
    *request.uri_mut() = target.parse().map_err(|_| Error::bad_request("malformed target"))?;
    let received = std::mem::take(request.headers_mut());
    *request.headers_mut() = fields(received, &client, settings);
    Ok(())
}

/// Makes a response that was received the one that is given to the client.
pub(crate) fn incoming(response: &mut Response, settings: &Settings) {
    if settings.via {
        // The upstream's version is not told; HTTP/1.1 is what all of them can do.
        response.headers_mut().append(VIA, via("1.1"));
    }
}

/// Origin, base path, and the path and query as they came, less the prefix.
fn target(request: &Request, settings: &Settings) -> String {
    let came = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let rest = came
        .strip_prefix(&settings.strip)
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        .unwrap_or(came);
    let slash = if rest.starts_with('/') { "" } else { "/" };
    format!("{}{}{slash}{rest}", settings.origin, settings.base)
}

fn client(request: &Request) -> Client {
    let connection = request.exchange().map(|exchange| exchange.connection());
    let protocol = match connection.as_ref().map(|connection| connection.protocol) {
        Some(Protocol::Http2) => "2",
        Some(Protocol::Http3) => "3",
        Some(Protocol::Http1) | None => "1.1",
    };
    let peer = connection.and_then(|connection| connection.peer.parse().ok());
    Client {
        protocol,
        address: peer.map(|peer: SocketAddr| peer.ip().to_canonical().to_string()),
        scheme: request.uri().scheme_str().unwrap_or("http").to_owned(),
        authority: request.uri().authority().map(|it| it.to_string()).unwrap_or_default(),
    }
}

/// The fields that go out: those that came, in their order, and the proxy's own after them. Written
/// anew, because removing one from a `HeaderMap` moves another into its place.
fn fields(received: HeaderMap, client: &Client, settings: &Settings) -> HeaderMap {
    let (x_forwarded, standard) = match settings.forwarded {
        Forwarded::XForwarded => (true, false),
        Forwarded::Standard => (false, true),
        Forwarded::Both => (true, true),
        Forwarded::Off => (false, false),
    };
    // Whoever talks to this proxy could have made them up.
    let is_replaced = |name: &HeaderName| {
        *name == HOST
            || (settings.forwarded != Forwarded::Off
                && [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name))
            || (x_forwarded && !settings.strip.is_empty() && *name == X_FORWARDED_PREFIX)
    };
    let mut sent = HeaderMap::with_capacity(received.len() + 6);
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            sent.append(name, value);
        }
    };
    if settings.preserve_host {
        add(HOST, &client.authority);
    }
    let mut last = None;
    for (name, value) in received {
        // The name stands with the first of several values only.
        if let Some(name) = name {
            last = Some(name);
        }
        if let Some(name) = &last
            && !is_replaced(name)
        {
            sent.append(name, value);
        }
    }
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            sent.append(name, value);
        }
    };
    if x_forwarded {
        if let Some(address) = &client.address {
            add(X_FORWARDED_FOR, address);
        }
        add(X_FORWARDED_HOST, &client.authority);
        add(X_FORWARDED_PROTO, &client.scheme);
        if !settings.strip.is_empty() {
            add(X_FORWARDED_PREFIX, &settings.strip);
        }
    }
    if standard {
        let node = match client.address.as_deref() {
            Some(address) if address.contains(':') => format!("\"[{address}]\""),
            Some(address) => address.to_owned(),
            None => "unknown".to_owned(),
        };
        let Client { authority, scheme, .. } = client;
        add(FORWARDED, &format!("for={node};host=\"{authority}\";proto={scheme}"));
    }
    if settings.via {
        sent.append(VIA, via(client.protocol));
    }
    sent
}

fn via(protocol: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{protocol} {PSEUDONYM}"))
        .unwrap_or(HeaderValue::from_static(PSEUDONYM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    fn request(method: Method, target: &str, fields: &[(&'static str, &str)]) -> Request {
        let mut request = Request::new(method, target, ()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    fn sent(request: &Request) -> Vec<(&str, &str)> {
        let fields = request.headers().iter();
        fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn targets_keep_their_bytes() {
        let strip = settings(&[("upstream", "http://up:1/base"), ("strip-prefix", "/proxy/")]);
        let strip = strip.unwrap();
        let plain = settings(&[("upstream", "http://up:1")]).unwrap();

        for (came, goes) in [
            ("http://a/proxy", "http://up:1/base/"),
            ("http://a/proxy/", "http://up:1/base/"),
            ("http://a/proxy?q=%20", "http://up:1/base/?q=%20"),
            ("http://a/proxy/%2e%2E//x;y?a&&b", "http://up:1/base/%2e%2E//x;y?a&&b"),
            ("http://a/proxyfied", "http://up:1/base/proxyfied"),
        ] {
            assert_eq!(target(&request(Method::GET, came, &[]), &strip), goes);
        }
        assert_eq!(target(&request(Method::GET, "http://a/x//", &[]), &plain), "http://up:1/x//");
    }

    #[test]
    fn fields_go_out_in_order_and_as_often_as_they_came() {
        let settings = settings(&[("upstream", "http://up"), ("forwarded", "off")]).unwrap();
        let came = [("b", "1"), ("host", "a"), ("a", "2"), ("c", "3"), ("a", "4")];
        let mut request = request(Method::GET, "http://a/", &came);

        outgoing(&mut request, &settings).unwrap();

        let expected = [("b", "1"), ("a", "2"), ("a", "4"), ("c", "3"), ("via", "1.1 wharf")];
        assert_eq!(sent(&request), expected);
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced_unless_off() {
        let came = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        let with = |forwarded| {
            let pairs = [("upstream", "http://up"), ("via", "off"), ("forwarded", forwarded)];
            let mut request = request(Method::GET, "https://a:8/", &came);
            outgoing(&mut request, &settings(&pairs).unwrap()).unwrap();
            sent(&request).iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>()
        };

        assert_eq!(with("off"), ["x-forwarded-for: 1.2.3.4", "forwarded: for=1.2.3.4"]);
        assert_eq!(with("x-forwarded"), ["x-forwarded-host: a:8", "x-forwarded-proto: https"]);
        assert_eq!(with("forwarded"), ["forwarded: for=unknown;host=\"a:8\";proto=https"]);
    }

    #[test]
    fn max_forwards_counts_down_and_ends_here() {
        let counted = |method, left: &str| {
            let mut request = request(method, "http://a/", &[("max-forwards", left)]);
            let answer = final_recipient(&mut request);
            (answer, request.header("max-forwards").map(str::to_owned))
        };

        assert_eq!(counted(Method::OPTIONS, "0").0.unwrap().unwrap().status(), 204);
        assert_eq!(counted(Method::TRACE, "0").0.unwrap_err().status(), 405);
        assert_eq!(counted(Method::OPTIONS, "2").1.as_deref(), Some("1"));
        assert_eq!(counted(Method::GET, "0").1.as_deref(), Some("0"));
    }
}
