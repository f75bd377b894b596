//! A request body on its way from the socket to its reader: decoded while someone reads, thrown away
//! where nobody does.

use std::task::Context;

use bytes::BytesMut;

use super::body::{Demand, Feeder};
use super::decode::{Decoded, Decoder};
use crate::http::body::BodyError;
use crate::http::limits::{DISCARD_BYTES, Limits};

/// The request body's way in.
pub(super) struct Inbound {
    pub(super) decoder: Decoder,
    pub(super) feeder: Feeder,
    /// The client waits for 100 before it sends.
    pub(super) awaits_continue: bool,
    /// Nobody reads any more; so much was thrown away since.
    pub(super) discarded: u64,
    pub(super) abandoned: bool,
}

impl Inbound {
    /// What the reader wants.
    pub(super) fn demand(&self, cx: &Context<'_>) -> Demand {
        if self.abandoned { Demand::Gone } else { self.feeder.poll_demand(cx) }
    }

    /// Whether the rest is little enough to be thrown away.
    pub(super) fn is_worth_discarding(&self) -> bool {
        self.discarded + self.decoder.remaining() <= DISCARD_BYTES
    }

    /// Decodes from `input` as long as the reader has room, or throws away what nobody reads. True
    /// if the reader got something.
    pub(super) fn feed(
        &mut self,
        cx: &Context<'_>,
        input: &mut BytesMut,
        end_of_input: bool,
        limits: &Limits,
    ) -> bool {
        let mut fed = false;
        while !self.decoder.is_done() && !self.decoder.is_failed() {
            let reading = match self.demand(cx) {
                Demand::Full => break,
                Demand::Room { .. } => true,
                Demand::Gone if self.is_worth_discarding() => false,
                Demand::Gone => break,
            };
            match self.decoder.decode(input, limits) {
                Ok(Decoded::Frame(frame)) if reading => {
                    self.awaits_continue = false;
                    self.feeder.offer(cx, frame, self.decoder.is_done());
                    fed = true;
                }
                Ok(Decoded::Frame(frame)) => {
                    self.discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Ok(Decoded::End) => {
                    self.feeder.end(cx, Ok(()));
                    fed |= reading;
                }
                Ok(Decoded::NeedsMore) if end_of_input => {
                    self.decoder.fail();
                    self.feeder.end(cx, Err(BodyError::Gone));
                    fed |= reading;
                }
                Ok(Decoded::NeedsMore) => break,
                Err(error) => {
                    self.feeder.end(cx, Err(error));
                    fed |= reading;
                }
            }
        }
        fed
    }
}
