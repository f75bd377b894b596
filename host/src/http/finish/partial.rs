//! Parts of a response's content that its origin sent whole: cut from what is at hand, or out of a
//! stream as it passes.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode, response};
use http_body::{Body, Frame, SizeHint};

use super::head;
use crate::http::body::{BodyError, ResponseBody};
use crate::http::range::{content_range, multipart};

/// Frames that are skipped in one turn of the task: an origin that always has one ready must not
/// hold up the core.
const TURN: usize = 64;

/// The 206 (RFC 9110 §15.3.7) with these parts of a content of `size` bytes. Out of a stream they
/// come in ascending order, for it passes once.
pub(super) fn partial(
    mut head: response::Parts,
    body: ResponseBody,
    mut parts: Vec<Range<u64>>,
    size: u64,
) -> Response<ResponseBody> {
    head.status = StatusCode::PARTIAL_CONTENT;
    head::partial(&mut head.headers);
    let whole = body.bytes();
    if whole.is_none() {
        parts.sort_unstable_by_key(|part| part.start);
    }
    let mut pieces = VecDeque::new();
    let length = match <[_; 1]>::try_from(parts) {
        // §15.3.7.1: one part never is a multipart body.
        Ok([part]) => {
            head.headers.insert(CONTENT_RANGE, content_range(&part, size));
            let length = part.end - part.start;
            pieces.push_back(Piece::Content(part));
            length
        }
        Err(parts) => {
            let boundary = format!("{:032x}", rand::random::<u128>());
            let framed = multipart(parts, size, head.headers.get(CONTENT_TYPE), &boundary);
            head.headers.insert(CONTENT_TYPE, framed.content_type);
            for (between, part) in framed.parts {
                pieces.extend([Piece::Text(between), Piece::Content(part)]);
            }
            pieces.push_back(Piece::Text(framed.end));
            framed.length
        }
    };
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(bytes) = whole.as_ref().and_then(|whole| only_part(&pieces, whole)) {
        return Response::from_parts(head, body.with_bytes(bytes));
    }
    let cut = CutBody {
        inner: body,
        whole,
        pieces,
        ahead: Bytes::new(),
        at: 0,
        left: length,
        skipped: 0,
    };
    Response::from_parts(head, ResponseBody::stream(Box::pin(cut)))
}

/// The bytes, where they are one part of the whole.
fn only_part(pieces: &VecDeque<Piece>, whole: &Bytes) -> Option<Bytes> {
    match pieces.front() {
        Some(Piece::Content(part)) if pieces.len() == 1 => slice(whole, part),
        _ => None,
    }
}

fn slice(whole: &Bytes, part: &Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(part.start).ok()?, usize::try_from(part.end).ok()?);
    (start <= end && end <= whole.len()).then(|| whole.slice(start..end))
}

enum Piece {
    Text(Bytes),
    Content(Range<u64>),
}

/// Parts of a body, and what is between them.
struct CutBody {
    inner: ResponseBody,
    /// All of `inner`, where it is at hand: its parts may then come in any order.
    whole: Option<Bytes>,
    pieces: VecDeque<Piece>,
    /// Taken from `inner` and not yet passed on or skipped.
    ahead: Bytes,
    /// Where in the content `ahead` begins.
    at: u64,
    /// Bytes that are still to be sent.
    left: u64,
    /// Frames that were skipped in this turn.
    skipped: usize,
}

impl CutBody {
    /// Some of `part`, which lies at or after what has passed.
    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        part: &Range<u64>,
    ) -> Poll<Result<Bytes, BodyError>> {
        loop {
            let skip = (part.start - self.at).min(self.ahead.len() as u64);
            let _skipped = self.ahead.split_to(usize::try_from(skip).unwrap_or(usize::MAX));
            self.at += skip;
            if !self.ahead.is_empty() {
                let length = (part.end - self.at).min(self.ahead.len() as u64);
                let bytes = self.ahead.split_to(usize::try_from(length).unwrap_or(usize::MAX));
                self.at += length;
                self.skipped = 0;
                return Poll::Ready(Ok(bytes));
            }
            if self.skipped == TURN {
                self.skipped = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            if polled.is_pending() {
                self.skipped = 0;
            }
            match ready!(polled) {
                Some(Ok(frame)) => {
                    self.skipped += 1;
                    if let Ok(data) = frame.into_data() {
                        self.ahead = data;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // Shorter than it said.
                None => return Poll::Ready(Err(BodyError::Length)),
            }
        }
    }
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let bytes = match this.pieces.front_mut() {
            None => return Poll::Ready(None),
            Some(Piece::Text(text)) => {
                let text = std::mem::take(text);
                this.pieces.pop_front();
                text
            }
            Some(Piece::Content(part)) => {
                let part = part.clone();
                let bytes = match &this.whole {
                    Some(whole) => slice(whole, &part).ok_or(BodyError::Length),
                    None => ready!(this.poll_part(cx, &part)),
                };
                let bytes = match bytes {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        this.pieces.clear();
                        this.left = 0;
                        return Poll::Ready(Some(Err(error)));
                    }
                };
                let next = part.start + bytes.len() as u64;
                this.pieces.pop_front();
                if next < part.end {
                    this.pieces.push_front(Piece::Content(next..part.end));
                }
                bytes
            }
        };
        this.left -= bytes.len() as u64;
        if this.pieces.is_empty() {
            // The rest is not asked for: dropping it tells its producer so.
            this.inner = ResponseBody::empty();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
