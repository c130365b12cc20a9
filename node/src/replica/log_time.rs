//! The time that entries carry: advances by the leader's own clock, never by a wall clock.
//!
//! A leader goes on from the last log time that it applied when it took over, and adds what its
//! monotonic clock has measured since (DESIGN: log time). A change of leader may stretch log time,
//! it never turns it back.

use meshraft_consensus::Moment;

/// The log's clock, as this replica would stamp entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogTime {
    applied_ms: u64,
    leading_since: Option<(Moment, u64)>,
}

impl LogTime {
    /// An applied entry carried this stamp.
    pub(crate) fn applied(&mut self, stamp_ms: u64) {
        self.applied_ms = self.applied_ms.max(stamp_ms);
    }

    /// Leadership begins or ends.
    pub(crate) fn lead(&mut self, leading: bool, now: Moment) {
        self.leading_since = match (leading, self.leading_since) {
            (false, _) => None,
            (true, None) => Some((now, self.applied_ms)),
            (true, since) => since,
        };
    }

    /// The stamp of an entry proposed now, in milliseconds.
    pub(crate) fn stamp_ms(&self, now: Moment) -> u64 {
        let (since, base_ms) = self.leading_since.unwrap_or((now, self.applied_ms));
        let elapsed_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        base_ms.saturating_add(elapsed_ms).max(self.applied_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_goes_on_from_what_was_applied_and_never_back() {
        let mut time = LogTime::default();
        time.applied(500);
        time.lead(true, Moment::from_millis(10_000));
        assert_eq!(time.stamp_ms(Moment::from_millis(10_250)), 750);
        time.applied(900);
        assert_eq!(time.stamp_ms(Moment::from_millis(10_250)), 900);
        time.lead(true, Moment::from_millis(10_300));
        assert_eq!(time.stamp_ms(Moment::from_millis(11_000)), 1500, "taking over happens once");
        time.lead(false, Moment::from_millis(11_000));
        time.lead(true, Moment::from_millis(20_000));
        assert_eq!(time.stamp_ms(Moment::from_millis(20_001)), 901, "a pause costs log time");
    }
}
