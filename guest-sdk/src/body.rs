//! [`Body`]: what a message carries, read or written piece by piece, with its trailers.
//!
//! A body that came from the host and is given back unread (an echo, a proxy, a middleware) is
//! passed on as it is: the host joins both ends and no byte enters the guest.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Error;

/// A future of one instance's single thread.
pub(crate) type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Starts a body's writer.
pub(crate) type Start = Box<dyn FnOnce(BodyWriter) -> LocalFuture<Result<(), Error>>>;

/// The content of a request or a response, and its trailers.
#[derive(Default)]
pub struct Body {
    pub(crate) source: Source,
    /// Those to send after [`Source::Whole`], or those received once the end was read.
    pub(crate) trailers: Option<HeaderMap>,
}

#[derive(Default)]
pub(crate) enum Source {
    /// Nothing (left).
    #[default]
    Empty,
    /// All of it at once.
    Whole(Bytes),
    /// To be written while it is sent.
    Written(Start),
    /// Being written, and read in this same instance.
    Piped { writer: LocalFuture<Result<(), Error>>, pipe: Rc<Pipe> },
    /// Held by the host.
    #[cfg(target_family = "wasm")]
    Incoming(crate::wasi::Incoming),
}

impl Body {
    /// A body without content.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body that `write` produces while it is sent. Each write waits until the receiver has
    /// taken the piece, so a slow client slows the writer and memory stays bounded.
    ///
    /// Where `write` fails the message is cut off, never ended as if it were complete.
    ///
    /// ```
    /// # use wharf_sdk::Body;
    /// let body = Body::stream(|mut writer| async move {
    ///     for i in 0..3 {
    ///         writer.write(format!("line {i}\n")).await?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn stream<F, Fut>(write: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<(), Error>> + 'static,
    {
        let start: Start = Box::new(move |writer| Box::pin(write(writer)));
        Self { source: Source::Written(start), trailers: None }
    }

    /// The same body followed by `trailers`. Has no effect on a body from the host, which brings
    /// its own, nor on a [`stream`](Self::stream), whose writer sets them.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }

    /// The number of bytes, where it is known without reading.
    pub fn len(&self) -> Option<usize> {
        match &self.source {
            Source::Empty => Some(0),
            Source::Whole(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// True if the body is known to have no content.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Reads the next piece as it arrives, of whatever size; `None` at the end.
    ///
    /// # Errors
    ///
    /// The sender left before the end, or the writer of a [`stream`](Self::stream) failed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a piece that arrives while the future is dropped is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            match &mut self.source {
                Source::Empty => return None,
                Source::Whole(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.source = Source::Empty;
                    return (!bytes.is_empty()).then_some(Ok(bytes));
                }
                Source::Written(_) => self.start_pipe(),
                Source::Piped { writer, pipe } => match next_of_pipe(writer, pipe).await {
                    Some(piece) => return Some(Ok(piece)),
                    None => {
                        let trailers = pipe.trailers.take();
                        let outcome = pipe.outcome.take();
                        self.source = Source::Empty;
                        self.trailers = trailers;
                        return match outcome {
                            Some(Err(error)) => Some(Err(error)),
                            _ => None,
                        };
                    }
                },
                #[cfg(target_family = "wasm")]
                Source::Incoming(incoming) => match incoming.next().await {
                    Some(piece) => return Some(Ok(piece)),
                    None => {
                        let end = incoming.trailers().await;
                        self.source = Source::Empty;
                        match end {
                            Ok(trailers) => self.trailers = trailers,
                            Err(error) => return Some(Err(error)),
                        }
                    }
                },
            }
        }
    }

    /// Reads the whole body, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// 413 past `limit`; otherwise as [`next`](Self::next).
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, Error> {
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if first.len() > limit {
            return Err(Error::body_too_large(limit));
        }
        let Some(second) = self.next().await.transpose()? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        let mut piece = second;
        loop {
            if piece.len() > limit - whole.len() {
                return Err(Error::body_too_large(limit));
            }
            whole.extend_from_slice(&piece);
            match self.next().await.transpose()? {
                Some(next) => piece = next,
                None => return Ok(whole.freeze()),
            }
        }
    }

    /// Reads the whole body as UTF-8 text, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// 400 where it is not UTF-8; otherwise as [`bytes`](Self::bytes).
    pub async fn text(&mut self, limit: usize) -> Result<String, Error> {
        String::from_utf8(self.bytes(limit).await?.into())
            .map_err(|error| Error::bad_request(format!("the body is not UTF-8: {error}")))
    }

    /// Reads the whole body as JSON, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// 400 where it is not JSON, 422 where it is not a `T`; otherwise as [`bytes`](Self::bytes).
    pub async fn json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, Error> {
        let bytes = self.bytes(limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            match serde_json::from_slice::<IgnoredAny>(&bytes) {
                Ok(_) => Error::unprocessable(error.to_string()),
                Err(malformed) => Error::bad_request(format!("the body is not JSON: {malformed}")),
            }
        })
    }

    /// Reads to the end, dropping what is left, and gives the trailers.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, Error> {
        while self.next().await.transpose()?.is_some() {}
        Ok(self.trailers.take())
    }

    fn start_pipe(&mut self) {
        if let Source::Written(start) = std::mem::take(&mut self.source) {
            let pipe = Rc::new(Pipe::default());
            let writer = start(BodyWriter {
                sink: Sink::Pipe(pipe.clone()),
                trailers: pipe.trailers.clone(),
            });
            self.source = Source::Piped { writer, pipe };
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Whole(bytes), trailers: None }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

/// The writing end of a [`Body::stream`]. Dropping it ends the content.
pub struct BodyWriter {
    pub(crate) sink: Sink,
    pub(crate) trailers: Rc<Cell<Option<HeaderMap>>>,
}

pub(crate) enum Sink {
    Pipe(Rc<Pipe>),
    #[cfg(target_family = "wasm")]
    Host(wit_bindgen::StreamWriter<u8>),
}

impl BodyWriter {
    /// Sends a piece and waits until it is taken. An empty piece is not sent.
    ///
    /// # Errors
    ///
    /// [`Closed`] once nobody reads any more: the client has left, or wanted only the head.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Closed> {
        let piece = piece.into();
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Pipe(pipe) => {
                pipe.put(piece).await;
                Ok(())
            }
            #[cfg(target_family = "wasm")]
            Sink::Host(stream) => {
                if stream.write_all(piece.into()).await.is_empty() {
                    Ok(())
                } else {
                    Err(Closed)
                }
            }
        }
    }

    /// Sends every piece of `body`; its trailers, where it has some, become this one's.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) and [`Body::next`].
    pub async fn write_body(&mut self, mut body: Body) -> Result<(), Error> {
        while let Some(piece) = body.next().await.transpose()? {
            self.write(piece).await?;
        }
        if let Some(trailers) = body.trailers.take() {
            self.set_trailers(trailers);
        }
        Ok(())
    }

    /// Sets the trailers, sent once the writer's function has ended well. Over HTTP/1.1 they
    /// reach only clients that sent `TE: trailers`.
    pub fn set_trailers(&mut self, trailers: HeaderMap) {
        self.trailers.set(Some(trailers));
    }
}

/// Nobody reads this body any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the receiver has left")
    }
}

impl std::error::Error for Closed {}

/// Room for one piece between a writer and a reader of one instance. The reader polls the writer,
/// so neither needs a waker for the other.
#[derive(Default)]
pub(crate) struct Pipe {
    piece: RefCell<Option<Bytes>>,
    trailers: Rc<Cell<Option<HeaderMap>>>,
    outcome: Cell<Option<Result<(), Error>>>,
}

impl Pipe {
    async fn put(&self, piece: Bytes) {
        let mut piece = Some(piece);
        poll_fn(|_| {
            let mut room = self.piece.borrow_mut();
            if piece.is_some() && room.is_none() {
                *room = piece.take();
            }
            // Ready only when the reader has taken it: the same back-pressure as on the wire.
            if piece.is_none() && room.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn next_of_pipe(writer: &mut LocalFuture<Result<(), Error>>, pipe: &Pipe) -> Option<Bytes> {
    poll_fn(|cx| {
        if let Some(outcome) = pipe.outcome.take() {
            pipe.outcome.set(Some(outcome));
            return Poll::Ready(None);
        }
        let polled = writer.as_mut().poll(cx);
        if let Poll::Ready(outcome) = polled {
            pipe.outcome.set(Some(outcome));
            return Poll::Ready(pipe.piece.take());
        }
        match pipe.piece.take() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::testing::block_on;

    #[test]
    fn pieces_of_a_stream_arrive_one_by_one() {
        let mut body = Body::stream(|mut writer| async move {
            writer.write("a").await?;
            writer.write("").await?;
            writer.write("b").await?;
            Ok(())
        });

        let pieces = block_on(async {
            let mut pieces = Vec::new();
            while let Some(piece) = body.next().await {
                pieces.push(piece.unwrap());
            }
            pieces
        });

        assert_eq!(pieces, ["a", "b"]);
    }

    #[test]
    fn writer_waits_for_the_reader() {
        let written = Rc::new(Cell::new(0));
        let count = written.clone();
        let mut body = Body::stream(move |mut writer| async move {
            loop {
                writer.write("piece").await?;
                count.set(count.get() + 1);
            }
        });

        block_on(async {
            for _ in 0..3 {
                body.next().await.unwrap().unwrap();
            }
        });

        assert_eq!(written.get(), 2);
    }

    #[test]
    fn trailers_of_a_stream_come_after_its_end() {
        let mut body = Body::stream(|mut writer| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("0"));
            writer.set_trailers(trailers);
            writer.write("content").await?;
            Ok(())
        });

        let trailers = block_on(body.trailers()).unwrap().unwrap();

        assert_eq!(trailers["x-checksum"], "0");
    }

    #[test]
    fn failed_writer_is_an_error_not_an_end() {
        let mut body = Body::stream(|mut writer| async move {
            writer.write("half").await?;
            Err(Error::bad_request("no more"))
        });

        let whole = block_on(body.bytes(100));

        assert!(whole.is_err());
    }

    #[test]
    fn body_past_the_limit_is_413() {
        let over_at_once = block_on(Body::from("12345").bytes(4)).unwrap_err();
        let mut pieces = Body::stream(|mut writer| async move {
            writer.write("123").await?;
            writer.write("45").await?;
            Ok(())
        });
        let over_later = block_on(pieces.bytes(4)).unwrap_err();

        assert_eq!(over_at_once.status(), 413);
        assert_eq!(over_later.status(), 413);
        assert_eq!(block_on(Body::from("1234").bytes(4)).unwrap(), "1234");
    }

    #[test]
    fn malformed_json_is_400_and_wrong_shape_422() {
        let malformed = block_on(Body::from("{").json::<Vec<u8>>(9)).unwrap_err();
        let wrong_shape = block_on(Body::from("{}").json::<Vec<u8>>(9)).unwrap_err();

        assert_eq!(malformed.status(), 400);
        assert_eq!(wrong_shape.status(), 422);
    }
}
