//! How much work peers may cause before they have proven anything: tags and signatures, bounded
//! by rate for each peer and for all strangers together. A value but for its locks: time is an
//! argument.

use std::sync::{Arc, Mutex, PoisonError};

use meshraft_consensus::Moment;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u64,
    burst: u64,
}

/// Tags that are computed for the streams of one peer: about a microsecond each.
const TAGS_OF_PEER: Rate = Rate { per_second: 16_384, burst: 65_536 };
/// Tags that are computed for the streams of all peers that are no known members.
const TAGS_OF_STRANGERS: Rate = Rate { per_second: 65_536, burst: 262_144 };
/// Hellos with cards of one peer: up to eight signatures each, about half a millisecond.
const CARDS_OF_PEER: Rate = Rate { per_second: 8, burst: 16 };
/// Hellos with cards of all peers. A peer with cards is no known member yet.
const CARDS_OF_ALL: Rate = Rate { per_second: 64, burst: 256 };

const NANOS: u64 = 1_000_000_000;

/// What is left of one rate. One task may take more than is left: the debt is paid off first.
#[derive(Debug, Default)]
struct Bucket {
    spent: u64,
    /// When `spent` was last paid off.
    since: Moment,
}

impl Bucket {
    fn pay_off(&mut self, now: Moment, rate: Rate) {
        let nanos = now.as_nanos().saturating_sub(self.since.as_nanos());
        let units = nanos.saturating_mul(rate.per_second) / NANOS;
        self.spent = self.spent.saturating_sub(units);
        // The part of a unit that is left counts at the next look.
        let paid = units.saturating_mul(NANOS) / rate.per_second;
        self.since = Moment::from_nanos(self.since.as_nanos().saturating_add(paid));
    }

    fn has_room(&mut self, now: Moment, rate: Rate) -> bool {
        self.pay_off(now, rate);
        self.spent < rate.burst
    }
}

#[derive(Debug, Default)]
struct Buckets {
    tags: Mutex<Bucket>,
    cards: Mutex<Bucket>,
}

impl Buckets {
    fn tags(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cards(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one peer may still cause, shared by its streams; and all peers together. A cheap handle.
/// Its locks are taken last of all and held for no call.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    peer: Arc<Buckets>,
    all: Arc<Buckets>,
}

impl Effort {
    /// The effort of another peer, with the same bound for all together.
    #[must_use]
    pub fn of_new_peer(&self) -> Self {
        Self { peer: Arc::default(), all: Arc::clone(&self.all) }
    }

    /// Takes the work of so many tags. Known members do not share the bound of strangers: those
    /// can't use it up for them.
    pub(crate) fn take_tags(&self, now: Moment, count: usize, is_known: bool) -> bool {
        let (mut peer, mut all) = (self.peer.tags(), self.all.tags());
        let room =
            peer.has_room(now, TAGS_OF_PEER) && (is_known || all.has_room(now, TAGS_OF_STRANGERS));
        if room {
            let count = count as u64;
            peer.spent = peer.spent.saturating_add(count);
            all.spent = if is_known { all.spent } else { all.spent.saturating_add(count) };
        }
        room
    }

    /// Takes the work of one hello or answer with cards.
    pub(crate) fn take_cards(&self, now: Moment) -> bool {
        let (mut peer, mut all) = (self.peer.cards(), self.all.cards());
        let room = peer.has_room(now, CARDS_OF_PEER) && all.has_room(now, CARDS_OF_ALL);
        if room {
            (peer.spent, all.spent) = (peer.spent + 1, all.spent + 1);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn one_peer_shows_a_few_cards_a_second_and_does_not_hinder_another() {
        let one = Effort::default();
        let two = one.of_new_peer();
        let taken =
            |effort: &Effort, now| (0..1_000).filter(|_| effort.take_cards(at(now))).count();
        assert_eq!(taken(&one, 0), 16);
        assert_eq!(taken(&two, 0), 16);
        assert_eq!(taken(&one, 1_000), 8);
        // Looking often pays off no less.
        let often: usize = (1_001..=2_000).map(|now| usize::from(one.take_cards(at(now)))).sum();
        assert_eq!(often, 8);
    }

    #[test]
    fn all_peers_together_are_bounded_too() {
        let all = Effort::default();
        let taken = (0..1_000).filter(|_| all.of_new_peer().take_cards(at(0))).count();
        assert_eq!(taken, 256);
        let tags = (0..1_000).filter(|_| all.of_new_peer().take_tags(at(0), 1_000, false)).count();
        assert_eq!(tags, 263, "the last one may be in debt");
        assert!(all.of_new_peer().take_tags(at(0), 1_000, true), "a known member is no stranger");
    }

    #[test]
    fn a_node_with_very_many_keys_computes_their_tags_all_the_same() {
        let one = Effort::default();
        assert!(one.take_tags(at(0), 100_000, true), "at once, and then pays off the debt");
        assert!(!one.take_tags(at(1_000), 100_000, true));
        assert!(one.take_tags(at(3_000), 100_000, true));
    }
}
