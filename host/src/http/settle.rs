//! Looks at the beginning of a response's body before its head is sent.
//!
//! A guest gives its head first and its body in the turns of its event loop that follow. Sent at once,
//! the head would be a write (a packet, a TLS record) of its own, and even the shortest body would go
//! out in chunks, because nobody knew its length. So the body is waited for as long as its guest is at
//! work: one that is complete by then is sent with its length and its head, and can have a tag, parts
//! and a coding; one whose guest waits for something itself begins a few microseconds later.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::body::{BodyError, BoxedBody, ResponseBody};
use crate::plugin::pulse::Pulse;

/// Turns of the connection's task that a body has for its next bytes or its end once its guest rests:
/// what comes by way of other tasks needs one or two.
const TURNS: usize = 3;
/// For how long a guest that is at work is waited for, lest one that computes its content piece by piece
/// keeps back its beginning.
const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes up to which a body is waited for.
pub const SETTLED: usize = 64 * 1024;

/// The same body, complete where it is so before the guest rests.
pub async fn settle(mut body: BoxedBody, pulse: Option<Arc<Pulse>>) -> ResponseBody {
    let mut front = VecDeque::new();
    let mut turns = 0;
    let mut bytes = 0;
    let deadline = Instant::now() + PATIENCE;
    let mut patience = None;
    let complete = poll_fn(|cx| {
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending if pulse.as_ref().is_some_and(|it| it.is_at_work(cx.waker())) => {
                    let patience = patience
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                    return patience.as_mut().poll(cx).map(|()| false);
                }
                Poll::Pending if turns == TURNS => return Poll::Ready(false),
                Poll::Pending => {
                    turns += 1;
                    // Behind what is in the queue.
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
                    if turns > 0 && Instant::now() < deadline {
                        turns = 0;
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
        let body = settle(slow(vec![data("hello")], 1), None).await;

        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    }

    #[tokio::test]
    async fn pieces_that_come_at_once_are_one_body() {
        let body = settle(slow(vec![data("hel"), data(""), data("lo")], 0), None).await;

        assert_eq!(body.bytes().as_deref(), Some(&b"hello"[..]));
    }

    #[tokio::test]
    async fn a_body_that_goes_on_is_waited_for() {
        let body = settle(slow((0..50).map(|_| data("ab")).collect(), 2), None).await;

        assert_eq!(body.size_hint().exact(), Some(100));
    }

    #[tokio::test]
    async fn a_long_body_is_not_waited_for() {
        let half = || Ok(Frame::data(Bytes::from(vec![b'x'; SETTLED / 2])));
        let body = settle(slow(vec![half(), half(), half()], 0), None).await;

        assert_eq!(body.bytes(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), SETTLED / 2 * 3);
    }

    #[tokio::test]
    async fn a_body_that_never_had_bytes_is_empty() {
        let body = settle(slow(vec![], 1), None).await;

        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_slow_body_is_not_waited_for() {
        let body = settle(slow(vec![data("a"), data("b")], 10), None).await;

        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
    }

    #[tokio::test]
    async fn a_body_whose_guest_is_at_work_is_waited_for() {
        let pulse = Arc::<Pulse>::default();
        let body = slow(vec![data("a"), data("b")], 10);
        let body = settle(body, Some(Arc::clone(&pulse))).await;
        assert_eq!(body.bytes().as_deref(), Some(&b"ab"[..]));

        let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let never = stream::once(async move {
            let _never = receiver.await;
            data("a")
        });
        let waiting = settle(Box::pin(StreamBody::new(Box::pin(never))), Some(Arc::clone(&pulse)));
        let rests = async {
            tokio::task::yield_now().await;
            pulse.end();
        };
        let (body, ()) = tokio::join!(waiting, rests);
        assert_eq!(body.bytes(), None);
    }

    #[tokio::test]
    async fn trailers_and_errors_keep_their_place() {
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("1"),
        )]);
        let body =
            settle(slow(vec![data("a"), Ok(Frame::trailers(trailers.clone()))], 0), None).await;
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "a");

        let mut body = settle(slow(vec![data("a"), Err(BodyError::Gone)], 0), None).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert!(matches!(body.frame().await, Some(Err(BodyError::Gone))));
    }
}
