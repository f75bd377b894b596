use http::header::{CONTENT_TYPE, SET_COOKIE};

use super::*;

const PROTOCOLS: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

type Fields<'a> = &'a [(&'static str, &'a str)];

/// A request as the protocol files hand it in: on HTTP/1 the authority is in `Host`, on the others
/// in the URI.
fn arrived(protocol: Protocol, uri: &str, fields: Fields<'_>) -> Request<()> {
    let mut builder = Request::builder().version(match protocol {
        Protocol::H1 => Version::HTTP_11,
        Protocol::H2 => Version::HTTP_2,
        Protocol::H3 => Version::HTTP_3,
    });
    builder = match protocol {
        Protocol::H1 => builder.uri(uri).header("host", "a"),
        _ => builder.uri(format!("https://a{uri}")),
    };
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn checked(protocol: Protocol, mut arrived: Request<()>) -> Result<(Validated, Request<()>), u16> {
    let validated = request(&mut arrived, protocol, &Limits::default());
    validated.map(|validated| (validated, arrived)).map_err(|error| error.status().as_u16())
}

fn status(protocol: Protocol, uri: &str, fields: Fields<'_>) -> u16 {
    checked(protocol, arrived(protocol, uri, fields)).map_or_else(|status| status, |_| 200)
}

#[test]
fn fields_are_judged_the_same_way_in_every_version() {
    let long = "x".repeat(70_000);
    // Fields, then the status on HTTP/1.1, HTTP/2 and HTTP/3; 200 is accepted.
    let rows: &[(&str, Fields<'_>, [u16; 3])] = &[
        ("RFC 9110 §8.6 digits", &[("content-length", "42")], [200, 200, 200]),
        ("RFC 9110 §8.6 sign", &[("content-length", "+42")], [400, 400, 400]),
        ("RFC 9110 §8.6 empty", &[("content-length", "")], [400, 400, 400]),
        ("RFC 9110 §8.6 list", &[("content-length", "42, 42")], [400, 400, 400]),
        ("RFC 9110 §8.6 twice", &[("content-length", "4"), ("content-length", "4")], [400; 3]),
        ("RFC 9110 §8.6 overflow", &[("content-length", "18446744073709551616")], [400; 3]),
        ("RFC 9110 §8.6 largest", &[("content-length", "18446744073709551615")], [200; 3]),
        ("RFC 9112 §6.1 coding", &[("transfer-encoding", "chunked")], [200, 400, 400]),
        ("RFC 9112 §6.1 case", &[("transfer-encoding", "Chunked")], [200, 400, 400]),
        ("RFC 9112 §6.3 last", &[("transfer-encoding", "chunked, gzip")], [400, 400, 400]),
        ("RFC 9112 §6.1 unknown", &[("transfer-encoding", "gzip, chunked")], [501, 400, 400]),
        (
            "RFC 9112 §6.1 both",
            &[("transfer-encoding", "chunked"), ("content-length", "4")],
            [400; 3],
        ),
        ("RFC 9113 §8.2.2 connection", &[("connection", "close")], [200, 400, 400]),
        ("RFC 9113 §8.2.2 keep-alive", &[("keep-alive", "5")], [200, 400, 400]),
        ("RFC 9113 §8.2.2 proxy", &[("proxy-connection", "x")], [200, 400, 400]),
        ("RFC 9113 §8.2.2 upgrade", &[("upgrade", "h2c")], [200, 400, 400]),
        ("RFC 9113 §8.2.2 te", &[("te", "trailers")], [200, 200, 200]),
        ("RFC 9113 §8.2.2 te other", &[("te", "gzip")], [200, 400, 400]),
        ("RFC 9113 §8.2.2 te list", &[("te", "trailers, gzip")], [200, 400, 400]),
        ("RFC 9113 §8.2.1 space before", &[("x", " v")], [400, 400, 400]),
        ("RFC 9113 §8.2.1 tab after", &[("x", "v\t")], [400, 400, 400]),
        ("RFC 9110 §5.5 space inside", &[("x", "v w")], [200, 200, 200]),
        ("RFC 9110 §7.6.1 token", &[("connection", "a b")], [400, 400, 400]),
        ("RFC 9110 §7.6.1 host", &[("connection", "host")], [400, 400, 400]),
        ("RFC 9110 §7.6.1 length", &[("connection", "Content-Length")], [400, 400, 400]),
        ("RFC 9110 §7.6.1 cookie", &[("connection", "close, cookie")], [400, 400, 400]),
        ("RFC 9110 §10.1.1 continue", &[("expect", "100-Continue")], [200, 200, 200]),
        ("RFC 9110 §10.1.1 other", &[("expect", "200-ok")], [417, 417, 417]),
        ("RFC 6585 §5 size", &[("x", &long)], [431, 431, 431]),
        ("RFC 6585 §5 count", &[("x", "1"); 101], [431, 431, 431]),
    ];

    for (clause, fields, expected) in rows {
        let statuses = PROTOCOLS.map(|protocol| status(protocol, "/", fields));

        assert_eq!(statuses, *expected, "{clause}");
    }
}

#[test]
fn targets_are_judged_the_same_way_in_every_version() {
    let long = format!("/{}", "x".repeat(16 * 1024));
    let rows: &[(&str, &str, u16)] = &[
        ("RFC 3986 §3.3", "/a/../b//c;d=1/%2e%2E/%00?x={y}", 200),
        ("RFC 3986 §3.4", "/?q=a/b?c", 200),
        ("RFC 3986 §2 backslash", "/a\\b", 400),
        ("RFC 3986 §2 not ASCII", "/\u{e9}", 400),
        ("RFC 9110 §4.1 length", &long, 414),
    ];

    for (clause, target, expected) in rows {
        for protocol in PROTOCOLS {
            // What the URI type refuses never gets here.
            let built = std::panic::catch_unwind(|| arrived(protocol, target, &[]));
            let status =
                built.map_or(400, |request| checked(protocol, request).err().unwrap_or(200));

            assert_eq!(status, *expected, "{clause} {protocol:?}");
        }
    }
}

#[test]
fn methods_and_targets_must_fit_together() {
    let asterisk = |method| {
        let request = Request::builder().method(method).uri("*").header("host", "a");
        checked(Protocol::H1, request.body(()).unwrap())
            .map(|(_, request)| request.uri().to_string())
    };
    let connect = |extended: bool| {
        let mut request = Request::builder()
            .method("CONNECT")
            .version(Version::HTTP_2)
            .uri("https://a/chat")
            .body(())
            .unwrap();
        if extended {
            let protocol = UpgradeRequested(HeaderValue::from_static("websocket"));
            request.extensions_mut().insert(protocol);
        }
        checked(Protocol::H2, request).err()
    };

    assert_eq!(asterisk("GET"), Err(400)); // RFC 9112 §3.2.4
    assert!(asterisk("OPTIONS").is_ok());
    assert_eq!(connect(false), Some(501)); // RFC 9110 §9.3.6
    assert_eq!(connect(true), None); // RFC 8441 §4
}

#[test]
fn there_is_exactly_one_authority_and_it_is_normalised() {
    // Target, `Host`, and what becomes of them.
    let rows: &[(&str, &[&str], Result<&str, u16>)] = &[
        ("/", &["Example.COM:8080"], Ok("example.com:8080")),
        ("/", &["127.0.0.1"], Ok("127.0.0.1")),
        ("/", &["[::1]:80"], Ok("[::1]:80")),
        ("/", &["[FE80::A]"], Ok("[fe80::a]")),
        ("/", &["a_b-c.d."], Ok("a_b-c.d.")),
        ("http://A/", &[], Ok("a")),
        ("http://A/", &["a"], Ok("a")),
        ("http://a/", &["b"], Err(400)),
        ("http://a:80/", &["a"], Err(400)),
        ("/", &[], Err(400)),
        ("/", &["a", "a"], Err(400)),
        ("/", &[""], Err(400)),
        ("/", &["a b"], Err(400)),
        ("/", &["a,b"], Err(400)),
        ("/", &["a/b"], Err(400)),
        ("/", &["a?b"], Err(400)),
        ("/", &["a#b"], Err(400)),
        ("/", &["u@a"], Err(400)),
        ("/", &["u:p@a"], Err(400)),
        ("http://u@a/", &["a"], Err(400)),
        ("/", &["a:"], Err(400)),
        ("/", &[":80"], Err(400)),
        ("/", &["a:0"], Err(400)),
        ("/", &["a:65536"], Err(400)),
        ("/", &["a:+80"], Err(400)),
        ("/", &["a:80:80"], Err(400)),
        ("/", &["::1"], Err(400)),
        ("/", &["[::1"], Err(400)),
        ("/", &["[::1]x"], Err(400)),
        ("/", &["[a]"], Err(400)),
        ("/", &["[fe80::1%eth0]"], Err(400)),
        ("/", &["a%2e"], Err(400)),
        ("/", &["a\u{e9}"], Err(400)),
        ("ftp://a/", &[], Err(400)),
    ];

    for (target, hosts, expected) in rows {
        for protocol in PROTOCOLS {
            let mut builder = Request::builder().uri(*target);
            if protocol != Protocol::H1 {
                builder = builder.version(Version::HTTP_2);
            }
            for host in *hosts {
                builder = builder.header("host", *host);
            }

            let checked = checked(protocol, builder.body(()).unwrap());

            let authority = checked.as_ref().map(|(valid, _)| valid.authority.as_str());
            assert_eq!(authority, expected.as_ref().copied(), "{target} {hosts:?}");
            if let Ok((valid, request)) = &checked {
                assert_eq!(request.uri().authority(), Some(&valid.authority));
                assert_eq!(request.headers()[HOST], valid.authority.as_str());
            }
        }
    }
}

#[test]
fn no_transfer_coding_before_http_1_1() {
    let mut old = arrived(Protocol::H1, "/", &[("transfer-encoding", "chunked")]);
    *old.version_mut() = Version::HTTP_10;

    assert_eq!(checked(Protocol::H1, old).err(), Some(400)); // RFC 9112 §6.1
}

#[test]
fn a_plugin_sees_nothing_of_the_connection_and_nothing_in_the_hosts_name() {
    let fields = [
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("proxy", "http://evil"),
        ("wharf-exchange", "stolen"),
        ("wharf-reply", "stolen"),
        ("x-forwarded-prefix", "/evil"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("te", "gzip, trailers;q=0.5, trailers"),
        ("upgrade", "h2c"),
        ("x-kept", "v"),
    ];

    let (valid, seen) = checked(Protocol::H1, arrived(Protocol::H1, "/", &fields)).unwrap();

    let mut names: Vec<_> = seen.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "te", "x-kept"]);
    assert_eq!(seen.headers()[TE], "trailers");
    assert!(valid.chunked && valid.close && valid.takes_trailers && valid.expects_continue);
    assert!(seen.extensions().get::<UpgradeRequested>().is_none(), "not listed in connection");
}

#[test]
fn an_upgrade_is_remembered_where_it_is_asked_for_properly() {
    let fields = [("connection", "Upgrade"), ("upgrade", "websocket")];

    let (_, seen) = checked(Protocol::H1, arrived(Protocol::H1, "/", &fields)).unwrap();

    assert_eq!(seen.extensions().get::<UpgradeRequested>().unwrap().0, "websocket");
    assert!(!seen.headers().contains_key(UPGRADE));
}

#[test]
fn protocols_are_tokens_and_all_of_them_count() {
    let asked = |upgrades: &[&'static str]| {
        let mut fields = vec![("connection", "upgrade")];
        fields.extend(upgrades.iter().map(|upgrade| ("upgrade", *upgrade)));
        let (_, seen) = checked(Protocol::H1, arrived(Protocol::H1, "/", &fields))?;
        let asked = seen.extensions().get::<UpgradeRequested>();
        Ok(asked.map_or_else(Vec::new, |asked| asked.protocols().map(str::to_owned).collect()))
    };

    assert_eq!(asked(&["a, b/1.0", "c"]), Ok(vec!["a".into(), "b/1.0".into(), "c".into()]));
    assert_eq!(asked(&[", ,"]), Ok(vec![]));
    for malformed in ["a b", "a/b/c", "/1", "a/", "a;q=1", "\"a\""] {
        assert_eq!(asked(&["ok", malformed]), Err(400), "{malformed}"); // RFC 9110 §7.8
    }
}

#[test]
fn an_extended_connect_is_a_get_for_those_behind() {
    let connect = |protocol: &'static str, length: Option<&'static str>| {
        let mut request = Request::builder().method("CONNECT").version(Version::HTTP_3);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let mut request = request.uri("https://a/chat").body(()).unwrap();
        request.extensions_mut().insert(UpgradeRequested(HeaderValue::from_static(protocol)));
        checked(Protocol::H3, request).map(|(_, request)| request.method().clone())
    };

    assert_eq!(connect("echo", None), Ok(Method::GET));
    assert_eq!(connect("echo", Some("0")), Err(400)); // RFC 9113 §8.5
    assert_eq!(connect("echo, other", None), Err(400)); // RFC 8441 §4
    assert_eq!(connect("", None), Err(400));
}

#[test]
fn only_a_426_keeps_its_upgrade() {
    for (status, kept) in [(426, true), (200, false), (400, false)] {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("echo"));

        response(StatusCode::from_u16(status).unwrap(), &mut headers).unwrap();

        assert_eq!(headers.contains_key(UPGRADE), kept, "{status}");
    }
}

#[test]
fn split_cookies_are_one() {
    let fields = [("cookie", "a=1"), ("cookie", "b=2")];

    let (_, seen) = checked(Protocol::H2, arrived(Protocol::H2, "/", &fields)).unwrap();

    // RFC 9113 §8.2.3.
    let cookies: Vec<_> = seen.headers().get_all(COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[test]
fn the_scheme_is_the_connections() {
    let (_, mut request) = checked(Protocol::H1, arrived(Protocol::H1, "/b?c", &[])).unwrap();

    set_scheme(&mut request, Scheme::HTTPS);

    assert_eq!(request.uri(), "https://a/b?c");
}

#[test]
fn trailers_neither_frame_nor_modify() {
    let with = |name: &'static str| {
        let mut map = HeaderMap::new();
        map.insert("x-sum", HeaderValue::from_static("1"));
        map.insert(name, HeaderValue::from_static("1"));
        trailers(map).map(|map| map.len())
    };

    // RFC 9110 §6.5.1.
    for name in ["content-length", "transfer-encoding", "host", "connection", "te", "trailer"] {
        assert!(with(name).is_err(), "{name}");
    }
    for name in ["authorization", "cookie", "set-cookie", "content-type", "range", "wharf-reply"] {
        assert_eq!(with(name).unwrap(), 1, "{name}");
    }
    for name in ["etag", "grpc-status", "server-timing"] {
        assert_eq!(with(name).unwrap(), 2, "{name}");
    }
}

#[test]
fn trailers_are_bounded() {
    let mut many = HeaderMap::new();
    for _ in 0..=MAX_HEADERS {
        many.append("x", HeaderValue::from_static("1"));
    }
    let mut large = HeaderMap::new();
    large.insert("x", HeaderValue::try_from("x".repeat(MAX_HEADER_BYTES)).unwrap());

    assert!(trailers(many).is_err());
    assert!(trailers(large).is_err());
}

#[test]
fn a_response_leaves_the_connection_to_the_host() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "close, x-hop, set-cookie"),
        ("x-hop", "1"),
        ("keep-alive", "5"),
        ("transfer-encoding", "gzip"),
        ("upgrade", "h2c"),
        ("set-cookie", "a=1"),
        ("content-type", "text/plain"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }

    response(StatusCode::OK, &mut headers).unwrap();

    assert_eq!(headers.len(), 3);
    assert!(headers.contains_key(SET_COOKIE) && headers.contains_key(CONTENT_TYPE));
    assert_eq!(headers[CONNECTION], "close");
    assert!(connection_fields(&mut headers), "asks to close");
    assert_eq!(headers.len(), 2);
}

#[test]
fn a_response_has_a_final_status_and_one_length() {
    let with = |status: u16, lengths: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for length in lengths {
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
        }
        let status = StatusCode::from_u16(status).unwrap();
        response(status, &mut headers).map(|()| headers.len()).ok()
    };

    assert_eq!(with(200, &["5"]), Some(1));
    assert_eq!(with(200, &["5", "5"]), None);
    assert_eq!(with(200, &["5x"]), None);
    assert_eq!(with(204, &["0"]), Some(0)); // RFC 9110 §8.6
    assert_eq!(with(101, &[]), None);
    assert_eq!(with(103, &[]), None);
}

#[test]
fn dates_that_are_none_or_several_are_dropped() {
    const NOW: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
    for (given, left) in [(&[NOW][..], 1), (&["yesterday"], 0), (&[NOW, NOW], 0), (&[], 0)] {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append(DATE, HeaderValue::from_str(value).unwrap());
        }

        response(StatusCode::OK, &mut headers).unwrap();

        assert_eq!(headers.len(), left, "{given:?}");
    }
}
