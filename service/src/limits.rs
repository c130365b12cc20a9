//! Every bound of a request, and the checks of what a caller gives as a time-out.

use core::time::Duration;

use crate::error::ServiceError;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The longest key of the KV machine; the shortest has one byte.
pub const KEY_BYTES_MAX: usize = 4 * KIB;
/// The longest value of the KV machine.
pub const VALUE_BYTES_MAX: usize = MIB;
/// The most keys that one page lists, and the default.
pub const KEYS_MAX: u32 = 1000;
/// The keys of one page together; a page that would exceed it ends early and says `more`.
pub const KEYS_BYTES_MAX: usize = MIB;
/// The longest command or query of a machine.
pub const PAYLOAD_BYTES_MAX: usize = MIB + 64 * KIB;
/// The longest answer of a machine to one query or command.
pub const ANSWER_BYTES_MAX: usize = 8 * MIB;
/// The longest encoded request.
pub const REQUEST_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + KIB;
/// The longest encoded response.
pub const RESPONSE_BYTES_MAX: usize = ANSWER_BYTES_MAX + 64 * KIB;
/// The most members that one response lists.
pub const MEMBERS_MAX: usize = 1024;
/// The most addresses that one response lists, all members together.
pub const ADDRESSES_MAX: usize = 4 * MEMBERS_MAX;

/// How often a request may be passed on: asked member, leader, its successor.
pub const HOPS_MAX: u8 = 2;
/// The most requests that one router parks while no leader is in sight.
pub const PARKED_MAX: usize = 4096;
/// The most bytes of parked requests in one router.
pub const PARKED_BYTES_MAX: usize = 16 * MIB;
/// The most requests that one router has in hand.
pub const REQUESTS_MAX: usize = 16_384;
/// The most bytes of requests that one router has in hand.
pub const REQUESTS_BYTES_MAX: usize = 64 * MIB;

/// How many writes one session has in flight at most, and how many results are kept for it.
pub const PIPELINE_MAX: usize = 256;
/// The most sessions of one namespace; the least recently used one goes first.
pub const SESSIONS_MAX: usize = 8192;
/// The most results that the sessions of one namespace keep together.
pub const RESULTS_MAX: usize = 32_768;
/// The longest response that a session keeps; of a longer one only the fact that it was applied.
pub const KEPT_BYTES_MAX: usize = 4 * KIB;

/// The shortest and the longest time-out of a request, in milliseconds.
pub const TIMEOUT_MS: (u32, u32) = (1, 60_000);
/// The time-out of a request that names none, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u32 = 5000;
/// The shortest and the longest time that a barrier may wait, in milliseconds.
pub const BARRIER_MS: (u32, u32) = (1, 30_000);

/// The time-out of a request: `given_ms` if it is within [`TIMEOUT_MS`], the default if none is.
///
/// # Errors
/// [`ServiceError::BadTimeout`] with the bounds.
pub fn request_timeout(given_ms: Option<i64>) -> Result<Duration, ServiceError> {
    checked(given_ms.unwrap_or_else(|| i64::from(TIMEOUT_MS_DEFAULT)), TIMEOUT_MS)
}

/// The time that a barrier may wait, if it is within [`BARRIER_MS`].
///
/// # Errors
/// [`ServiceError::BadTimeout`] with the bounds.
pub fn barrier_timeout(given_ms: i64) -> Result<Duration, ServiceError> {
    checked(given_ms, BARRIER_MS)
}

fn checked(given_ms: i64, (min_ms, max_ms): (u32, u32)) -> Result<Duration, ServiceError> {
    match u32::try_from(given_ms) {
        Ok(given) if (min_ms..=max_ms).contains(&given) => {
            Ok(Duration::from_millis(u64::from(given)))
        }
        _ => Err(ServiceError::BadTimeout { given_ms, min_ms, max_ms }),
    }
}

/// The deadline that travels with a request which has `remaining` left here, in milliseconds.
///
/// It is a little less than what is left, so that the receiver's definite answer arrives before our
/// own deadline makes the outcome unknown. `None` if nothing useful is left.
pub(crate) fn travelling_ms(remaining: Duration) -> Option<u32> {
    const MARGIN_MAX: Duration = Duration::from_millis(50);
    let left = remaining.saturating_sub((remaining / 8).min(MARGIN_MAX));
    let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).min(TIMEOUT_MS.1);
    (left_ms >= TIMEOUT_MS.0).then_some(left_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_checked_at_both_ends() {
        for bad in [i64::MIN, -1, 0, 30_001, 31_000, i64::MAX] {
            let error = barrier_timeout(bad).unwrap_err();
            assert_eq!(
                error,
                ServiceError::BadTimeout { given_ms: bad, min_ms: 1, max_ms: 30_000 }
            );
            assert_eq!((error.code(), error.maybe()), ("bad_timeout", false));
        }
        assert_eq!(barrier_timeout(1), Ok(Duration::from_millis(1)));
        assert_eq!(barrier_timeout(30_000), Ok(Duration::from_secs(30)));
        assert_eq!(request_timeout(None), Ok(Duration::from_secs(5)));
        assert_eq!(request_timeout(Some(60_000)), Ok(Duration::from_secs(60)));
        assert!(request_timeout(Some(60_001)).is_err());
        assert!(request_timeout(Some(0)).is_err());
    }

    #[test]
    fn a_travelling_deadline_is_shorter_than_the_own_one() {
        assert_eq!(travelling_ms(Duration::from_millis(5000)), Some(4950));
        assert_eq!(travelling_ms(Duration::from_millis(80)), Some(70));
        assert_eq!(travelling_ms(Duration::from_micros(1_100)), None);
        assert_eq!(travelling_ms(Duration::ZERO), None);
        assert_eq!(travelling_ms(Duration::MAX), Some(60_000));
    }
}
