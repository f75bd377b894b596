//! A response's body, coded as it passes.
//!
//! What its origin gives is fed to the encoder; whenever the origin has nothing more at the moment,
//! what was fed is flushed and sent, so that no client waits for bytes that exist. The core's
//! thread is given back after [`TURN`] bytes of input.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::CodedStore;
use super::encoder::{EncodeError, Lease, Operation};
use crate::http::body::{BodyError, ResponseBody};
use crate::http::coding::Coding;

/// Bytes of input that are coded in one turn of the task: a few tenths of a millisecond.
pub const TURN: usize = 32 * 1024;
/// Coded bytes that are passed on at once.
const PIECE: usize = 16 * 1024;
/// Bytes past which a coded content is not kept: it is then coded for each client.
pub const MAX_KEPT: usize = 4 * 1024 * 1024;

/// Where a coded content is kept once it is complete; given up on drop.
pub(super) struct Keeping {
    coding: Coding,
    store: Arc<dyn CodedStore>,
    coded: Option<BytesMut>,
}

impl Keeping {
    /// Nothing where somebody else is at it.
    pub(super) fn begin(coding: Coding, store: &Arc<dyn CodedStore>) -> Option<Self> {
        store.claim(coding).then(|| Self {
            coding,
            store: Arc::clone(store),
            coded: Some(BytesMut::new()),
        })
    }

    /// All of it at once.
    pub(super) fn all(mut self, coded: &Bytes) {
        self.coded = None;
        self.store.keep(self.coding, Some(coded.clone()));
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(coded) = &mut self.coded {
            if coded.len() + bytes.len() > MAX_KEPT {
                self.coded = None;
                self.store.keep(self.coding, None);
                return;
            }
            coded.extend_from_slice(bytes);
        }
    }

    fn complete(mut self) {
        // Exactly as long as it is: it stays for as long as its entry.
        if let Some(coded) = self.coded.take() {
            self.store.keep(self.coding, Some(Bytes::copy_from_slice(&coded)));
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if self.coded.is_some() {
            self.store.keep(self.coding, None);
        }
    }
}

/// See the module.
pub(super) struct CodedBody {
    inner: ResponseBody,
    /// Until the last byte is coded.
    lease: Option<Lease>,
    /// Taken from `inner` and not yet coded.
    input: Bytes,
    /// Bytes that `content-length` promised and that have not come.
    expected: Option<u64>,
    /// `inner` is over.
    ended: bool,
    trailers: Option<HeaderMap>,
    out: BytesMut,
    /// Something was fed since the last flush.
    unflushed: bool,
    /// Bytes that were coded in this turn.
    turn: usize,
    keeping: Option<Keeping>,
}

impl CodedBody {
    /// `expected` is what `content-length` says of `inner`.
    pub(super) fn new(
        inner: ResponseBody,
        lease: Lease,
        expected: Option<u64>,
        keeping: Option<Keeping>,
    ) -> Self {
        Self {
            inner,
            lease: Some(lease),
            input: Bytes::new(),
            expected,
            ended: false,
            trailers: None,
            out: BytesMut::new(),
            unflushed: false,
            turn: 0,
            keeping,
        }
    }

    fn code(&mut self, length: usize, operation: Operation) -> Result<(), BodyError> {
        let Some(lease) = &mut self.lease else { return Ok(()) };
        let input = self.input.split_to(length);
        let before = self.out.len();
        lease.run(&input, operation, &mut self.out).map_err(broken)?;
        self.turn += length;
        self.unflushed = operation == Operation::Process;
        if let Some(keeping) = &mut self.keeping {
            keeping.add(&self.out[before..]);
        }
        if operation == Operation::Finish {
            self.lease = None;
            if let Some(keeping) = self.keeping.take() {
                keeping.complete();
            }
        }
        Ok(())
    }

    /// Takes a frame of `inner`.
    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), BodyError> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                if let Some(expected) = &mut self.expected {
                    *expected = expected.checked_sub(data.len() as u64).ok_or(BodyError::Length)?;
                }
                self.input = data;
                return Ok(());
            }
            Some(Err(frame)) => self.trailers = frame.into_trailers().ok(),
            None => {}
        }
        if self.expected.is_some_and(|left| left > 0) {
            return Err(BodyError::Length);
        }
        self.ended = true;
        Ok(())
    }

    /// What is next; nothing is left over after an error.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.out.len() >= PIECE {
                return self.piece();
            }
            if !self.input.is_empty() {
                if self.turn >= TURN {
                    self.turn = 0;
                    if !self.out.is_empty() {
                        return self.piece();
                    }
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.code(self.input.len().min(TURN - self.turn), Operation::Process)?;
            } else if self.ended && self.lease.is_some() {
                self.code(0, Operation::Finish)?;
            } else if self.ended {
                if !self.out.is_empty() {
                    return self.piece();
                }
                return Poll::Ready(
                    self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
                );
            } else {
                match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Ready(frame) => self.take(frame.transpose()?)?,
                    Poll::Pending => {
                        self.turn = 0;
                        if self.unflushed {
                            self.code(0, Operation::Flush)?;
                        }
                        return if self.out.is_empty() { Poll::Pending } else { self.piece() };
                    }
                }
            }
        }
    }

    fn piece(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Ok(Frame::data(self.out.split().freeze()))))
    }
}

fn broken(error: EncodeError) -> BodyError {
    BodyError::Coding(error.to_string().into())
}

impl Body for CodedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_next(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.lease = None;
            self.keeping = None;
            self.ended = true;
            self.input = Bytes::new();
            self.out.clear();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() && self.out.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
