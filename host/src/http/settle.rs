//! Looks at the beginning of a response's body before its head is sent.
//!
//! A guest gives its head first and its body in the turns of its event loop that follow. Sent at once,
//! the head would be a write (a packet, a TLS record) of its own, and even the shortest body would go
//! out in chunks, because nobody knew its length. So the body gets a few turns: one that is complete
//! by then is sent with its length and its head, and can have a tag, parts and a coding; one that is not
//! begins a few microseconds later.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, BoxedBody, ResponseBody};

/// Turns of the connection's task that a body has: one for its bytes, one for its end, one to spare.
const TURNS: usize = 3;
/// Bytes up to which a body is waited for.
pub const SETTLED: usize = 64 * 1024;

/// The same body, complete where it is so within a few turns.
pub async fn settle(mut body: BoxedBody) -> ResponseBody {
    let mut front = VecDeque::new();
    let mut turns = 0;
    let mut bytes = 0;
    let complete = poll_fn(|cx| {
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending if turns == TURNS => return Poll::Ready(false),
                Poll::Pending => {
                    turns += 1;
                    // Behind the worker in the queue, which this poll has woken.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(frame)) => {
                    let data = frame.as_ref().ok().and_then(Frame::data_ref).map(Bytes::len);
                    bytes += data.unwrap_or(0);
                    // Pieces are counted like bytes, for those without any.
                    bytes += 1;
                    front.push_back(frame);
                    if data.is_none() || bytes > SETTLED {
                        return Poll::Ready(false);
                    }
                    if body.is_end_stream() {
                        return Poll::Ready(true);
                    }
                }
            }
        }
    })
    .await;
    if !complete {
        return ResponseBody::stream(Box::pin(Begun { front, rest: body }));
    }
    let mut pieces = front.into_iter().filter_map(|frame| frame.ok()?.into_data().ok());
    let Some(first) = pieces.next() else { return ResponseBody::empty() };
    let Some(second) = pieces.next() else { return ResponseBody::full(first) };
    let mut whole = BytesMut::with_capacity(bytes);
    whole.extend([first, second]);
    whole.extend(pieces);
    ResponseBody::full(whole)
}

/// A body whose first frames were taken from it.
struct Begun {
    front: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: BoxedBody,
}

impl Body for Begun {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.front.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.rest.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let taken = |frame: &Result<Frame<Bytes>, BodyError>| {
            frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64)
        };
        let taken: u64 = self.front.iter().map(taken).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(taken));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, BodyError>>;

    fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    /// Each frame comes after `pause` turns.
    fn slow(frames: Frames, pause: usize) -> BoxedBody {
        let frames = stream::unfold(frames.into_iter(), move |mut frames| async move {
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            Some((frames.next()?, frames))
        });
        Box::pin(StreamBody::new(Box::pin(frames)))
    }

    #[tokio::test]
    async fn a_short_body_gets_its_length() {
        let body = settle(slow(vec![data("hello")], 1)).await;

        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    }

    #[tokio::test]
    async fn pieces_that_come_at_once_are_one_body() {
        let body = settle(slow(vec![data("hel"), data(""), data("lo")], 0)).await;

        assert_eq!(body.bytes().as_deref(), Some(&b"hello"[..]));
    }

    #[tokio::test]
    async fn a_long_body_is_not_waited_for() {
        let half = || Ok(Frame::data(Bytes::from(vec![b'x'; SETTLED / 2])));
        let body = settle(slow(vec![half(), half(), half()], 0)).await;

        assert_eq!(body.bytes(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), SETTLED / 2 * 3);
    }

    #[tokio::test]
    async fn a_body_that_never_had_bytes_is_empty() {
        let body = settle(slow(vec![], 1)).await;

        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_slow_body_is_not_waited_for() {
        let body = settle(slow(vec![data("a"), data("b")], 10)).await;

        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
    }

    #[tokio::test]
    async fn trailers_and_errors_keep_their_place() {
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("1"),
        )]);
        let body = settle(slow(vec![data("a"), Ok(Frame::trailers(trailers.clone()))], 0)).await;
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "a");

        let mut body = settle(slow(vec![data("a"), Err(BodyError::Gone)], 0)).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert!(matches!(body.frame().await, Some(Err(BodyError::Gone))));
    }
}
