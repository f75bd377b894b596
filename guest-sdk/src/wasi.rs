//! The way between our types and those of `wasi:http` 0.3: requests in, responses out, and the
//! other way round for the client and for middleware.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request as WasiRequest, RequestOptions,
    Response as WasiResponse, Scheme,
};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult};

use crate::body::{BodyWriter, Closed, LocalFuture, Sink, Source, Start};
use crate::client::{SendError, SendErrorKind, Timeouts};
use crate::error::write_to_stderr;
use crate::exchange::EXCHANGE_HEADER;
use crate::{Body, Error, Middleware, Next, Request, Response, Router};

/// Bytes asked for in one read; the host gives what it has.
const READ_SIZE: usize = 64 << 10;

type Trailers = Result<Option<Fields>, ErrorCode>;

mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "middleware",
        with: {
            "wasi:http/types@0.3.2": wasip3::http::types,
            "wasi:clocks/types@0.3.2": wasip3::clocks::types,
            "wasi:http/handler@0.3.2": generate,
        },
    });
}

/// Answers a request with a router.
pub async fn serve(router: Rc<Router>, request: WasiRequest) -> Result<WasiResponse, ErrorCode> {
    let response = match from_request(request) {
        Ok(request) => router.handle(request).await,
        Err(error) => error.into_response(),
    };
    into_response(response)
}

/// Answers a request with a middleware around the host's handler.
pub async fn wrap(
    middleware: &impl Middleware,
    request: WasiRequest,
) -> Result<WasiResponse, ErrorCode> {
    let answer = match from_request(request) {
        Ok(request) => middleware.call(request, Next::host()).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(response) => into_response(response),
        Err(mut error) => match error.take_downstream() {
            Some(code) => Err(code),
            None => {
                error.report();
                into_response(error.into_response())
            }
        },
    }
}

/// Waits, without holding up the instance's other requests.
pub async fn sleep(duration: Duration) {
    monotonic_clock::wait_for(nanoseconds(duration)).await;
}

pub(crate) async fn run_next(request: Request) -> Result<Response, Error> {
    let request = into_request(request, None).map_err(Error::internal)?;
    match bindings::wasi::http::handler::handle(request).await {
        Ok(response) => from_response(response),
        Err(code) => Err(Error::downstream(code)),
    }
}

/// A received request may be sent on, but its token is between us and our host, which takes it off
/// itself where it is told that the request is `forwarded`.
pub(crate) async fn send(
    mut request: Request,
    timeouts: Timeouts,
    forwarded: bool,
) -> Result<Response, SendError> {
    if !forwarded {
        request.headers_mut().remove(EXCHANGE_HEADER);
    }
    let options = options(&timeouts);
    let request = into_request(request, options)
        .map_err(|message| SendError { kind: SendErrorKind::Protocol, message })?;
    let sent = wasip3::http::client::send(request);
    let answer = match timeouts.total {
        Some(total) => before(total, sent).await.ok_or_else(|| SendError {
            kind: SendErrorKind::Timeout,
            message: format!("no response within {total:?}"),
        })?,
        None => sent.await,
    };
    let response = answer.map_err(|code| send_error(&code))?;
    from_response(response)
        .map_err(|error| SendError { kind: SendErrorKind::Protocol, message: error.to_string() })
}

/// A body that the host holds, untouched until it is first read.
pub(crate) enum Incoming {
    Untouched(Message),
    Open {
        stream: StreamReader<u8>,
        trailers: FutureReader<Trailers>,
        /// Resolves to success when it is dropped; kept for as long as the body is read.
        _received: FutureWriter<Result<(), ErrorCode>>,
    },
    Ended(Trailers),
}

pub(crate) enum Message {
    Request(WasiRequest),
    Response(WasiResponse),
}

impl Incoming {
    /// The next piece; `None` once the stream has ended, well or not.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.open();
        let Self::Open { stream, .. } = self else {
            return None;
        };
        loop {
            let (result, piece) = stream.read(Vec::with_capacity(READ_SIZE)).await;
            if !piece.is_empty() {
                return Some(piece.into());
            }
            if !matches!(result, StreamResult::Complete(_)) {
                return None;
            }
        }
    }

    /// The trailers; an error where the body was cut off.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Error> {
        self.open();
        let received = match std::mem::replace(self, Self::Ended(Ok(None))) {
            Self::Open { trailers, .. } => trailers.await,
            Self::Ended(trailers) => trailers,
            Self::Untouched(_) => Ok(None),
        };
        match received {
            Ok(None) => Ok(None),
            Ok(Some(fields)) => from_fields(&fields).map(Some),
            Err(code) => {
                let detail = "the body was cut off";
                Err(Error::internal(format!("{code:?}")).detail(detail))
            }
        }
    }

    /// Both ends as the host gave them, to be passed on without reading.
    fn into_ends(mut self) -> Option<(StreamReader<u8>, FutureReader<Trailers>)> {
        self.open();
        match self {
            Self::Open { stream, trailers, .. } => Some((stream, trailers)),
            _ => None,
        }
    }

    fn open(&mut self) {
        if !matches!(self, Self::Untouched(_)) {
            return;
        }
        if let Self::Untouched(message) = std::mem::replace(self, Self::Ended(Ok(None))) {
            let (_received, result) = wit_future::new(|| Ok(()));
            let (stream, trailers) = match message {
                Message::Request(request) => WasiRequest::consume_body(request, result),
                Message::Response(response) => WasiResponse::consume_body(response, result),
            };
            *self = Self::Open { stream, trailers, _received };
        }
    }
}

fn from_request(request: WasiRequest) -> Result<Request, Error> {
    let method = match request.get_method() {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
        Method::Connect => http::Method::CONNECT,
        Method::Options => http::Method::OPTIONS,
        Method::Trace => http::Method::TRACE,
        Method::Patch => http::Method::PATCH,
        Method::Other(name) => http::Method::from_bytes(name.as_bytes())
            .map_err(|_| Error::bad_request("malformed method"))?,
    };
    let uri = from_target(&request).ok_or_else(|| Error::bad_request("malformed target"))?;
    let headers = from_fields(&request.get_headers())?;
    let body = Body {
        source: Source::Incoming(Incoming::Untouched(Message::Request(request))),
        trailers: None,
    };
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request.into())
}

fn from_target(request: &WasiRequest) -> Option<Uri> {
    let path = request.get_path_with_query().filter(|path| !path.is_empty());
    let path = path.unwrap_or_else(|| "/".into());
    let Some(authority) = request.get_authority() else {
        return path.parse().ok();
    };
    let scheme = match request.get_scheme() {
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(scheme)) => scheme,
        Some(Scheme::Http) | None => "http".to_owned(),
    };
    Uri::builder().scheme(scheme.as_str()).authority(authority).path_and_query(path).build().ok()
}

fn from_response(response: WasiResponse) -> Result<Response, Error> {
    let status = StatusCode::from_u16(response.get_status_code())?;
    let headers = from_fields(&response.get_headers())?;
    let body = Body {
        source: Source::Incoming(Incoming::Untouched(Message::Response(response))),
        trailers: None,
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response.into())
}

fn from_fields(fields: &Fields) -> Result<HeaderMap, Error> {
    let fields = fields.copy_all();
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        headers.append(name, HeaderValue::from_maybe_shared(Bytes::from(value))?);
    }
    Ok(headers)
}

/// Fields that the host forbids (RFC 9110 §7.6.1: `connection` and its like) are left out, so
/// that a received head can be passed on as it is.
fn into_fields(headers: &HeaderMap) -> Result<Fields, String> {
    let list: Vec<(String, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_owned()))
        .collect();
    if let Ok(fields) = Fields::from_list(&list) {
        return Ok(fields);
    }
    let fields = Fields::new();
    for (name, value) in &list {
        match fields.append(name, value) {
            Ok(()) | Err(HeaderError::Forbidden) => {}
            Err(error) => return Err(format!("header {name:?} refused by the host: {error:?}")),
        }
    }
    Ok(fields)
}

fn into_response(response: Response) -> Result<WasiResponse, ErrorCode> {
    let (mut head, body) = response.into_parts();
    let has_content = !head.status.is_informational()
        && head.status != StatusCode::NO_CONTENT
        && head.status != StatusCode::NOT_MODIFIED;
    if has_content {
        set_length(&mut head.headers, &body);
    }
    let fields = into_fields(&head.headers).map_err(|message| {
        write_to_stderr(&message);
        ErrorCode::InternalError(Some(message))
    })?;
    let sending = Sending::new(body);
    let (response, _sent) = WasiResponse::new(fields, sending.content, sending.trailers);
    // `http::StatusCode` is a number from 100 to 999, the only thing that is checked.
    let _ = response.set_status_code(head.status.as_u16());
    if let Some(work) = sending.work {
        wasip3::spawn_local(work);
    }
    Ok(response)
}

fn into_request(request: Request, options: Option<RequestOptions>) -> Result<WasiRequest, String> {
    let (mut head, body) = request.into_parts();
    set_length(&mut head.headers, &body);
    let fields = into_fields(&head.headers)?;
    let sending = Sending::new(body);
    let (request, _sent) = WasiRequest::new(fields, sending.content, sending.trailers, options);
    let method = match head.method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::DELETE => Method::Delete,
        http::Method::CONNECT => Method::Connect,
        http::Method::OPTIONS => Method::Options,
        http::Method::TRACE => Method::Trace,
        http::Method::PATCH => Method::Patch,
        other => Method::Other(other.as_str().to_owned()),
    };
    let scheme = head.uri.scheme_str().map(|scheme| match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    });
    request.set_method(&method).map_err(|()| format!("method refused by the host: {method:?}"))?;
    request
        .set_scheme(scheme.as_ref())
        .and_then(|()| request.set_authority(head.uri.authority().map(|part| part.as_str())))
        .and_then(|()| {
            request.set_path_with_query(head.uri.path_and_query().map(|part| part.as_str()))
        })
        .map_err(|()| format!("target refused by the host: {}", head.uri))?;
    if let Some(work) = sending.work {
        wasip3::spawn_local(work);
    }
    Ok(request)
}

/// Tells the length of a body that is at hand, so that HTTP/1.1 need not chunk it. Trailers need
/// chunks there.
fn set_length(headers: &mut HeaderMap, body: &Body) {
    if let Source::Whole(bytes) = &body.source
        && body.trailers.is_none()
    {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| bytes.len().into());
    }
}

/// A body on its way to the host.
struct Sending {
    content: Option<StreamReader<u8>>,
    trailers: FutureReader<Trailers>,
    /// What must go on while the host reads.
    work: Option<LocalFuture<()>>,
}

impl Sending {
    fn new(body: Body) -> Self {
        match body.source {
            Source::Incoming(incoming) => match incoming.into_ends() {
                Some((stream, trailers)) => Self { content: Some(stream), trailers, work: None },
                None => Self::empty(body.trailers),
            },
            Source::Empty => Self::empty(body.trailers),
            Source::Whole(bytes) if bytes.is_empty() => Self::empty(body.trailers),
            Source::Whole(bytes) => {
                let trailers = body.trailers;
                Self::written(Box::new(move |mut writer: BodyWriter| {
                    Box::pin(async move {
                        if let Some(trailers) = trailers {
                            writer.set_trailers(trailers);
                        }
                        Ok(writer.write(bytes).await?)
                    })
                }))
            }
            Source::Written(start) => Self::written(start),
            source @ Source::Piped { .. } => {
                let rest = Body { source, trailers: None };
                Self::written(Box::new(move |mut writer: BodyWriter| {
                    Box::pin(async move { writer.write_body(rest).await })
                }))
            }
        }
    }

    fn empty(trailers: Option<HeaderMap>) -> Self {
        let (writer, reader) = wit_future::new(|| Ok(None));
        let work = trailers.map(|trailers| -> LocalFuture<()> {
            Box::pin(async move {
                let _ = writer.write(into_trailers(Some(&trailers))).await;
            })
        });
        Self { content: None, trailers: reader, work }
    }

    fn written(start: Start) -> Self {
        let (content_writer, content) = wit_stream::new();
        // Should the work end with a panic, the body must not look complete.
        let (trailers_writer, trailers) =
            wit_future::new(|| Err(ErrorCode::InternalError(Some("body not finished".into()))));
        let work = Box::pin(async move {
            let own_trailers = Rc::new(Cell::new(None));
            let sink = Sink::Host(content_writer);
            let outcome = start(BodyWriter { sink, trailers: own_trailers.clone() }).await;
            let end = match outcome {
                Ok(()) => into_trailers(own_trailers.take().as_ref()),
                Err(error) => {
                    // A client that leaves is no fault of the plugin's.
                    if error.cause::<Closed>().is_none() {
                        write_to_stderr(&format!("response cut off: {error}"));
                    }
                    Err(ErrorCode::InternalError(Some("the body's writer failed".into())))
                }
            };
            // Fails only where nobody waits for the trailers.
            let _ = trailers_writer.write(end).await;
        });
        Self { content: Some(content), trailers, work: Some(work) }
    }
}

fn into_trailers(trailers: Option<&HeaderMap>) -> Trailers {
    match trailers {
        None => Ok(None),
        Some(trailers) => match into_fields(trailers) {
            Ok(fields) => Ok(Some(fields)),
            Err(message) => {
                write_to_stderr(&message);
                Err(ErrorCode::InternalError(Some(message)))
            }
        },
    }
}

fn options(timeouts: &Timeouts) -> Option<RequestOptions> {
    let Timeouts { connect, first_byte, between_bytes, .. } = *timeouts;
    if connect.or(first_byte).or(between_bytes).is_none() {
        return None;
    }
    let options = RequestOptions::new();
    // A host without one of these has its own limit; `total` holds everywhere.
    let _ = options.set_connect_timeout(connect.map(nanoseconds));
    let _ = options.set_first_byte_timeout(first_byte.map(nanoseconds));
    let _ = options.set_between_bytes_timeout(between_bytes.map(nanoseconds));
    Some(options)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `future`'s output, or `None` if it takes longer than `limit`.
async fn before<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = pin!(sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn send_error(code: &ErrorCode) -> SendError {
    let kind = match code {
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => SendErrorKind::Timeout,
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => SendErrorKind::Denied,
        ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionLimitReached => SendErrorKind::Connect,
        ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => SendErrorKind::Tls,
        ErrorCode::LoopDetected | ErrorCode::ConfigurationError | ErrorCode::InternalError(_) => {
            SendErrorKind::Other
        }
        _ => SendErrorKind::Protocol,
    };
    SendError { kind, message: format!("{code:?}") }
}
