//! Knows how long the own disk takes, and when it has stalled.
//!
//! Invariants:
//! 1. Of about the last thousand writes it counts how many took how long, by powers of two.
//! 2. A leader whose oldest write has been out for longer than an election time-out, and longer
//!    than eight times what all but one in a hundred took, leads no more if another can: whatever
//!    it promises later would come late.
//!
//! Many groups share a disk. Each waits a little longer by its own id, up to half an election
//! time-out, so that they do not all elect at once.

use core::time::Duration;

use crate::{core::Core, event::Event, identity::Member, quorum, role::RoleState, types::Index};

/// Powers of two of microseconds that are told apart: up to nine minutes.
const STEPS: usize = 30;
/// So many writes are counted, then all counts are halved.
const COUNTED_MAX: u32 = 1024;

/// How long writes took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct DiskPace {
    counts: [u16; STEPS],
    counted: u32,
}

impl DiskPace {
    /// A write took this long.
    pub(crate) fn note(&mut self, took: Duration) {
        let micros = took.as_micros().max(1);
        let step = usize::try_from(micros.ilog2()).unwrap_or(STEPS).min(STEPS - 1);
        if let Some(count) = self.counts.get_mut(step) {
            *count += 1;
            self.counted += 1;
        }
        if self.counted >= COUNTED_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.counted = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// What at least 99 of 100 writes took at most, rounded up to a power of two of microseconds.
    /// Zero if nothing was written.
    pub(crate) fn p99(&self) -> Duration {
        let mut rest = self.counted - self.counted / 100;
        for (step, count) in self.counts.iter().enumerate() {
            rest = rest.saturating_sub(u32::from(*count));
            if rest == 0 && self.counted > 0 {
                return Duration::from_micros(2 << step);
            }
        }
        Duration::ZERO
    }
}

impl Core {
    /// How long a leader's write may be out.
    fn disk_patience(&self) -> Duration {
        let election = self.config.knobs().election;
        let own = self.cluster.as_bytes().first().copied().unwrap_or_default();
        let stagger = election / 2 * u32::from(own) / 256;
        election.max(self.durability.pace().p99() * 8) + stagger
    }

    /// The heartbeat is due: a leader whose disk has stalled steps down, if a voter answers that
    /// can take over. Says whether it did.
    pub(crate) fn yield_stalled(&mut self) -> bool {
        let age = self.durability.oldest_age(self.now);
        let RoleState::Leader(leader) = &self.role else { return false };
        if age <= self.disk_patience() || self.successor(leader).is_none() {
            return false;
        }
        // Where the others can't commit without this disk either, nobody leads better.
        let of_others = |member: &Member| {
            let progress = leader.progress.get(member).filter(|_| *member != self.me);
            progress.map_or(Index::ZERO, |progress| progress.counted())
        };
        let without = quorum::agreed(self.membership.current(), of_others);
        if without.is_none_or(|reached| reached <= self.durability.durable()) {
            return false;
        }
        let term = self.hard.term;
        self.observe(Event::DiskStalled { term, elapsed: age });
        self.leave_to_successor();
        self.become_follower(term, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_hundred_writes_is_left_out() {
        let mut pace = DiskPace::default();
        assert_eq!(pace.p99(), Duration::ZERO);
        pace.note(Duration::from_millis(3));
        assert_eq!(pace.p99(), Duration::from_micros(4096));
        (0..98).for_each(|_| pace.note(Duration::from_micros(100)));
        assert_eq!(pace.p99(), Duration::from_micros(4096), "one of 99");
        pace.note(Duration::from_micros(100));
        assert_eq!(pace.p99(), Duration::from_micros(128), "one of a hundred");
    }

    #[test]
    fn what_was_slow_long_ago_is_forgotten() {
        let mut pace = DiskPace::default();
        (0..500).for_each(|_| pace.note(Duration::from_secs(2)));
        assert_eq!(pace.p99(), Duration::from_micros(1 << 21));
        (0..8 * COUNTED_MAX).for_each(|_| pace.note(Duration::from_millis(1)));
        assert_eq!(pace.p99(), Duration::from_micros(1024));
        pace.note(Duration::MAX);
        assert_eq!(pace.p99(), Duration::from_micros(1024));
    }
}
