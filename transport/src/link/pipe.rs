//! One open handle's fragments, out and in: cutting, sealing, opening, joining.

use meshraft_consensus::Moment;

use super::LinkError;
use crate::{
    budget::{Budget, Purse},
    codec::Packet,
    config::Limits,
    fragment::{Assembly, Fragment, Header, Whole},
    frame::{CHUNK_BYTES_MAX, FrameWriter},
    key::NamespaceKey,
    seal::{Direction, Handshake, Opener, SEAL_BYTES, Sealer},
};

/// How many bytes one namespace may write before the next one's turn.
const QUANTUM_BYTES: usize = 32 * 1024;
/// After so many bytes a write is full.
pub(super) const WRITE_BYTES_MAX: usize = 128 * 1024;

/// The two seals of a handle.
#[derive(Debug)]
pub(super) struct Seals {
    sealer: Sealer,
    opener: Opener,
}

impl Seals {
    /// The seals of the end that sends in `direction`.
    pub(super) fn new(key: &NamespaceKey, handshake: &Handshake, direction: Direction) -> Self {
        let other = match direction {
            Direction::Forward => Direction::Back,
            Direction::Back => Direction::Forward,
        };
        Self {
            sealer: Sealer::new(key, handshake, direction),
            opener: Opener::new(key, handshake, other),
        }
    }
}

/// One open handle, seen from one end.
#[derive(Debug)]
pub(super) struct Pipe {
    handle: u32,
    seals: Option<Box<Seals>>,
    assembly: Assembly,
    /// The message that is being written, and how much of it is.
    message: Option<(Vec<u8>, usize)>,
    number: u32,
    deficit_bytes: usize,
}

impl Pipe {
    pub(super) fn new(handle: u32, seals: Option<Seals>, assembly: Assembly) -> Self {
        Self {
            handle,
            seals: seals.map(Box::new),
            assembly,
            message: None,
            number: 0,
            deficit_bytes: 0,
        }
    }

    /// A sealed pipe begins with the proof that its end holds the key.
    pub(super) fn prove(&mut self) {
        let proof = Packet::Proof.encode(CHUNK_BYTES_MAX).unwrap_or_default();
        self.message = Some((proof, 0));
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.message = Some((bytes, 0));
    }

    pub(super) const fn handle(&self) -> u32 {
        self.handle
    }

    pub(super) const fn is_sealed(&self) -> bool {
        self.seals.is_some()
    }

    /// One turn of deficit round robin: writes what is begun and then what `refill` gives, until
    /// the quantum or the write is used up. `true` if there is more.
    pub(super) fn take_turn(
        &mut self,
        writer: &mut FrameWriter<'_>,
        mut refill: impl FnMut() -> Option<Vec<u8>>,
    ) -> bool {
        self.deficit_bytes = (self.deficit_bytes + QUANTUM_BYTES).min(2 * QUANTUM_BYTES);
        loop {
            let next = self.message.take().or_else(|| refill().map(|bytes| (bytes, 0)));
            let Some((message, written)) = next else {
                self.deficit_bytes = 0;
                return false;
            };
            let seal_bytes = if self.seals.is_some() { SEAL_BYTES } else { 0 };
            let bytes = (message.len() - written).min(CHUNK_BYTES_MAX - seal_bytes);
            if bytes > self.deficit_bytes || writer.bytes() >= WRITE_BYTES_MAX {
                self.message = Some((message, written));
                return true;
            }
            self.deficit_bytes -= bytes;
            self.write(writer, message, written, bytes + seal_bytes);
        }
    }

    fn write(
        &mut self,
        writer: &mut FrameWriter<'_>,
        message: Vec<u8>,
        written: usize,
        length: usize,
    ) {
        let seal_bytes = if self.seals.is_some() { SEAL_BYTES } else { 0 };
        let end = written + length - seal_bytes;
        let last = end == message.len();
        let header = Header {
            handle: self.handle,
            first: written == 0,
            last,
            message: self.number,
            length: u16::try_from(length).expect("a fragment is at most 32 KiB"),
        };
        let chunk = message.get(written..end).unwrap_or_default();
        let seals = &mut self.seals;
        writer.fragment(header, chunk, |raw, buffer, start| {
            if let Some(seals) = seals {
                seals.sealer.seal(raw, buffer, start);
            }
        });
        if last {
            self.number = self.number.wrapping_add(1);
        } else {
            self.message = Some((message, end));
        }
    }

    /// Takes a fragment of this handle; `Some` if it ends a message.
    pub(super) fn read<'a>(
        &mut self,
        now: Moment,
        fragment: Fragment<'a>,
        budget: &mut Budget,
    ) -> Result<Option<Whole<'a>>, LinkError> {
        let bytes = match &mut self.seals {
            Some(seals) => seals.opener.open(&fragment.raw, fragment.bytes)?,
            None => fragment.bytes,
        };
        Ok(self.assembly.join(now, fragment.header, bytes, budget)?)
    }

    /// Where an unfinished message is counted.
    pub(super) const fn purse(&self) -> Purse {
        self.assembly.purse()
    }

    /// Whether a message is unfinished for longer than it may be.
    pub(super) fn is_overdue(&self, now: Moment, limits: &Limits) -> bool {
        self.assembly.is_overdue(now, limits)
    }

    /// What an unfinished message holds.
    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    /// Gives back what an unfinished message holds.
    pub(super) fn release(&mut self, budget: &mut Budget) {
        self.assembly.release(budget);
    }
}
