//! The time that entries carry: advances by the leader's own clock, never by a wall clock.
//!
//! A leader goes on from the last log time that it applied when it took over, and adds what its
//! monotonic clock has measured since (DESIGN: log time). It takes over when it has applied an
//! entry of its own term, not when it is elected: only then has it applied every entry of the
//! leaders before it, whose stamps it must not go behind.
//!
//! Invariants:
//! 1. The stamps in a log never go back.
//! 2. Between two entries log time advances by no more than passed between their proposals: a
//!    change of leader may lengthen a time to live, never shorten it.

use meshraft_consensus::{Moment, Term};

/// The log's clock, as this replica would stamp entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogTime {
    applied_ms: u64,
    /// The term in which this replica took over, when, and at which log time.
    since: Option<(Term, Moment, u64)>,
}

impl LogTime {
    /// An applied entry carried this stamp.
    pub(crate) fn applied(&mut self, stamp_ms: u64) {
        self.applied_ms = self.applied_ms.max(stamp_ms);
    }

    /// This replica leads in a term and has applied an entry of it; or it does not.
    pub(crate) fn lead(&mut self, term: Option<Term>, now: Moment) {
        if term != self.since.map(|(term, ..)| term) {
            self.since = term.map(|term| (term, now, self.applied_ms));
        }
    }

    /// The stamp of an entry proposed now, in milliseconds.
    pub(crate) fn stamp_ms(&self, now: Moment) -> u64 {
        let Some((_, since, base_ms)) = self.since else { return self.applied_ms };
        let elapsed_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        base_ms.saturating_add(elapsed_ms).max(self.applied_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn log_time_goes_on_from_what_was_applied_and_never_back() {
        let (second, third) = (Some(Term::new(2)), Some(Term::new(3)));
        let mut time = LogTime::default();
        time.applied(500);
        time.lead(second, Moment::from_millis(10_000));
        assert_eq!(time.stamp_ms(Moment::from_millis(10_250)), 750);
        time.lead(second, Moment::from_millis(10_300));
        assert_eq!(time.stamp_ms(Moment::from_millis(11_000)), 1500, "taking over happens once");
        time.lead(None, Moment::from_millis(11_000));
        time.applied(1500);
        time.lead(third, Moment::from_millis(20_000));
        assert_eq!(time.stamp_ms(Moment::from_millis(20_001)), 1501, "a pause costs log time");
        time.applied(1501);
        time.lead(Some(Term::new(5)), Moment::from_millis(30_000));
        assert_eq!(
            time.stamp_ms(Moment::from_millis(30_000)),
            1501,
            "another term is another base"
        );
    }

    /// An entry: its stamp, if it is a command, and when it was proposed.
    type Stamped = (Option<u64>, u64);

    /// What may happen to a cluster of three.
    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Propose,
        Commit(usize),
        Apply(usize),
        Elect { node: usize, keep: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u64..2000).prop_map(Step::Wait),
            6 => Just(Step::Propose),
            4 => (0_usize..8).prop_map(Step::Commit),
            6 => (0_usize..3).prop_map(Step::Apply),
            2 => (0_usize..3, 0_usize..8).prop_map(|(node, keep)| Step::Elect { node, keep }),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// A replicated log with one clock, on which every replica's clock runs.
    #[derive(Default)]
    struct World {
        now: u64,
        log: Vec<Stamped>,
        committed: usize,
        applied: [usize; 3],
        times: [LogTime; 3],
        term: u64,
        /// Who leads, and where its first entry stands.
        leader: Option<(usize, usize)>,
        /// The plain twin: when the leader took over, and at which log time.
        twin: Option<(u64, u64)>,
    }

    impl World {
        fn step(&mut self, step: &Step) {
            match *step {
                Step::Wait(millis) => self.now += millis,
                Step::Commit(count) => self.committed = self.log.len().min(self.committed + count),
                Step::Elect { node, keep } => {
                    // What is not committed may be lost with its leader.
                    self.log.truncate(self.committed + keep);
                    self.term += 1;
                    (self.leader, self.twin) = (Some((node, self.log.len())), None);
                    self.log.push((None, self.now));
                    let now = self.moment();
                    self.times.iter_mut().for_each(|time| time.lead(None, now));
                }
                Step::Apply(node) => self.apply(node),
                Step::Propose => self.propose(),
            }
        }

        fn moment(&self) -> Moment {
            Moment::from_millis(self.now)
        }

        fn apply(&mut self, node: usize) {
            let now = self.moment();
            for (stamp, _) in &self.log[self.applied[node]..self.committed] {
                stamp.iter().for_each(|stamp| self.times[node].applied(*stamp));
            }
            self.applied[node] = self.committed;
            let Some((leader, first)) = self.leader.filter(|(leader, _)| *leader == node) else {
                return;
            };
            if self.applied[leader] > first {
                self.times[leader].lead(Some(Term::new(self.term)), now);
                let before = self.log[..first].iter().filter_map(|(stamp, _)| *stamp).max();
                self.twin.get_or_insert((self.now, before.unwrap_or(0)));
            }
        }

        /// Only who has taken over proposes.
        fn propose(&mut self) {
            let (Some((leader, _)), Some((since, base))) = (self.leader, self.twin) else { return };
            let stamp = self.times[leader].stamp_ms(self.moment());
            assert_eq!(stamp, base + (self.now - since), "the twin stamps it otherwise");
            self.log.push((Some(stamp), self.now));
        }

        fn check(&self) {
            let stamps = self.log.iter().filter_map(|(stamp, at)| Some(((*stamp)?, *at)));
            let stamps: Vec<(u64, u64)> = stamps.collect();
            for pair in stamps.windows(2) {
                let ((before, proposed), (after, later)) = (pair[0], pair[1]);
                assert!(before <= after, "stamps go back from {before} to {after}");
                let passed = later - proposed;
                assert!(after - before <= passed, "{} ms in {passed} ms", after - before);
            }
        }
    }

    proptest! {
        #[test]
        fn stamps_never_go_back_and_never_run_ahead(steps in steps()) {
            let mut world = World::default();
            for step in &steps {
                world.step(step);
                world.check();
            }
        }
    }
}
