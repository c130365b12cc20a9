//! The hash by which replicas compare their states: FNV-1a, 64 bits.
//!
//! Fixed for ever, as it stands in snapshots, and not cryptographic: members are trusted, and what
//! it finds is divergence, not forgery.

use std::io;

#[derive(Clone, Copy, Debug)]
pub(crate) struct StateHasher(u64);

impl StateHasher {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) const fn finish(self) -> u64 {
        self.0
    }
}

impl io::Write for StateHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that hashes what passes through it.
pub(crate) struct HashingReader<'a> {
    inner: &'a mut dyn io::Read,
    hasher: StateHasher,
}

impl<'a> HashingReader<'a> {
    pub(crate) fn new(inner: &'a mut dyn io::Read, hasher: StateHasher) -> Self {
        Self { inner, hasher }
    }

    pub(crate) const fn finish(&self) -> u64 {
        self.hasher.finish()
    }
}

impl io::Read for HashingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_hold() {
        let of = |bytes: &[u8]| {
            let mut hasher = StateHasher::new();
            hasher.update(bytes);
            hasher.finish()
        };
        assert_eq!(of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
