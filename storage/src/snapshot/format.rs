//! The bytes of a snapshot's file: a header, blocks, an end mark. `docs/storage-format.md` draws
//! them.
//!
//! Invariants:
//! 1. Nothing that was read is handed on before its checksum held.
//! 2. A block's checksum is about its place and its file too, so blocks that are swapped, left out
//!    or taken from another file are damage.
//! 3. Reading takes the memory of one block and one header, whatever the file says of itself.

use std::io::{self, Read, Write};

use bytes::{Buf as _, BufMut as _};
use meshraft_consensus::{Configuration, Index, Position, SnapshotMeta, Term};

use crate::snapshot::{SnapshotError, SnapshotId, SnapshotPart};

const MAGIC: &[u8; 8] = b"meshsnap";
const VERSION: u8 = 1;
/// Magic, version, three zeros, length of the meta, id.
const PREFIX_BYTES: usize = 32;
/// Position and slot of the configuration, before the configuration.
const META_BYTES_MIN: usize = 24;
/// No configuration of this release is longer.
const META_BYTES_MAX: usize = 16 << 20;
const CHECKSUM_BYTES: usize = 4;
/// The most bytes of state in one block.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 * 1024;
const BLOCK_HEADER_BYTES: usize = 8;
/// What an end mark has after a block's header: the length of the state, the number of blocks.
const END_BYTES: usize = 16;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: SnapshotId,
    pub(crate) meta: SnapshotMeta,
    /// Seeds the checksum of every block.
    seed: u32,
    /// Its length.
    bytes: u64,
}

impl Header {
    /// The header and its bytes.
    pub(crate) fn encode(id: SnapshotId, meta: &SnapshotMeta) -> (Self, Vec<u8>) {
        let configuration = meta.configuration.encode();
        let meta_bytes = META_BYTES_MIN + configuration.len();
        assert!(meta_bytes <= META_BYTES_MAX, "a configuration is shorter than a header may be");
        let mut out = Vec::with_capacity(PREFIX_BYTES + meta_bytes + CHECKSUM_BYTES);
        out.put_slice(MAGIC);
        out.put_slice(&[VERSION, 0, 0, 0]);
        out.put_u32(u32::try_from(meta_bytes).unwrap_or(u32::MAX));
        out.put_slice(id.as_bytes());
        out.put_u64(meta.position.term.get());
        out.put_u64(meta.position.index.get());
        out.put_u64(meta.configuration_index.get());
        out.put_slice(&configuration);
        let seed = crc32c::crc32c(&out);
        out.put_u32(seed);
        (Self { id, meta: meta.clone(), seed, bytes: out.len() as u64 }, out)
    }

    /// Reads the header at the beginning of a file.
    pub(crate) fn read(file: &mut dyn Read) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Corrupt { part: SnapshotPart::Header };
        let mut prefix = [0; PREFIX_BYTES];
        read_exact(file, &mut prefix, SnapshotPart::Header)?;
        let (mut fields, mut id) = (&prefix[..], [0; 16]);
        if !fields.starts_with(MAGIC) {
            return Err(damaged);
        }
        fields.advance(MAGIC.len());
        // These nine bytes stand for ever: of the rest of a newer file nothing is known.
        let version = fields.get_u8();
        if version > VERSION {
            return Err(SnapshotError::UnknownVersion { version });
        }
        fields.advance(3);
        let meta_bytes = fields.get_u32() as usize;
        fields.copy_to_slice(&mut id);
        if !(META_BYTES_MIN..=META_BYTES_MAX).contains(&meta_bytes) {
            return Err(damaged);
        }
        let mut rest = Vec::new();
        let rest_bytes = meta_bytes + CHECKSUM_BYTES;
        // Not allocated ahead: the length is not proven yet.
        file.take(rest_bytes as u64).read_to_end(&mut rest)?;
        let Some((mut meta, stored)) = rest.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(damaged);
        };
        let seed = crc32c::crc32c_append(crc32c::crc32c(&prefix), meta);
        if meta.len() != meta_bytes || u32::from_be_bytes(*stored) != seed {
            return Err(damaged);
        }
        if version != VERSION {
            return Err(SnapshotError::UnknownVersion { version });
        }
        let term = Term::new(meta.get_u64());
        let position = Position::new(term, Index::new(meta.get_u64()));
        let configuration_index = Index::new(meta.get_u64());
        let configuration = Configuration::decode(meta).map_err(|_| damaged)?;
        let meta = SnapshotMeta { position, configuration, configuration_index };
        let bytes = (PREFIX_BYTES + rest_bytes) as u64;
        Ok(Self { id: SnapshotId::new(id), meta, seed, bytes })
    }

    /// The checksum of one block, or of the end mark as if it were the block after the last.
    fn checksum(&self, number: u64, length: u32, bytes: &[u8]) -> u32 {
        let place = [number.to_be_bytes().as_slice(), &length.to_be_bytes()].concat();
        let checksum = crc32c::crc32c(&self.seed.to_be_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(checksum, &place), bytes)
    }
}

fn read_exact(
    file: &mut dyn Read,
    out: &mut [u8],
    part: SnapshotPart,
) -> Result<(), SnapshotError> {
    file.read_exact(out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Corrupt { part },
        _ => error.into(),
    })
}

/// Cuts a state into blocks as it is written.
pub(crate) struct Encoder<W> {
    out: W,
    header: Header,
    /// The open block; its header is filled in when it is closed.
    block: Vec<u8>,
    number: u64,
    state_bytes: u64,
    fault: Option<SnapshotError>,
}

impl<W: Write> Encoder<W> {
    /// Begins a file.
    pub(crate) fn new(
        mut out: W,
        id: SnapshotId,
        meta: &SnapshotMeta,
    ) -> Result<Self, SnapshotError> {
        let (header, bytes) = Header::encode(id, meta);
        out.write_all(&bytes)?;
        let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX);
        block.resize(BLOCK_HEADER_BYTES, 0);
        Ok(Self { out, header, block, number: 0, state_bytes: 0, fault: None })
    }

    /// Ends the file. An earlier failure that whoever wrote the state kept silent about is told
    /// here.
    pub(crate) fn finish(mut self) -> Result<W, SnapshotError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.close_block()?;
        let mut end = [0; BLOCK_HEADER_BYTES + END_BYTES];
        let (_, mut totals) = end.split_at_mut(BLOCK_HEADER_BYTES);
        totals.put_u64(self.state_bytes);
        totals.put_u64(self.number);
        let checksum = self.header.checksum(self.number, 0, &end[BLOCK_HEADER_BYTES..]);
        (&mut end[4..BLOCK_HEADER_BYTES]).put_u32(checksum);
        self.out.write_all(&end)?;
        Ok(self.out)
    }

    /// Why writing failed, if it did.
    pub(crate) fn take_fault(&mut self) -> Option<SnapshotError> {
        self.fault.take()
    }

    fn close_block(&mut self) -> io::Result<()> {
        let (header, state) = self.block.split_at_mut(BLOCK_HEADER_BYTES);
        if state.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(state.len()).unwrap_or(u32::MAX);
        let checksum = self.header.checksum(self.number, length, state);
        let mut header = &mut header[..];
        header.put_u32(length);
        header.put_u32(checksum);
        self.out.write_all(&self.block)?;
        self.number += 1;
        self.block.truncate(BLOCK_HEADER_BYTES);
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            return Err(io::Error::other("an earlier write failed"));
        }
        let room = BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX - self.block.len();
        let taken = bytes.len().min(room);
        self.block.extend_from_slice(&bytes[..taken]);
        self.state_bytes += taken as u64;
        if taken == room
            && let Err(error) = self.close_block()
        {
            let again = io::Error::from(error.kind());
            self.fault = Some(error.into());
            return Err(again);
        }
        Ok(taken)
    }

    /// Blocks are written when they are full; a file counts only once it is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a state out of its blocks, each verified before it is handed on.
pub(crate) struct Decoder<'a> {
    file: &'a mut dyn Read,
    header: Header,
    block: Vec<u8>,
    /// How much of the block was handed on.
    used: usize,
    number: u64,
    state_bytes: u64,
    /// Where what was verified ends.
    sound_bytes: u64,
    ended: bool,
    fault: Option<SnapshotError>,
}

impl<'a> Decoder<'a> {
    /// Reads the header.
    pub(crate) fn new(file: &'a mut dyn Read) -> Result<Self, SnapshotError> {
        let header = Header::read(file)?;
        let sound_bytes = header.bytes;
        Ok(Self {
            file,
            header,
            block: Vec::new(),
            used: 0,
            number: 0,
            state_bytes: 0,
            sound_bytes,
            ended: false,
            fault: None,
        })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// How many bytes of the file were verified: up to the end of a block, or of the file.
    pub(crate) const fn sound_bytes(&self) -> u64 {
        self.sound_bytes
    }

    /// Verifies what was not read yet.
    pub(crate) fn drain(&mut self) -> Result<(), SnapshotError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        while !self.ended {
            self.next_block()?;
        }
        Ok(())
    }

    /// Reads one block, or the end mark.
    fn next_block(&mut self) -> Result<(), SnapshotError> {
        let part = SnapshotPart::Block { number: self.number };
        let mut header = [0; BLOCK_HEADER_BYTES];
        read_exact(self.file, &mut header, part)?;
        let mut fields = &header[..];
        let (length, checksum) = (fields.get_u32(), fields.get_u32());
        if length == 0 {
            return self.end(checksum);
        }
        let bytes = length as usize;
        if bytes > BLOCK_BYTES_MAX {
            return Err(SnapshotError::Corrupt { part });
        }
        self.block.resize(bytes, 0);
        self.used = bytes;
        read_exact(self.file, &mut self.block, part)?;
        if self.header.checksum(self.number, length, &self.block) != checksum {
            return Err(SnapshotError::Corrupt { part });
        }
        self.used = 0;
        self.number += 1;
        self.state_bytes += u64::from(length);
        self.sound_bytes += BLOCK_HEADER_BYTES as u64 + u64::from(length);
        Ok(())
    }

    fn end(&mut self, checksum: u32) -> Result<(), SnapshotError> {
        let damaged = SnapshotError::Corrupt { part: SnapshotPart::End };
        let mut totals = [0; END_BYTES];
        read_exact(self.file, &mut totals, SnapshotPart::End)?;
        let mut fields = &totals[..];
        let (state_bytes, blocks) = (fields.get_u64(), fields.get_u64());
        if self.header.checksum(self.number, 0, &totals) != checksum
            || (state_bytes, blocks) != (self.state_bytes, self.number)
        {
            return Err(damaged);
        }
        let mut after = [0; 1];
        match self.file.read_exact(&mut after) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Err(damaged),
        }
        self.sound_bytes += (BLOCK_HEADER_BYTES + END_BYTES) as u64;
        self.ended = true;
        Ok(())
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        if self.used == self.block.len() && !self.ended && !out.is_empty() {
            // The end mark holds nothing, and every block something.
            if let Err(fault) = self.next_block() {
                let error = io::Error::new(io::ErrorKind::InvalidData, fault.clone());
                self.fault = Some(fault);
                return Err(error);
            }
        }
        let taken = out.len().min(self.block.len() - self.used);
        out[..taken].copy_from_slice(&self.block[self.used..self.used + taken]);
        self.used += taken;
        Ok(taken)
    }
}
