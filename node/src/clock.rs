//! The one place of this crate that reads time: a monotonic clock with an origin of its own.

use std::time::{Duration, Instant};

use meshraft_consensus::Moment;

/// A monotonic clock. Its moments mean something only to the values that got them from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn now(&self) -> Moment {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        Moment::ZERO.plus(elapsed)
    }

    /// The same moment for the runtime's timer. Moments beyond its reach come as a day from now:
    /// a timer that fires early does no harm.
    pub(crate) fn instant(&self, moment: Moment) -> tokio::time::Instant {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let ahead = moment.since(self.now()).min(DAY);
        tokio::time::Instant::now() + ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_a_far_moment_is_no_overflow() {
        let clock = Clock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
        let far = clock.instant(Moment::from_nanos(u64::MAX));
        assert!(far > clock.instant(first));
    }
}
