//! What a plugin, its manifest or the host may ask for one response while it is sent: a deadline, a
//! bandwidth limit, buffering.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::body::{BodyError, BoxedBody, ResponseBody};

/// Bytes that a buffered response holds back at the most; then it goes on unbuffered.
pub const MAX_BUFFERED: usize = 1 << 20;
/// What a limited response may send at once: so much of a second's worth.
const BURST: Duration = Duration::from_millis(50);
/// Bytes below which a limited response is not cut, for very low rates.
const SMALLEST_PIECE: u64 = 512;

/// The wishes for one response. Can be changed at any time before its end.
#[derive(Debug, Default)]
pub struct Control {
    deadline: Mutex<Option<Instant>>,
    /// Bytes a second; 0 is no limit.
    rate: AtomicU64,
    buffered: AtomicBool,
    changed: AtomicWaker,
}

impl Control {
    /// Ends the response with a reset, or by closing an HTTP/1.1 connection, unless its last byte is
    /// sent by then. `None`: no deadline.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock() = deadline;
        self.changed.wake();
    }

    /// Bytes of body a second. `None`: as fast as the client takes them.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        self.changed.wake();
    }

    /// Whether the body is held back until it ends or [`MAX_BUFFERED`] bytes of it are here.
    pub fn set_buffered(&self, buffered: bool) {
        self.buffered.store(buffered, Ordering::Relaxed);
        self.changed.wake();
    }

    /// When the response must be over.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    /// Whether nothing is wished for.
    pub(super) fn is_idle(&self) -> bool {
        self.deadline().is_none()
            && self.rate.load(Ordering::Relaxed) == 0
            && !self.buffered.load(Ordering::Relaxed)
    }
}

/// A response body under a [`Control`].
pub struct Controlled {
    inner: ResponseBody,
    control: Arc<Control>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Taken from `inner` and not yet sent.
    held: VecDeque<Frame<Bytes>>,
    held_bytes: usize,
    /// `inner` is over.
    ended: bool,
    bucket: Bucket,
}

/// Bytes that may be sent now.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

impl Bucket {
    /// How much of `wanted` may be sent now, or when to ask again.
    fn take(&mut self, wanted: u64, rate: u64, now: Instant) -> Result<u64, Instant> {
        let burst = (rate as f64 * BURST.as_secs_f64()).max(SMALLEST_PIECE as f64);
        let since = self.filled.replace(now).map_or(BURST, |at| now.saturating_duration_since(at));
        // Twice, so that a timer that fires late costs none of the rate.
        self.tokens = (self.tokens + since.as_secs_f64() * rate as f64).min(2.0 * burst);
        // A piece is worth a packet, so that a slow response is not a packet a byte.
        let least = wanted.min(burst as u64).max(1);
        if self.tokens < least as f64 {
            let missing = (least as f64 - self.tokens) / rate as f64;
            return Err(now + Duration::from_secs_f64(missing));
        }
        let taken = wanted.min(self.tokens as u64).max(1);
        self.tokens -= taken as f64;
        Ok(taken)
    }
}

/// `body` under `control`; the same body where it is complete and nothing is wished for.
pub fn controlled(mut body: ResponseBody, control: &Arc<Control>) -> ResponseBody {
    if body.is_here() && control.is_idle() {
        return body;
    }
    if body.is_file() {
        // Comes under control itself once something is wished for.
        return body.under(Arc::clone(control));
    }
    let end = body.take_end();
    let body = ResponseBody::stream(controlled_stream(body, Arc::clone(control)));
    body.under(Arc::clone(control)).with_end(end)
}

/// The bytes of `body` under `control`.
pub(super) fn controlled_stream(body: ResponseBody, control: Arc<Control>) -> BoxedBody {
    Box::pin(Controlled {
        inner: body,
        control,
        timer: None,
        held: VecDeque::new(),
        held_bytes: 0,
        ended: false,
        bucket: Bucket { tokens: 0.0, filled: None },
    })
}

impl Controlled {
    /// Ready at `at`.
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match &mut self.timer {
            Some((armed, _)) if *armed == at => {}
            Some((armed, sleep)) => {
                *armed = at;
                sleep.as_mut().reset(at);
            }
            None => self.timer = Some((at, Box::pin(tokio::time::sleep_until(at)))),
        }
        match &mut self.timer {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Takes frames from the plugin until one may be sent.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.ended {
            let buffering =
                self.control.buffered.load(Ordering::Relaxed) && self.held_bytes < MAX_BUFFERED;
            if !self.held.is_empty() && !buffering {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.held_bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.held.push_back(frame);
                    self.ended = self.inner.is_end_stream();
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Body for Controlled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.control.changed.register(cx.waker());
        let deadline = this.control.deadline();
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Poll::Ready(Some(Err(BodyError::Deadline)));
        }
        if this.held.is_empty() && !this.ended && this.control.is_idle() {
            // Nothing is wished for: nothing is kept.
            let polled = Pin::new(&mut this.inner).poll_frame(cx);
            this.ended = matches!(polled, Poll::Ready(None)) || this.inner.is_end_stream();
            return polled;
        }
        let filled = this.poll_fill(cx)?;
        let mut wake_at = deadline;
        if filled.is_ready() {
            let Some(frame) = this.held.front_mut() else { return Poll::Ready(None) };
            let rate = this.control.rate.load(Ordering::Relaxed);
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if rate == 0 || bytes == 0 {
                this.held_bytes -= bytes;
                return Poll::Ready(this.held.pop_front().map(Ok));
            }
            match this.bucket.take(bytes as u64, rate, Instant::now()) {
                Ok(allowed) if allowed >= bytes as u64 => {
                    this.held_bytes -= bytes;
                    return Poll::Ready(this.held.pop_front().map(Ok));
                }
                Ok(allowed) => {
                    let Some(data) = frame.data_mut() else { return Poll::Pending };
                    let piece = data.split_to(usize::try_from(allowed).unwrap_or(bytes));
                    this.held_bytes -= piece.len();
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Err(at) => wake_at = Some(deadline.map_or(at, |deadline| deadline.min(at))),
            }
        }
        if let Some(at) = wake_at
            && this.poll_at(cx, at).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held_bytes as u64;
        let rest = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
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

    /// Each frame comes after `pause`.
    fn slow(count: usize, bytes: usize, pause: Duration) -> ResponseBody {
        let frames: Frames =
            (0..count).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))).collect();
        let frames = stream::unfold(frames.into_iter(), move |mut frames| async move {
            tokio::time::sleep(pause).await;
            Some((frames.next()?, frames))
        });
        ResponseBody::stream(Box::pin(StreamBody::new(frames)))
    }

    async fn frames(mut body: ResponseBody) -> Vec<Result<(Instant, usize), BodyError>> {
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            seen.push(frame.map(|frame| (Instant::now(), frame.data_ref().map_or(0, Bytes::len))));
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_body_takes_its_time_and_loses_nothing() {
        for (rate, bytes) in [(1 << 20, 10 << 20), (1000, 10_000), (100, 1000)] {
            let control = Arc::new(Control::default());
            control.set_rate(Some(rate));
            let begun = Instant::now();

            let body = controlled(ResponseBody::full(vec![b'x'; bytes]), &control);
            let seen = frames(body).await;

            let total: usize = seen.iter().flatten().map(|(_, bytes)| bytes).sum();
            assert_eq!(total, bytes);
            let seconds = begun.elapsed().as_secs_f64();
            let due = bytes as f64 / rate as f64;
            assert!((seconds - due).abs() <= due * 0.06 + 0.001, "{rate}: {seconds} for {due}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_past_its_deadline_fails() {
        let control = Arc::new(Control::default());
        let begun = Instant::now();
        control.set_deadline(Some(begun + Duration::from_millis(250)));

        let body = controlled(slow(10, 1, Duration::from_millis(100)), &control);
        let deadline = body.deadline();
        let seen = frames(body).await;

        assert_eq!(deadline, Some(begun + Duration::from_millis(250)));
        assert_eq!(seen.len(), 3);
        assert!(matches!(seen[2], Err(BodyError::Deadline)), "{seen:?}");
        assert_eq!(begun.elapsed().as_millis(), 250);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_set_while_the_body_waits_counts() {
        let control = Arc::new(Control::default());
        let body = controlled(slow(1, 1, Duration::from_secs(60)), &control);
        let begun = Instant::now();

        #[expect(clippy::disallowed_methods, reason = "it is awaited below")]
        let reading = tokio::spawn(frames(body));
        tokio::time::sleep(Duration::from_secs(1)).await;
        control.set_deadline(Some(Instant::now() + Duration::from_secs(1)));
        let seen = reading.await.unwrap();

        assert!(matches!(seen[..], [Err(BodyError::Deadline)]), "{seen:?}");
        assert_eq!(begun.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffered_body_comes_together_and_an_unbuffered_one_as_it_is_written() {
        for (buffered, expected) in [(true, [200, 200]), (false, [100, 200])] {
            let control = Arc::new(Control::default());
            control.set_buffered(buffered);
            let begun = Instant::now();

            let body = controlled(slow(2, 5, Duration::from_millis(100)), &control);
            let seen = frames(body).await;

            let at: Vec<_> = seen
                .iter()
                .flatten()
                .map(|(at, _)| at.duration_since(begun).as_millis() / 100 * 100)
                .collect();
            // The end of the body is seen 100 ms after its last frame.
            let late = if buffered { 100 } else { 0 };
            assert_eq!(at, expected.map(|ms| ms + late), "{buffered}");
        }
    }

    #[tokio::test]
    async fn what_is_held_back_is_bounded() {
        let control = Arc::new(Control::default());
        control.set_buffered(true);
        let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 65536]))));
        let mut body =
            controlled(ResponseBody::stream(Box::pin(StreamBody::new(endless))), &control);

        let first = body.frame().await;

        assert!(matches!(first, Some(Ok(_))));
    }

    #[test]
    fn a_complete_body_without_wishes_stays_as_it_is() {
        let control = Arc::new(Control::default());

        let body = controlled(ResponseBody::full("hello"), &control);

        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.deadline(), None);
    }
}
