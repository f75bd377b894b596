//! What clients get of what plugins answer, a row for each clause. Long, because the tables are.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::stream;
use http::header::{ETAG, HeaderName, IF_NONE_MATCH, VARY};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rand::RngExt;

use super::traits::prepare_at;
use super::*;
use crate::http::body::BodyError;

const DATE: &str = "Sat, 29 Oct 1994 19:43:31 GMT";

type Fields = &'static [(&'static str, &'static str)];

fn asked(method: &str, fields: &[(&str, &str)]) -> Asked {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    Asked::of(&Method::from_bytes(method.as_bytes()).unwrap(), &headers)
}

fn answer(status: u16, fields: &[(&str, &str)], body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

fn text(length: usize) -> Bytes {
    let words = ["alpha ", "beta ", "gamma ", "delta ", "{\"id\":", "},\n"];
    let mut random = rand::rng();
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        text.extend_from_slice(words[random.random_range(0..words.len())].as_bytes());
    }
    text.truncate(length);
    text.into()
}

fn streamed(pieces: Vec<Bytes>) -> ResponseBody {
    let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    ResponseBody::stream(Box::pin(StreamBody::new(stream::iter(frames))))
}

/// Cut at random places.
fn cut(content: &Bytes) -> Vec<Bytes> {
    let mut random = rand::rng();
    let mut rest = content.clone();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = [1, 10, 1000, 100_000][random.random_range(0..4)].min(rest.len());
        pieces.push(rest.split_to(random.random_range(1..=most)));
    }
    pieces
}

fn decode(coding: &str, coded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => {
            flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).unwrap();
        }
        "br" => {
            brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain).unwrap();
        }
        "zstd" => {
            let mut context = zstd_safe::DCtx::create();
            let mut input = zstd_safe::InBuffer::around(coded);
            let mut room = vec![0; 1 << 16];
            while input.pos < coded.len() {
                let mut output = zstd_safe::OutBuffer::around(&mut room[..]);
                context.decompress_stream(&mut output, &mut input).unwrap();
                plain.extend_from_slice(output.as_slice());
            }
            loop {
                let mut output = zstd_safe::OutBuffer::around(&mut room[..]);
                let left = context.decompress_stream(&mut output, &mut input).unwrap();
                let given = output.as_slice().len();
                plain.extend_from_slice(&room[..given]);
                if left == 0 || given == 0 {
                    break;
                }
            }
        }
        other => panic!("{other:?} is no coding of ours"),
    }
    plain
}

async fn bytes(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn field<'a>(response: &'a Response<ResponseBody>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn finish(asked: &Asked, response: Response<ResponseBody>) -> Response<ResponseBody> {
    Finisher::default().finish(asked, response, &FinishPolicy::default(), None)
}

#[derive(Default)]
struct Store {
    kept: Mutex<Vec<(Coding, Option<Bytes>)>>,
    claims: AtomicUsize,
}

impl CodedStore for Store {
    fn coded(&self, coding: Coding) -> Option<Bytes> {
        self.kept
            .lock()
            .iter()
            .find(|(kept, _)| *kept == coding)
            .and_then(|(_, bytes)| bytes.clone())
    }

    fn claim(&self, _: Coding) -> bool {
        self.claims.fetch_add(1, Ordering::Relaxed) == 0
    }

    fn keep(&self, coding: Coding, content: Option<Bytes>) {
        self.kept.lock().push((coding, content));
    }
}

#[test]
fn what_is_coded_and_what_is_not() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    const GZIP: (&str, &str) = ("accept-encoding", "gzip");
    // Coded, and whether others might be.
    let (yes, others, no) = ((true, true), (false, true), (false, false));
    type Row = (&'static str, Fields, u16, Fields, usize, (bool, bool));
    let rows: &[Row] = &[
        ("§12.5.3 it is accepted", &[GZIP], 200, &[JSON], 2000, yes),
        ("§12.5.3 it is not", &[], 200, &[JSON], 2000, others),
        ("§12.5.3 another is", &[("accept-encoding", "deflate")], 200, &[JSON], 2000, others),
        ("§12.4.2 it is refused", &[("accept-encoding", "gzip;q=0")], 200, &[JSON], 2000, others),
        ("from 1,024 bytes", &[GZIP], 200, &[JSON], 1024, yes),
        ("below", &[GZIP], 200, &[JSON], 1023, no),
        ("no type", &[GZIP], 200, &[], 2000, no),
        ("a type that is compressed", &[GZIP], 200, &[("content-type", "image/png")], 2000, no),
        ("events", &[GZIP], 200, &[("content-type", "text/event-stream")], 2000, no),
        ("§8.4 coded already", &[GZIP], 200, &[JSON, ("content-encoding", "br")], 2000, no),
        ("§8.4 identity", &[GZIP], 200, &[JSON, ("content-encoding", "identity")], 2000, no),
        ("an error page", &[GZIP], 404, &[JSON], 2000, yes),
        ("§15.3.7 a part", &[GZIP], 206, &[JSON, ("content-range", "bytes 0-1999/3000")], 2000, no),
        ("§7.7 no-transform", &[GZIP], 200, &[JSON, ("cache-control", "no-transform")], 2000, no),
        (
            "RFC 9111 §5.2.1.6 no-transform",
            &[GZIP, ("cache-control", "no-transform")],
            200,
            &[JSON],
            2000,
            others,
        ),
        ("BREACH: it sets a cookie", &[GZIP], 200, &[JSON, ("set-cookie", "a=b")], 2000, no),
        ("BREACH: a cookie came", &[GZIP, ("cookie", "a=b")], 200, &[JSON], 2000, others),
        (
            "BREACH: an authorization came",
            &[GZIP, ("authorization", "Basic eA==")],
            200,
            &[JSON],
            2000,
            others,
        ),
        (
            "a cookie came, and the answer is for all",
            &[GZIP, ("cookie", "a=b")],
            200,
            &[JSON, ("cache-control", "public, max-age=60")],
            2000,
            yes,
        ),
        (
            "§13.1.1 a version that is insisted on",
            &[GZIP, ("if-match", "\"a\"")],
            200,
            &[JSON, ("etag", "\"a\"")],
            2000,
            others,
        ),
    ];
    for (what, wanted, status, fields, length, (coded, varies)) in rows {
        let body = ResponseBody::full(text(*length));

        let response = finish(&asked("GET", wanted), answer(*status, fields, body));

        let coding = field(&response, "content-encoding").to_owned();
        assert_eq!(coding == "gzip", *coded, "{what}: {response:?}");
        assert_eq!(field(&response, "vary") == "Accept-Encoding", *varies, "{what}: {response:?}");
    }
}

#[test]
fn policies_say_what_is_coded() {
    let rows: &[(Fields, Fields, Compress, bool)] = &[
        (&[], &[("content-type", "text/html")], Compress::Never, false),
        (&[], &[("content-type", "text/html")], Compress::Safe, true),
        (&[("cookie", "a=b")], &[("content-type", "text/html")], Compress::Always, true),
        (&[], &[("content-type", "text/html"), ("set-cookie", "a")], Compress::Always, true),
        (&[], &[("content-type", "text/event-stream")], Compress::Always, true),
        (&[], &[("content-type", "image/png")], Compress::Always, false),
    ];
    for (wanted, fields, compress, coded) in rows {
        let asked = asked("GET", &[&[("accept-encoding", "zstd")], *wanted].concat());
        let policy = FinishPolicy { compress: *compress, ..FinishPolicy::default() };
        let response = answer(200, fields, ResponseBody::full(text(2000)));

        let response = Finisher::default().finish(&asked, response, &policy, None);

        assert_eq!(
            field(&response, "content-encoding") == "zstd",
            *coded,
            "{fields:?} {compress:?}"
        );
    }
}

#[tokio::test]
async fn coded_contents_decode_to_what_they_were() {
    for coding in ["gzip", "br", "zstd"] {
        for length in [1024, 5000, CODED_AT_ONCE, CODED_AT_ONCE + 1, 300_000] {
            let content = text(length);
            for body in [ResponseBody::full(content.clone()), streamed(cut(&content))] {
                let response = answer(
                    200,
                    &[
                        ("content-type", "text/plain"),
                        ("content-length", &length.to_string()),
                        ("etag", "\"a\""),
                        ("repr-digest", "sha-256=:x:"),
                        ("content-digest", "sha-256=:x:"),
                        ("digest", "x"),
                        ("content-md5", "x"),
                        ("accept-ranges", "bytes"),
                    ],
                    body,
                );

                let response = finish(&asked("GET", &[("accept-encoding", coding)]), response);

                assert_eq!(field(&response, "content-encoding"), coding);
                assert_eq!(field(&response, "etag"), "W/\"a\"");
                for gone in [
                    "content-length",
                    "repr-digest",
                    "content-digest",
                    "digest",
                    "content-md5",
                    "accept-ranges",
                ] {
                    assert!(!response.headers().contains_key(gone), "{gone}");
                }
                let coded = bytes(response).await;
                assert!(coded.len() < length, "{coding} {length}: {}", coded.len());
                assert!(decode(coding, &coded) == content, "{coding} {length}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_compressed_decodes_as_well() {
    let content: Bytes = (0..200_000).map(|_| rand::random::<u8>()).collect();
    for coding in ["gzip", "br", "zstd"] {
        let fields = [("content-type", "text/plain")];
        let response = answer(200, &fields, streamed(cut(&content)));

        let response = finish(&asked("GET", &[("accept-encoding", coding)]), response);

        assert!(decode(coding, &bytes(response).await) == content, "{coding}");
    }
}

#[tokio::test]
async fn each_chunk_of_a_stream_can_be_decoded_before_the_next_is_made() {
    for coding in ["gzip", "br", "zstd"] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok::<_, BodyError>(Frame::data(piece)), receiver))
        });
        let body = ResponseBody::stream(Box::pin(StreamBody::new(Box::pin(frames))));
        let response = answer(200, &[("content-type", "text/plain")], body);
        let response = finish(&asked("GET", &[("accept-encoding", coding)]), response);
        assert_eq!(field(&response, "content-encoding"), coding);
        let mut body = response.into_body();

        let mut coded = Vec::new();
        let mut plain = Vec::new();
        for round in 0..50 {
            let chunk = Bytes::from(format!("chunk {round}\n"));
            plain.extend_from_slice(&chunk);
            sender.send(chunk).await.unwrap();
            coded.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
            assert_eq!(decode_begun(coding, &coded), plain, "{coding} {round}");
        }
        drop(sender);
        coded.extend_from_slice(&body.collect().await.unwrap().to_bytes());

        assert_eq!(decode(coding, &coded), plain);
    }
}

/// What of a content that is not complete can be decoded.
fn decode_begun(coding: &str, coded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut room = [0; 256];
    match coding {
        "zstd" => {
            let mut context = zstd_safe::DCtx::create();
            let mut input = zstd_safe::InBuffer::around(coded);
            loop {
                let mut output = zstd_safe::OutBuffer::around(&mut room[..]);
                context.decompress_stream(&mut output, &mut input).unwrap();
                let given = output.as_slice().len();
                plain.extend_from_slice(&room[..given]);
                if given == 0 && input.pos == coded.len() {
                    return plain;
                }
            }
        }
        _ => {
            let mut decoder: Box<dyn Read> = match coding {
                "gzip" => Box::new(flate2::read::GzDecoder::new(coded)),
                _ => Box::new(brotli::Decompressor::new(coded, 64)),
            };
            // An end before the end is an error, once everything has been given.
            while let Ok(read @ 1..) = decoder.read(&mut room) {
                plain.extend_from_slice(&room[..read]);
            }
            plain
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_pause_gives_the_core_back() {
    let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 8192]))));
    let body = ResponseBody::stream(Box::pin(StreamBody::new(endless)));
    let response = answer(200, &[("content-type", "text/plain")], body);
    let response = finish(&asked("GET", &[("accept-encoding", "gzip")]), response);

    let mut body = Box::pin(response.into_body());
    let mut polls = 0;
    let polled = std::future::poll_fn(|cx| {
        polls += 1;
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => Poll::Ready(polls),
            // Something to send is a reason to leave, too.
            Poll::Ready(_) if polls < 1000 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(polls),
        }
    });

    assert!(polled.await < 1000);
}

#[tokio::test]
async fn trailers_pass_and_wrong_lengths_break_off() {
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
    for (declared, fits) in [("3000", true), ("2999", false), ("3001", false)] {
        let frames = vec![Ok(Frame::data(text(3000))), Ok(Frame::trailers(trailers.clone()))];
        let body = ResponseBody::stream(Box::pin(StreamBody::new(stream::iter(frames))));
        let fields = [("content-type", "text/plain"), ("content-length", declared)];

        let response =
            finish(&asked("GET", &[("accept-encoding", "br")]), answer(200, &fields, body));
        let collected = response.into_body().collect().await;

        match collected {
            Ok(collected) => assert!(fits && collected.trailers() == Some(&trailers)),
            Err(error) => assert!(!fits && matches!(error, BodyError::Length), "{error}"),
        }
    }
}

#[test]
fn encoders_are_bounded_and_given_back() {
    let finisher = Finisher::default();
    let asked = asked("GET", &[("accept-encoding", "gzip")]);
    let coded = || {
        let body = streamed(vec![text(3000)]);
        let response = answer(200, &[("content-type", "text/plain")], body);
        finisher.finish(&asked, response, &FinishPolicy::default(), None)
    };

    let held: Vec<_> = (0..MAX_ENCODERS).map(|_| coded()).collect();
    let uncoded = coded();
    let in_use = finisher.encoders.in_use();
    drop(held);

    assert_eq!(in_use, MAX_ENCODERS);
    assert_eq!(field(&uncoded, "content-encoding"), "");
    assert_eq!(field(&uncoded, "vary"), "Accept-Encoding");
    assert_eq!(finisher.encoders.in_use(), 0);
    assert_eq!(field(&coded(), "content-encoding"), "gzip");
}

#[tokio::test]
async fn a_stored_content_is_coded_once() {
    for length in [2000, 500_000] {
        let finisher = Finisher::default();
        let store = Arc::new(Store::default());
        let shared: Arc<dyn CodedStore> = Arc::clone(&store) as _;
        let content = text(length);
        // Stored answers are for all: cookies do not matter.
        let asked = asked("GET", &[("accept-encoding", "zstd"), ("cookie", "a=b")]);
        let fields = [("content-type", "text/plain"), ("etag", "\"a\"")];
        let answer = || answer(200, &fields, ResponseBody::full(content.clone()));
        let policy = FinishPolicy::default();

        let first = finisher.finish(&asked, answer(), &policy, Some(&shared));
        let first = bytes(first).await;
        let second = finisher.finish(&asked, answer(), &policy, Some(&shared));
        let exact = second.body().size_hint().exact();
        let second = bytes(second).await;

        assert_eq!(first, second);
        assert_eq!(exact, Some(first.len() as u64));
        assert!(decode("zstd", &first) == content);
        assert_eq!(store.claims.load(Ordering::Relaxed), 1);
        let head = Asked { wanted: Wanted::of(&Method::HEAD, &accept_zstd()), ..Asked::default() };
        let head = finisher.finish(&head, answer(), &policy, Some(&shared));
        assert_eq!(field(&head, "content-length"), first.len().to_string());
        assert_eq!(field(&head, "content-encoding"), "zstd");
    }
}

fn accept_zstd() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("zstd"))])
}

#[tokio::test]
async fn a_coding_that_is_given_up_is_not_kept() {
    let store = Arc::new(Store::default());
    let shared: Arc<dyn CodedStore> = Arc::clone(&store) as _;
    let asked = asked("GET", &[("accept-encoding", "zstd")]);
    let response =
        answer(200, &[("content-type", "text/plain")], ResponseBody::full(text(300_000)));

    let response =
        Finisher::default().finish(&asked, response, &FinishPolicy::default(), Some(&shared));
    let mut body = response.into_body();
    let _first = body.frame().await;
    drop(body);

    assert_eq!(*store.kept.lock(), [(Coding::Zstd, None)]);
}

#[test]
fn conditions_are_decided_where_the_plugin_left_them() {
    let tagged: Fields = &[("etag", "\"a\""), ("last-modified", DATE)];
    let rows: &[(&str, &str, Fields, u16, Fields, u16)] = &[
        ("§13.1.2 the tag", "GET", &[("if-none-match", "\"a\"")], 200, tagged, 304),
        ("§13.1.2 weakly", "GET", &[("if-none-match", "W/\"a\"")], 200, tagged, 304),
        ("§13.1.2 for HEAD", "HEAD", &[("if-none-match", "\"a\"")], 200, tagged, 304),
        ("§13.1.2 another", "GET", &[("if-none-match", "\"b\"")], 200, tagged, 200),
        ("§13.1.3 the date", "GET", &[("if-modified-since", DATE)], 200, tagged, 304),
        ("§13.1.1 the tag", "GET", &[("if-match", "\"a\"")], 200, tagged, 200),
        ("§13.1.1 another", "GET", &[("if-match", "\"b\"")], 200, tagged, 412),
        (
            "§13.1.4 modified since",
            "GET",
            &[("if-unmodified-since", "Sat, 29 Oct 1994 19:43:30 GMT")],
            200,
            tagged,
            412,
        ),
        ("§13.2.1 POST has had its effect", "POST", &[("if-match", "\"b\"")], 200, tagged, 200),
        ("§13.2.1 so has PUT", "PUT", &[("if-none-match", "*")], 200, tagged, 200),
        ("§13.2.1 an error stays", "GET", &[("if-none-match", "\"a\"")], 404, tagged, 404),
        ("§13.2.1 the plugin's 412", "GET", &[("if-none-match", "\"a\"")], 412, tagged, 412),
        ("§13.2.1 the plugin's 304", "GET", &[("if-none-match", "\"b\"")], 304, tagged, 304),
        (
            "no validators, no conditions",
            "GET",
            &[("if-none-match", "*")],
            200,
            &[("cache-control", "no-store")],
            200,
        ),
        (
            "§13.1.1 a date does not match tags",
            "GET",
            &[("if-match", "\"a\"")],
            200,
            &[("last-modified", DATE), ("cache-control", "no-store")],
            412,
        ),
    ];
    for (clause, method, wanted, status, fields, expected) in rows {
        let response = answer(*status, fields, ResponseBody::full("content"));

        let response = finish(&asked(method, wanted), response);

        assert_eq!(response.status(), *expected, "{clause}");
    }
}

#[test]
fn a_304_says_what_a_200_would_but_for_the_content() {
    let fields = [
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("expires", DATE),
        ("content-location", "/x"),
        ("last-modified", DATE),
        ("set-cookie", "a=b"),
        ("content-type", "text/plain"),
        ("content-length", "2000"),
        ("content-language", "en"),
        ("content-disposition", "inline"),
        ("repr-digest", "sha-256=:x:"),
        ("trailer", "x-sum"),
    ];
    let wanted = [("if-none-match", "\"a\""), ("accept-encoding", "gzip")];
    let policy = FinishPolicy { compress: Compress::Always, ..FinishPolicy::default() };
    let response = answer(200, &fields, ResponseBody::full(text(2000)));

    let response = Finisher::default().finish(&asked("GET", &wanted), response, &policy, None);

    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    // §15.4.5.
    let expected = [
        "cache-control",
        "content-location",
        "etag",
        "expires",
        "last-modified",
        "set-cookie",
        "vary",
    ];
    assert_eq!(names, expected);
    // The tag of the 200 that it stands for, which would have been coded.
    assert_eq!(field(&response, "etag"), "W/\"a\"");
    assert!(response.body().is_end_stream());
}

#[test]
fn a_412_and_a_416_are_for_nobody_else() {
    let fields = [
        ("etag", "\"a\""),
        ("cache-control", "public, max-age=60"),
        ("cdn-cache-control", "max-age=9"),
    ];
    for (wanted, status) in [(&[("if-match", "\"b\"")][..], 412), (&[("range", "bytes=100-")], 416)]
    {
        let response =
            finish(&asked("GET", wanted), answer(200, &fields, ResponseBody::full("abc")));

        assert_eq!(response.status(), status);
        assert_eq!(field(&response, "cache-control"), "no-store");
        assert_eq!(field(&response, "cdn-cache-control"), "");
        assert!(response.body().is_end_stream());
    }
}

#[tokio::test]
async fn contents_get_tags_and_with_them_conditions_and_ranges() {
    let answer = || answer(200, &[("content-type", "text/plain")], ResponseBody::full("hello"));

    let first = finish(&asked("GET", &[]), answer());
    let tag = field(&first, "etag").to_owned();
    let head = finish(&asked("HEAD", &[]), answer());
    let again = finish(&asked("GET", &[("if-none-match", &tag)]), answer());
    let part = finish(&asked("GET", &[("range", "bytes=1-3"), ("if-range", &tag)]), answer());
    let weak = format!("W/{tag}");
    let stale = finish(&asked("GET", &[("range", "bytes=1-3"), ("if-range", &weak)]), answer());

    assert_eq!(first.headers()[ETAG], tag::content_tag(b"hello"));
    assert_eq!(field(&first, "accept-ranges"), "bytes");
    assert_eq!(field(&head, "etag"), tag);
    assert_eq!(again.status(), 304);
    assert_eq!(field(&part, "content-range"), "bytes 1-3/5");
    assert_eq!(bytes(part).await, "ell");
    assert_eq!(stale.status(), 200);
}

#[test]
fn contents_that_get_no_tag() {
    let policy = FinishPolicy { tags: false, ..FinishPolicy::default() };
    for (what, method, status, body, policy) in [
        ("POST", "POST", 200, ResponseBody::full("x"), FinishPolicy::default()),
        ("201", "GET", 201, ResponseBody::full("x"), FinishPolicy::default()),
        ("404", "GET", 404, ResponseBody::full("x"), FinishPolicy::default()),
        ("HEAD without content", "HEAD", 200, ResponseBody::empty(), FinishPolicy::default()),
        ("a stream", "GET", 200, streamed(vec![text(10)]), FinishPolicy::default()),
        ("not wanted", "GET", 200, ResponseBody::full("x"), policy),
    ] {
        let response = Finisher::default().finish(
            &asked(method, &[]),
            answer(status, &[], body),
            &policy,
            None,
        );

        assert!(!response.headers().contains_key(ETAG), "{what}");
    }
}

#[test]
fn ranges_need_a_strong_validator_and_a_length() {
    let rows: &[(&str, Fields, bool)] = &[
        ("§8.8.3 a strong tag", &[("etag", "\"a\"")], true),
        ("§8.8.1 a weak tag", &[("etag", "W/\"a\"")], false),
        ("§8.8.1 a weak tag and a date", &[("etag", "W/\"a\""), ("last-modified", DATE)], false),
        ("§8.8.2.2 an old date", &[("last-modified", DATE), ("cache-control", "no-store")], true),
        ("nothing", &[("cache-control", "no-store")], false),
        ("§14.3 they are refused", &[("etag", "\"a\""), ("accept-ranges", "none")], false),
        ("§14.3 they are offered", &[("etag", "\"a\""), ("accept-ranges", "bytes")], true),
    ];
    for (clause, fields, ranges) in rows {
        let asked = asked("GET", &[("range", "bytes=0-0")]);

        let response = finish(&asked, answer(200, fields, ResponseBody::full("abc")));

        assert_eq!(response.status() == 206, *ranges, "{clause}");
        if *ranges {
            assert_eq!(field(&response, "accept-ranges"), "bytes", "{clause}");
        }
    }
    let unknown = streamed(vec![text(10)]);
    let response = finish(
        &asked("GET", &[("range", "bytes=0-0")]),
        answer(200, &[("etag", "\"a\"")], unknown),
    );
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_part_is_of_the_uncoded_content() {
    let content = text(5000);
    let wanted = [("range", "bytes=10-1999"), ("accept-encoding", "gzip, br, zstd")];
    let fields = [
        ("content-type", "text/plain"),
        ("etag", "\"a\""),
        ("content-md5", "x"),
        ("repr-digest", "x"),
    ];

    let response =
        finish(&asked("GET", &wanted), answer(200, &fields, ResponseBody::full(content.clone())));

    assert_eq!(response.status(), 206);
    assert_eq!(field(&response, "content-encoding"), "");
    assert_eq!(field(&response, "etag"), "\"a\"");
    assert_eq!(field(&response, "vary"), "Accept-Encoding");
    assert_eq!(field(&response, "content-length"), "1990");
    assert_eq!(field(&response, "content-md5"), "");
    assert_eq!(field(&response, "repr-digest"), "x");
    assert_eq!(bytes(response).await, content.slice(10..2000));
}

#[tokio::test]
async fn parts_of_streams_equal_slices() {
    let mut random = rand::rng();
    for _ in 0..300 {
        let content = text(random.random_range(1..5000));
        let size = content.len();
        let count = random.random_range(1..4);
        let specs: Vec<(usize, usize)> = (0..count)
            .map(|_| {
                let start = random.random_range(0..size);
                (start, random.random_range(start..size))
            })
            .collect();
        let set: Vec<_> = specs.iter().map(|(start, last)| format!("{start}-{last}")).collect();
        let range = format!("bytes={}", set.join(", "));
        let length = size.to_string();
        let fields =
            [("content-type", "text/plain"), ("etag", "\"a\""), ("content-length", &length)];
        let asked = asked("GET", &[("range", &range)]);

        for body in [ResponseBody::full(content.clone()), streamed(cut(&content))] {
            let response = finish(&asked, answer(200, &fields, body));

            assert_eq!(response.status(), 206, "{range}");
            let declared: usize = field(&response, "content-length").parse().unwrap();
            let content_type = field(&response, "content-type").to_owned();
            let content_range = field(&response, "content-range").to_owned();
            let exact = response.body().size_hint().exact();
            let sent = bytes(response).await;
            assert_eq!((declared, exact), (sent.len(), Some(sent.len() as u64)), "{range}");
            match content_type.strip_prefix("multipart/byteranges; boundary=") {
                None => check_part(&content, &content_range, &sent),
                Some(boundary) => {
                    let text = String::from_utf8(sent.to_vec()).unwrap();
                    let parts: Vec<_> = text.split(&format!("--{boundary}")).collect();
                    assert_eq!(parts.last(), Some(&"--\r\n"));
                    for part in &parts[1..parts.len() - 1] {
                        let (head, bytes) = part.split_once("\r\n\r\n").unwrap();
                        let content_range = head.split("content-range: ").nth(1).unwrap();
                        let bytes = bytes.strip_suffix("\r\n").unwrap();
                        check_part(&content, content_range, bytes.as_bytes());
                    }
                }
            }
        }
    }
}

fn check_part(content: &Bytes, content_range: &str, sent: &[u8]) {
    let (range, size) = content_range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    assert_eq!(size, content.len().to_string());
    assert_eq!(sent, &content[first..=last]);
}

#[tokio::test]
async fn a_stream_is_dropped_after_its_last_part_and_breaks_off_where_it_is_short() {
    let fields = [("etag", "\"a\""), ("content-length", "100")];
    let never = stream::once(async { Ok(Frame::data(text(10))) }).chain_pending();
    let asked_first = asked("GET", &[("range", "bytes=0-4")]);
    let asked_last = asked("GET", &[("range", "bytes=-5")]);

    let body = ResponseBody::stream(Box::pin(StreamBody::new(Box::pin(never))));
    let first = bytes(finish(&asked_first, answer(200, &fields, body))).await;
    let short = finish(&asked_last, answer(200, &fields, streamed(vec![text(50)])));
    let short = short.into_body().collect().await;

    assert_eq!(first.len(), 5);
    assert!(matches!(short, Err(BodyError::Length)));
}

trait ChainPending: stream::Stream + Sized {
    /// What comes after it never comes.
    fn chain_pending(self) -> impl stream::Stream<Item = Self::Item> {
        use futures_util::StreamExt;
        self.chain(stream::pending())
    }
}

impl<S: stream::Stream> ChainPending for S {}

#[test]
fn head_says_what_get_would() {
    let accept = [("accept-encoding", "gzip")];
    let typed = ("content-type", "text/plain");
    let tagged = ("etag", "\"a\"");
    for (what, fields, body, coding, length, etag) in [
        (
            "the length is declared",
            vec![typed, tagged, ("content-length", "2000")],
            ResponseBody::empty(),
            "gzip",
            "",
            "W/\"a\"",
        ),
        (
            "the content came along",
            vec![typed, tagged],
            ResponseBody::full(text(2000)),
            "gzip",
            "",
            "W/\"a\"",
        ),
        ("nothing is known", vec![typed, tagged], ResponseBody::empty(), "", "", "\"a\""),
        ("it is short", vec![typed, tagged], ResponseBody::full("short"), "", "5", "\"a\""),
    ] {
        let response = finish(&asked("HEAD", &accept), answer(200, &fields, body));

        assert_eq!(field(&response, "content-encoding"), coding, "{what}");
        assert_eq!(field(&response, "content-length"), length, "{what}");
        assert_eq!(field(&response, "etag"), etag, "{what}");
    }
}

#[test]
fn what_the_plugin_decided_stays() {
    let rows: &[(u16, Fields)] = &[
        (206, &[("content-range", "bytes 0-2/9"), ("etag", "\"a\"")]),
        (416, &[("content-range", "bytes */9")]),
        (304, &[("etag", "\"a\"")]),
        (412, &[("etag", "\"a\"")]),
        (200, &[("content-range", "bytes 0-2/9"), ("etag", "\"a\"")]),
    ];
    for (status, fields) in rows {
        let asked = asked("GET", &[("range", "bytes=0-0"), ("if-none-match", "\"a\"")]);

        let response = finish(&asked, answer(*status, fields, ResponseBody::full("abc")));

        assert_eq!(response.status(), *status);
        assert_eq!(response.headers().len(), fields.len(), "{response:?}");
    }
}

#[test]
fn a_wrong_length_is_left_to_the_protocol() {
    let fields = [("content-type", "text/plain"), ("content-length", "5000")];
    let response = answer(200, &fields, ResponseBody::full(text(2000)));

    let response = finish(&asked("GET", &[("accept-encoding", "gzip")]), response);

    assert_eq!(field(&response, "content-length"), "5000");
    assert_eq!(field(&response, "content-encoding"), "");
}

#[test]
fn a_request_that_asks_for_nothing_costs_nothing_to_keep() {
    let asked = asked("GET", &[("accept", "*/*"), ("cookie", "a=b")]);

    assert!(asked.wanted.is_plain());
    assert!(!asked.wanted.has(&IF_NONE_MATCH));
}

#[test]
fn a_fresh_date_is_no_strong_validator() {
    let now = SystemTime::now();
    let fresh = httpdate::fmt_http_date(now);
    let fields = [("last-modified", &*fresh), ("cache-control", "no-store")];
    for (age, has_ranges) in [(0, false), (3, true)] {
        let (mut head, body) = answer(200, &fields, ResponseBody::full("abc")).into_parts();
        let then = || now + Duration::from_secs(age);

        let policy = FinishPolicy::default();
        let traits = prepare_at(&Method::GET, &mut head, &body, &policy, false, then);

        assert_eq!(traits.has_ranges, has_ranges, "{age} s");
        assert_eq!(head.headers.contains_key(ACCEPT_RANGES), has_ranges);
        assert!(!head.headers.contains_key(VARY));
    }
}
