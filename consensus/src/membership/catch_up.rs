//! Decides when a learner has caught up: a round of catching up that was shorter than an election
//! time-out (thesis 4.2.1).

use core::time::Duration;

use crate::types::{Index, Moment};

/// One learner's rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUp {
    target: Index,
    started: Moment,
    done: bool,
}

impl CatchUp {
    /// The first round: up to the log's end now.
    pub(crate) const fn start(target: Index, now: Moment) -> Self {
        Self { target, started: now, done: false }
    }

    /// Whether a round was short enough.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }

    /// The learner has reached `matched`, the log ends at `last`.
    pub(crate) fn advance(&mut self, matched: Index, last: Index, election: Duration, now: Moment) {
        if self.done || matched < self.target {
            return;
        }
        if now.since(self.started) < election {
            self.done = true;
        } else {
            (self.target, self.started) = (last, now);
            // A round with nothing to send is over at once. In a quiet cluster no answer would come
            // to tell of it later.
            self.done = matched >= last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_round_is_followed_by_another() {
        let (election, at) = (Duration::from_millis(100), Moment::from_millis);
        let mut rounds = CatchUp::start(Index::new(50), at(0));
        rounds.advance(Index::new(49), Index::new(60), election, at(90));
        assert!(!rounds.is_done(), "the target is not reached");
        rounds.advance(Index::new(50), Index::new(70), election, at(100));
        assert!(!rounds.is_done(), "the round took too long");
        rounds.advance(Index::new(69), Index::new(80), election, at(150));
        assert!(!rounds.is_done(), "the second round goes to the log's end at its start");
        rounds.advance(Index::new(70), Index::new(80), election, at(199));
        assert!(rounds.is_done());
    }

    #[test]
    fn a_long_round_that_ends_in_a_quiet_cluster_is_the_last() {
        let (election, at) = (Duration::from_millis(100), Moment::from_millis);
        let mut rounds = CatchUp::start(Index::new(50), at(0));
        rounds.advance(Index::new(50), Index::new(50), election, at(600));
        assert!(rounds.is_done(), "there is nothing left to catch up with");
    }
}
