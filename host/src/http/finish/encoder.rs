//! The encoders: bytes in, coded bytes out, for the three codings.
//!
//! Levels and windows are measured (JSON and HTML, one core, CPU time; MB/s of input, ratio): zstd
//! 3 250 and 7.9, gzip 3 140 and 8.0, brotli 3 70 and 8.3; for what is kept and sent many times
//! zstd 6 100 and 8.7, gzip 6 80 and 8.5, brotli 5 35 and 8.9. The next levels up cost more than
//! they give; zlib-rs' level 1 panics when its output is short of room. Windows of 64 KiB lose 2 %
//! to larger ones and keep an encoder's memory at 0.4 MB (gzip), 0.7 MB (zstd) and 1.4 MB (brotli).
//!
//! Libraries: flate2 on zlib-rs is in the tree; `zstd-safe` binds the reference implementation,
//! because no encoder in Rust is near its ratio; `brotli` (Dropbox's) is all Rust and as fast at
//! these levels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderDestroyInstance, BrotliEncoderOperation, BrotliEncoderParameter,
    BrotliEncoderStateStruct,
};
use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, FlushCompress, Status};
use parking_lot::Mutex;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use crate::http::coding::Coding;

/// Encoders in use at once, over the whole server; what would need one more goes uncoded. A client
/// that reads slowly keeps one for as long as its response lasts.
pub const MAX_ENCODERS: usize = 256;
/// Encoders of one kind that are kept for the next response: setting one up costs more than coding
/// a short answer.
pub const MAX_IDLE: usize = 8;

/// Bytes that an encoder gives at once.
const ROOM: usize = 16 * 1024;
const GZIP_WINDOW: u8 = 15;
const BROTLI_WINDOW: u32 = 16;
const ZSTD_WINDOW: u32 = 16;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// For one client.
    Passing,
    /// For all that will ask.
    Kept,
}

/// What to do with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Take it; give what there is to give.
    Process,
    /// Give all of it, so that the client can decode what was fed so far.
    Flush,
    /// It was the last.
    Finish,
}

/// The encoder has failed; it cannot go on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the content cannot be coded: {0}")]
pub(super) struct EncodeError(&'static str);

/// An encoder for one response.
pub(super) struct Encoder {
    kind: Kind,
    room: Box<[u8]>,
}

enum Kind {
    Gzip(Box<Compress>),
    Zstd(CCtx<'static>),
    Brotli(Box<Brotli>),
}

struct Brotli(BrotliEncoderStateStruct<StandardAlloc>);

impl Drop for Brotli {
    fn drop(&mut self) {
        BrotliEncoderDestroyInstance(&mut self.0);
    }
}

impl Encoder {
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(coding: Coding, effort: Effort) -> Result<Self, EncodeError> {
        let kept = effort == Effort::Kept;
        let kind = match coding {
            Coding::Gzip => {
                let level = Compression::new(if kept { 6 } else { 3 });
                Kind::Gzip(Box::new(Compress::new_gzip(level, GZIP_WINDOW)))
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create().ok_or(EncodeError("no memory"))?;
                let (level, hash, chain) = if kept { (6, 16, 16) } else { (3, 15, 14) };
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::WindowLog(ZSTD_WINDOW),
                    CParameter::HashLog(hash),
                    CParameter::ChainLog(chain),
                ] {
                    context
                        .set_parameter(parameter)
                        .map_err(zstd_safe::get_error_name)
                        .map_err(EncodeError)?;
                }
                Kind::Zstd(context)
            }
            Coding::Brotli => {
                let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
                let quality = if kept { 5 } else { 3 };
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, quality);
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, BROTLI_WINDOW);
                Kind::Brotli(Box::new(Brotli(state)))
            }
        };
        Ok(Self { kind, room: vec![0; ROOM].into() })
    }

    /// Codes all of `input`, and adds to `out` what that gives.
    pub(super) fn run(
        &mut self,
        input: &[u8],
        operation: Operation,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        match &mut self.kind {
            Kind::Gzip(state) => gzip(state, &mut self.room, input, operation, out),
            Kind::Zstd(state) => zstd(state, &mut self.room, input, operation, out),
            Kind::Brotli(state) => brotli(&mut state.0, &mut self.room, input, operation, out),
        }
    }

    /// Ready for another response; false where it has to be made anew.
    fn reset(&mut self) -> bool {
        match &mut self.kind {
            Kind::Gzip(state) => {
                state.reset();
                true
            }
            Kind::Zstd(state) => state.reset(ResetDirective::SessionOnly).is_ok(),
            Kind::Brotli(_) => false,
        }
    }
}

fn gzip(
    state: &mut Compress,
    room: &mut [u8],
    mut input: &[u8],
    operation: Operation,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let flush = match operation {
        Operation::Process => FlushCompress::None,
        Operation::Flush => FlushCompress::Sync,
        Operation::Finish => FlushCompress::Finish,
    };
    loop {
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.compress(input, room, flush).map_err(|_| EncodeError("deflate"))?;
        let count = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        input = &input[count(state.total_in(), read)..];
        let given = count(state.total_out(), written);
        out.put_slice(&room[..given]);
        // With room left over, everything that was asked for has been given.
        let over = match operation {
            Operation::Finish => status == Status::StreamEnd,
            _ => input.is_empty() && given < room.len(),
        };
        if over {
            return Ok(());
        }
        if status == Status::BufError && given == 0 {
            return if input.is_empty() {
                Ok(())
            } else {
                Err(EncodeError("deflate stands still"))
            };
        }
    }
}

fn zstd(
    state: &mut CCtx<'static>,
    room: &mut [u8],
    input: &[u8],
    operation: Operation,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let directive = match operation {
        Operation::Process => ZSTD_EndDirective::ZSTD_e_continue,
        Operation::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Operation::Finish => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(input);
    loop {
        let mut given = OutBuffer::around(&mut *room);
        let left = state
            .compress_stream2(&mut given, &mut input, directive)
            .map_err(|code| EncodeError(zstd_safe::get_error_name(code)))?;
        out.put_slice(given.as_slice());
        let over = match operation {
            Operation::Process => input.pos == input.src.len(),
            Operation::Flush | Operation::Finish => left == 0,
        };
        if over {
            return Ok(());
        }
    }
}

fn brotli(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    room: &mut [u8],
    input: &[u8],
    operation: Operation,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let operation = match operation {
        Operation::Process => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Operation::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Operation::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut read) = (input.len(), 0);
    loop {
        let (mut free, mut given) = (room.len(), 0);
        let coded = state.compress_stream(
            operation,
            &mut left,
            input,
            &mut read,
            &mut free,
            room,
            &mut given,
            &mut None,
            &mut |_, _, _, _| {},
        );
        if !coded {
            return Err(EncodeError("brotli"));
        }
        out.put_slice(&room[..given]);
        let over = match operation {
            BrotliEncoderOperation::BROTLI_OPERATION_FINISH => state.is_finished(),
            _ => left == 0 && !state.has_more_output(),
        };
        if over {
            return Ok(());
        }
    }
}

/// The right to code, and encoders that were used before. One for the whole server, cheap to clone.
#[derive(Clone, Default)]
pub struct Encoders(Arc<Shared>);

#[derive(Default)]
struct Shared {
    in_use: AtomicUsize,
    idle: Mutex<Vec<(Coding, Effort, Encoder)>>,
}

impl Encoders {
    /// The right to one encoder; `None` where too many are in use. It is made when it is needed.
    pub(super) fn lease(&self, coding: Coding, effort: Effort) -> Option<Lease> {
        let in_use = &self.0.in_use;
        if in_use.fetch_add(1, Ordering::Relaxed) >= MAX_ENCODERS {
            in_use.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Lease { coding, effort, encoder: None, encoders: self.clone() })
    }

    /// Encoders in use.
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Relaxed)
    }

    fn take(&self, coding: Coding, effort: Effort) -> Option<Encoder> {
        let mut idle = self.0.idle.lock();
        let at = idle.iter().rposition(|(c, e, _)| (*c, *e) == (coding, effort))?;
        Some(idle.swap_remove(at).2)
    }

    fn give(&self, coding: Coding, effort: Effort, encoder: Encoder) {
        let mut idle = self.0.idle.lock();
        let alike = idle.iter().filter(|(c, e, _)| (*c, *e) == (coding, effort)).count();
        if alike < MAX_IDLE {
            idle.push((coding, effort, encoder));
        }
    }
}

impl std::fmt::Debug for Encoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoders").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

/// An encoder for one response, made with the first bytes for it and given back when this is
/// dropped.
pub(super) struct Lease {
    coding: Coding,
    effort: Effort,
    encoder: Option<Encoder>,
    encoders: Encoders,
}

impl Lease {
    /// As [`Encoder::run`].
    pub(super) fn run(
        &mut self,
        input: &[u8],
        operation: Operation,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let kept = self.encoders.take(self.coding, self.effort);
                none.insert(match kept {
                    Some(kept) => kept,
                    None => Encoder::new(self.coding, self.effort)?,
                })
            }
        };
        encoder.run(input, operation, out)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut encoder) = self.encoder.take()
            && encoder.reset()
        {
            self.encoders.give(self.coding, self.effort, encoder);
        }
        self.encoders.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}
