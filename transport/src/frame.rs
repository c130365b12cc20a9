//! Frames: `u32` length, big-endian, at most 64 KiB, then whole fragments.
//!
//! A length is checked before anything is allocated for it.

use crate::fragment::{FRAGMENT_BYTES_MAX, HEADER_BYTES, Header};

/// The most bytes that a frame may carry after its length.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024;
const LENGTH_BYTES: usize = 4;

/// What a sender puts into one fragment: two full ones with their headers fill one frame.
pub(crate) const CHUNK_BYTES_MAX: usize = FRAME_BYTES_MAX / 2 - HEADER_BYTES;
const _: () = assert!(CHUNK_BYTES_MAX <= FRAGMENT_BYTES_MAX);
const _: () = assert!(2 * (CHUNK_BYTES_MAX + HEADER_BYTES) <= FRAME_BYTES_MAX);

/// Why a stream's bytes are no frames; the stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// More bytes than a frame may carry.
    #[error("a frame of {bytes} bytes, at most 65536 are allowed")]
    TooLong {
        /// What the length says.
        bytes: u32,
    },
    /// A frame without a fragment.
    #[error("an empty frame")]
    Empty,
}

/// Cuts received bytes into frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// Takes what the stream gave. Call [`Self::next`] until `None` before the next call: then no
    /// more than one unfinished frame is ever held.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..core::mem::take(&mut self.start));
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a frame is cut off; after [`Self::next`] gave `None`.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.start < self.bytes.len()
    }

    /// The next whole frame, without its length.
    pub(crate) fn next(&mut self) -> Result<Option<&mut [u8]>, FrameError> {
        let Some(rest) = self.bytes.get_mut(self.start..) else { return Ok(None) };
        let Some((length, rest)) = rest.split_first_chunk_mut::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*length);
        if bytes as usize > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        let frame = rest.get_mut(..bytes as usize);
        if frame.is_some() {
            self.start += LENGTH_BYTES + bytes as usize;
        }
        Ok(frame)
    }
}

/// Packs fragments into as few frames as possible, all in one buffer for one write.
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the open frame's length stands.
    open: Option<usize>,
}

impl<'a> FrameWriter<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, open: None }
    }

    /// How many bytes the write has so far.
    pub(crate) const fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Appends a fragment: `chunk`, which `seal` may encrypt in place and lengthen by what the
    /// header's length already counts.
    pub(crate) fn fragment(
        &mut self,
        header: Header,
        chunk: &[u8],
        seal: impl FnOnce(&[u8; HEADER_BYTES], &mut Vec<u8>, usize),
    ) {
        let bytes = HEADER_BYTES + usize::from(header.length);
        let start = match self.open {
            Some(start) if self.out.len() - start - LENGTH_BYTES + bytes <= FRAME_BYTES_MAX => {
                start
            }
            _ => {
                self.close();
                let start = self.out.len();
                self.out.extend_from_slice(&[0; LENGTH_BYTES]);
                self.open = Some(start);
                start
            }
        };
        let raw = header.encode();
        self.out.extend_from_slice(&raw);
        let body = self.out.len();
        self.out.extend_from_slice(chunk);
        seal(&raw, self.out, body);
        debug_assert_eq!(self.out.len() - body, usize::from(header.length), "header counts bytes");
        debug_assert!(self.out.len() - start - LENGTH_BYTES <= FRAME_BYTES_MAX, "frame too long");
    }

    /// Writes the open frame's length.
    pub(crate) fn close(&mut self) {
        if let Some(start) = self.open.take() {
            let bytes = self.out.len() - start - LENGTH_BYTES;
            let length = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
            let place = self.out.iter_mut().skip(start).take(LENGTH_BYTES);
            place.zip(length).for_each(|(to, from)| *to = from);
        }
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fragment::split;

    fn header(handle: u32, length: usize) -> Header {
        let length = u16::try_from(length).unwrap();
        Header { handle, first: true, last: true, message: 0, length }
    }

    #[test]
    fn fragments_share_a_frame_and_a_write() {
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out);
        writer.fragment(header(1, 2), b"ab", |_, _, _| {});
        writer.fragment(header(2, 1), b"c", |_, _, _| {});
        drop(writer);
        let golden = b"\0\0\0\x19\0\0\0\x01\x03\0\0\0\0\0\x02ab\0\0\0\x02\x03\0\0\0\0\0\x01c";
        assert_eq!(out, golden);
    }

    #[test]
    fn two_full_chunks_fill_a_frame_and_a_third_begins_another() {
        let mut out = Vec::new();
        let chunk = vec![7; CHUNK_BYTES_MAX];
        let mut writer = FrameWriter::new(&mut out);
        (0..3)
            .for_each(|handle| writer.fragment(header(handle, chunk.len()), &chunk, |_, _, _| {}));
        drop(writer);
        let mut reader = FrameReader::default();
        reader.extend(&out);
        assert_eq!(reader.next().unwrap().unwrap().len(), FRAME_BYTES_MAX);
        assert_eq!(reader.next().unwrap().unwrap().len(), FRAME_BYTES_MAX / 2);
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn a_foreign_length_allocates_nothing() {
        let mut reader = FrameReader::default();
        reader.extend(&[0xff; 4]);
        assert_eq!(reader.next(), Err(FrameError::TooLong { bytes: u32::MAX }));
        assert!(reader.bytes.capacity() < 1024);
        let mut reader = FrameReader::default();
        reader.extend(&[0; 4]);
        assert_eq!(reader.next(), Err(FrameError::Empty));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            chunks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..3000),
                1..60,
            ),
            cuts in proptest::collection::vec(1..5000usize, 1..50),
        ) {
            let mut out = Vec::new();
            let mut writer = FrameWriter::new(&mut out);
            for (handle, chunk) in chunks.iter().enumerate() {
                writer.fragment(header(handle as u32, chunk.len()), chunk, |_, _, _| {});
            }
            drop(writer);
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            let mut rest = out.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                reader.extend(now);
                while let Some(mut frame) = reader.next().unwrap() {
                    while !frame.is_empty() {
                        let fragment = split(&mut frame).unwrap();
                        prop_assert_eq!(fragment.header.handle as usize, seen.len());
                        seen.push(fragment.bytes.to_vec());
                    }
                }
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(seen, chunks);
        }
    }
}
