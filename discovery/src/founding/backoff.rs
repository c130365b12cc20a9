//! How long to wait before something is tried again: jittered, growing, bounded.
//!
//! The first retry comes after 20 to 200 ms, each later one after twice that, never after more than
//! two seconds. The jitter is drawn from the seed, the moment and the purpose, so that it needs no
//! state, and two nodes that failed together do not retry together.

use core::time::Duration;

use meshraft_consensus::Moment;

const FIRST_MS: (u64, u64) = (20, 200);
const LAST_MS: (u64, u64) = (1000, 2000);

/// The attempt from which on the wait is the longest.
pub(super) const SLOWEST: u32 = 6;

const _: () = assert!(FIRST_MS.0 << SLOWEST >= LAST_MS.0 && FIRST_MS.1 << SLOWEST >= LAST_MS.1);

/// The moment of the next try after `attempt` tries have failed before this one.
pub(super) fn retry_at(now: Moment, seed: u64, purpose: u64, attempt: u32) -> Moment {
    let shift = attempt.min(SLOWEST);
    let least = (FIRST_MS.0 << shift).min(LAST_MS.0);
    let most = (FIRST_MS.1 << shift).min(LAST_MS.1);
    let drawn = mix(seed ^ mix(now.as_nanos() ^ mix(purpose)));
    let micros = least * 1000 + drawn % ((most - least) * 1000);
    now.plus(Duration::from_micros(micros))
}

/// The finaliser of SplitMix64: every bit of the input moves every bit of the output.
const fn mix(input: u64) -> u64 {
    let mut bits = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        for attempt in 0..40 {
            for seed in 0..50 {
                let wait = retry_at(Moment::from_millis(7), seed, 1, attempt)
                    .since(Moment::from_millis(7));
                assert!(wait >= Duration::from_millis(20), "{attempt} {seed} {wait:?}");
                assert!(wait <= Duration::from_secs(2), "{attempt} {seed} {wait:?}");
                assert!(attempt > 0 || wait <= Duration::from_millis(200), "{seed} {wait:?}");
                assert!(attempt < SLOWEST || wait >= Duration::from_secs(1), "{seed} {wait:?}");
            }
        }
    }

    #[test]
    fn nodes_and_purposes_differ() {
        let at = |seed, purpose| retry_at(Moment::ZERO, seed, purpose, 0);
        assert_ne!(at(1, 0), at(2, 0));
        assert_ne!(at(1, 0), at(1, 1));
    }
}
