//! Bounds how fast peers can raise the term, so that no peer uses the terms up.
//!
//! A correct cluster begins a few terms a second at most. Peers may raise the term by
//! [`TermRise::A_SECOND`] a second, and by as much at once: 64 bits of terms last 136 years.

use core::time::Duration;

use crate::types::{Moment, Term};

/// How far peers have raised the term lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TermRise {
    /// What is left of the allowance was so at this moment.
    since: Moment,
    used: u64,
}

impl TermRise {
    /// The furthest that messages may raise the term, in one second and at once.
    pub(crate) const A_SECOND: u64 = 1 << 32;

    /// Whether a message of this term may be heard by a member in the term `own`.
    pub(crate) fn allows(&self, now: Moment, own: Term, message: Term) -> bool {
        let rise = message.get().saturating_sub(own.get());
        rise == 0 || rise <= Self::A_SECOND.saturating_sub(self.used_at(now))
    }

    /// A message raised the term by so much.
    pub(crate) fn raised(&mut self, now: Moment, rise: u64) {
        self.used = self.used_at(now).saturating_add(rise);
        self.since = now;
    }

    fn used_at(&self, now: Moment) -> u64 {
        let elapsed = now.since(self.since).min(Duration::from_secs(1));
        // At most a second: neither the product nor the difference overflows.
        let regained = elapsed.as_nanos() * u128::from(Self::A_SECOND) / 1_000_000_000;
        self.used.saturating_sub(u64::try_from(regained).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_last_longer_than_any_cluster() {
        let mut rise = TermRise::default();
        let (mut own, year) = (Term::ZERO, 365 * 24 * 3_600_u64);
        // Two hostile messages each tenth of a second: the second one of each pair is refused.
        for tenth in 0..100 {
            let now = Moment::from_millis(tenth * 100);
            for _ in 0..2 {
                let wish = Term::new(own.get() + TermRise::A_SECOND / 10);
                if rise.allows(now, own, wish) {
                    rise.raised(now, wish.get() - own.get());
                    own = wish;
                }
            }
        }
        let a_second = own.get() / 10;
        assert!(a_second <= TermRise::A_SECOND * 12 / 10, "{a_second}");
        assert!(u64::MAX / a_second / year > 100);
    }

    #[test]
    fn one_step_may_use_the_whole_allowance_and_no_more() {
        let (mut rise, now) = (TermRise::default(), Moment::from_millis(5_000));
        let all = Term::new(TermRise::A_SECOND);
        assert!(!rise.allows(now, Term::ZERO, all.next()));
        assert!(rise.allows(now, Term::ZERO, all));
        rise.raised(now, TermRise::A_SECOND);
        assert!(rise.allows(now, all, all), "the own term is always heard");
        assert!(!rise.allows(now, all, all.next()));
        assert!(rise.allows(Moment::from_millis(5_001), all, all.next()));
        assert!(rise.allows(Moment::from_millis(6_000), all, Term::new(all.get() * 2)));
    }
}
