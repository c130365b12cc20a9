//! Draws the random numbers of a core from its seed: time-outs that differ between members.
//!
//! `SplitMix64` (Steele, Lea, Flood 2014): one word of state, full period. Not for secrets.

use core::time::Duration;

/// A seeded generator; equal seeds give equal numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator of this seed, mixed with bytes that tell members and starts apart.
    pub(crate) fn new(seed: u64, salt: impl IntoIterator<Item = u8>) -> Self {
        let mut random = Self(seed);
        for byte in salt {
            random.0 ^= u64::from(byte);
            random.0 = random.next();
        }
        random
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A span below `bound`; zero if the bound is.
    pub(crate) fn below(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        // The bias of a remainder is under one part in a million for any span below an hour.
        Duration::from_nanos(self.next().checked_rem(nanos).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_draw_equally_and_salt_tells_apart() {
        let (mut one, mut two) = (Random::new(7, [1]), Random::new(7, [1]));
        let mut other = Random::new(7, [2]);
        let draws: [u64; 4] = core::array::from_fn(|_| one.next());
        assert_eq!(draws, core::array::from_fn(|_| two.next()));
        assert_ne!(draws, core::array::from_fn(|_| other.next()));
        assert!((0..100).all(|_| one.below(Duration::from_millis(5)) < Duration::from_millis(5)));
        assert_eq!(one.below(Duration::ZERO), Duration::ZERO);
    }
}
