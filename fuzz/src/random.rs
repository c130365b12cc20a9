//! Where all that is random comes from: a small generator that is a value.
//!
//! SplitMix64. Every part of a world forks a stream of its own, so that a new draw in one part
//! does not change what another part does under the same seed.

use std::time::Duration;

use crate::faults::Rate;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator that is independent of this one's later draws; `label` tells forks apart.
    #[must_use]
    pub fn fork(&mut self, label: u64) -> Self {
        let mut fork = Self(self.next() ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let _ = fork.next();
        fork
    }

    /// 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A place in a sequence of `length`, which is not zero.
    pub const fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Whether something that happens at this rate happens now.
    pub const fn hits(&mut self, rate: Rate) -> bool {
        // Drawn also for a rate of zero, so that switching one fault off moves nothing else.
        self.below(Rate::SCALE as u64) < rate.per_million() as u64
    }

    /// A duration from `low` to `high`.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos();
        let span = u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1);
        low + Duration::from_nanos(self.below(span))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next().to_le_bytes();
            chunk.iter_mut().zip(drawn).for_each(|(byte, drawn)| *byte = drawn);
        }
        bytes
    }
}
