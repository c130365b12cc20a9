//! Decides when a leader raises the cluster version, and whom it may admit.
//!
//! A member tells every peer the newest version of commands that it supports. The leader proposes
//! the highest one that all members of its newest configuration support, both halves of a joint one
//! and learners included (DESIGN: cluster version). What is in force is known from the applied
//! state, and this leader has applied everything before its own term.
//!
//! Nothing is proposed while a change of the configuration is not applied: a member that it takes
//! out may still be sent what follows, and would halt instead of hearing that it is out.
//!
//! Invariants:
//! 1. A member that told nothing supports what is in force, and no more: nothing is proposed.
//! 2. What is proposed is higher than what is in force, and one proposal is under way at a time.
//! 3. Whoever joins supports what is in force, and what this leader has proposed: the proposal may
//!    be committed before the joiner's admission is.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{ClusterVersion, Configuration, Member, Moment, Outcome, Term};

/// A core that has no room, or hands leadership over, is asked again after so long.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What the members told, and what this leader made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    told: BTreeMap<Member, ClusterVersion>,
    /// What was proposed last, in which term, and is not known to have failed.
    proposed: Option<(Term, ClusterVersion)>,
    /// Nothing is proposed before.
    retry_at: Option<Moment>,
}

/// A leader that has applied everything before its own term.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leading<'a> {
    pub(super) me: Member,
    pub(super) supports: ClusterVersion,
    pub(super) term: Term,
    pub(super) in_force: ClusterVersion,
    /// The newest in its log.
    pub(super) configuration: &'a Configuration,
    /// The newest that it has applied.
    pub(super) applied: &'a Configuration,
}

impl Versions {
    /// A peer told what it supports, or can't be reached any more.
    pub(super) fn told(&mut self, member: Member, supports: Option<ClusterVersion>) {
        match supports {
            Some(supports) => self.told.insert(member, supports),
            None => self.told.remove(&member),
        };
    }

    /// What to propose now; it counts as proposed then.
    pub(super) fn propose(&mut self, now: Moment, leading: Leading<'_>) -> Option<ClusterVersion> {
        let Leading { term, in_force, configuration, applied, .. } = leading;
        let waits = self.deadline().is_some_and(|at| at > now) || configuration != applied;
        if waits || self.proposed_in(term) > Some(in_force) {
            return None;
        }
        let wanted = self.common(leading).filter(|wanted| *wanted > in_force)?;
        (self.proposed, self.retry_at) = (Some((term, wanted)), None);
        Some(wanted)
    }

    /// What became of the proposal. One that may yet be committed still counts in its term.
    pub(super) fn resolved(&mut self, now: Moment, outcome: &Outcome) {
        if matches!(outcome, Outcome::Rejected(_)) {
            (self.proposed, self.retry_at) = (None, Some(now.plus(RETRY_PAUSE)));
        }
    }

    /// What a joiner has to support.
    pub(super) fn needed(&self, term: Term, in_force: ClusterVersion) -> ClusterVersion {
        self.proposed_in(term).map_or(in_force, |proposed| proposed.max(in_force))
    }

    /// When a proposal that failed may be tried again.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        self.retry_at
    }

    /// The time of the deadline has come, whoever leads now.
    pub(super) fn expire(&mut self, now: Moment) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
    }

    fn proposed_in(&self, term: Term) -> Option<ClusterVersion> {
        self.proposed.filter(|(proposed_in, _)| *proposed_in == term).map(|(_, version)| version)
    }

    /// The highest version that all members support; `None` if one told nothing.
    fn common(&self, leading: Leading<'_>) -> Option<ClusterVersion> {
        let supported = |member: &Member| match *member == leading.me {
            true => Some(leading.supports),
            false => self.told.get(member).copied(),
        };
        let Configuration { voters, outgoing, learners, .. } = leading.configuration;
        let members = voters.iter().chain(outgoing).chain(learners);
        let versions: Vec<_> = members.map(supported).collect::<Option<_>>()?;
        versions.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, Index, NodeId, Position, RejectReason};
    use proptest::prelude::*;

    use super::*;

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    fn version(number: u16) -> ClusterVersion {
        ClusterVersion::new(number)
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    /// A configuration of the members whose bits are set.
    fn configuration(voters: u8, outgoing: u8, learners: u8) -> Configuration {
        let of = |bits: u8| (0..8).filter(|bit| bits >> bit & 1 == 1).map(member).collect();
        Configuration { voters: of(voters), outgoing: of(outgoing), learners: of(learners) }
    }

    /// Member 0 leads in a term, supports 3, and 1 is in force.
    fn leading(term: u64, configuration: &Configuration) -> Leading<'_> {
        let (supports, in_force) = (version(3), version(1));
        let (me, term, applied) = (member(0), Term::new(term), configuration);
        Leading { me, supports, term, in_force, configuration, applied }
    }

    #[test]
    fn nothing_is_proposed_until_all_have_told_and_only_once() {
        let mut versions = Versions::default();
        let three = configuration(0b111, 0, 0);
        versions.told(member(1), Some(version(3)));
        assert_eq!(versions.propose(at(0), leading(2, &three)), None, "one told nothing");
        versions.told(member(2), Some(version(2)));
        assert_eq!(versions.propose(at(0), leading(2, &three)), Some(version(2)));
        assert_eq!(versions.propose(at(0), leading(2, &three)), None, "one is under way");
        versions.resolved(at(0), &Outcome::Committed(Position::new(Term::new(2), Index::new(9))));
        assert_eq!(versions.propose(at(0), leading(2, &three)), None, "it is not applied yet");
        let applied = Leading { in_force: version(2), ..leading(2, &three) };
        assert_eq!(versions.propose(at(1), applied), None, "it is in force");
        versions.told(member(2), Some(version(4)));
        assert_eq!(versions.propose(at(1), applied), Some(version(3)), "this member's own is 3");
    }

    /// A leader whose proposal was overtaken by another term proposes it again when it leads again,
    /// unless it is in force by then.
    #[test]
    fn a_change_of_leader_makes_a_proposal_open_again() {
        let mut versions = Versions::default();
        let pair = configuration(0b11, 0, 0);
        versions.told(member(1), Some(version(2)));
        assert_eq!(versions.propose(at(0), leading(2, &pair)), Some(version(2)));
        versions.resolved(at(5), &Outcome::Unknown);
        assert_eq!(versions.needed(Term::new(2), version(1)), version(2), "it may yet commit");
        assert_eq!(versions.needed(Term::new(4), version(1)), version(1));
        assert_eq!(versions.propose(at(9), leading(4, &pair)), Some(version(2)));
        let committed = Leading { in_force: version(2), ..leading(6, &pair) };
        assert_eq!(versions.propose(at(9), committed), None);
    }

    #[test]
    fn a_rejected_proposal_waits_a_little() {
        let mut versions = Versions::default();
        let alone = configuration(1, 0, 0);
        assert_eq!(versions.propose(at(0), leading(2, &alone)), Some(version(3)));
        versions.resolved(at(100), &Outcome::Rejected(RejectReason::NotReady));
        let due = at(100).plus(RETRY_PAUSE);
        assert_eq!(versions.deadline(), Some(due));
        assert_eq!(versions.needed(Term::new(2), version(1)), version(1), "it is in no log");
        versions.expire(at(200));
        assert_eq!(versions.propose(at(200), leading(2, &alone)), None);
        versions.expire(due);
        assert_eq!(versions.deadline(), None, "nobody is woken twice for it");
        assert_eq!(versions.propose(due, leading(2, &alone)), Some(version(3)));
    }

    /// Who is taken out may be sent what follows, and shall hear that it is out, and not halt.
    #[test]
    fn a_change_that_is_under_way_is_waited_for() {
        let mut versions = Versions::default();
        let (pair, alone) = (configuration(0b11, 0, 0), configuration(1, 0, 0));
        versions.told(member(1), Some(version(1)));
        let changing = Leading { applied: &pair, ..leading(2, &alone) };
        assert_eq!(versions.propose(at(0), changing), None);
        assert_eq!(versions.propose(at(0), leading(2, &alone)), Some(version(3)));
    }

    #[test]
    fn a_joiner_supports_what_is_about_to_come_into_force() {
        let mut versions = Versions::default();
        let alone = configuration(1, 0, 0);
        assert_eq!(versions.needed(Term::new(2), version(1)), version(1));
        versions.propose(at(0), leading(2, &alone));
        assert_eq!(versions.needed(Term::new(2), version(1)), version(3));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Tells(u8, u16),
        Gone(u8),
        Configure(u8, u8, u8),
        Applies,
        Loses,
        Rejected,
        Waits,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1_u8..5, 1_u16..5).prop_map(|(who, supports)| Step::Tells(who, supports)),
            2 => (1_u8..5).prop_map(Step::Gone),
            3 => (0_u8..32, 0_u8..32, 0_u8..32)
                .prop_map(|(new, old, learners)| Step::Configure(new, old, learners)),
            4 => Just(Step::Applies),
            1 => Just(Step::Loses),
            1 => Just(Step::Rejected),
            3 => Just(Step::Waits),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// The twin knows of each member only what it told last, and asks all of them each time.
        #[test]
        fn a_proposal_is_the_minimum_of_all_members(supports in 1_u16..5, steps in steps()) {
            let mut versions = Versions::default();
            let (mut told, mut now) = (BTreeMap::from([(member(0), version(supports))]), 0);
            let mut members = configuration(1, 0, 0);
            let (mut term, mut in_force, mut open) = (1, version(1), None);
            let mut wait_until = 0;
            for step in steps {
                match step {
                    Step::Tells(who, it) => {
                        told.insert(member(who), version(it));
                        versions.told(member(who), Some(version(it)));
                    }
                    Step::Gone(who) => {
                        told.remove(&member(who));
                        versions.told(member(who), None);
                    }
                    Step::Configure(voters, outgoing, learners) => {
                        members = configuration(voters | 1, outgoing, learners);
                    }
                    Step::Applies => in_force = in_force.max(open.take().unwrap_or(in_force)),
                    Step::Loses => {
                        versions.resolved(at(now), &Outcome::Unknown);
                        // What became of it is applied before this member leads again.
                        in_force = in_force.max(open.take().unwrap_or(in_force));
                        term += 2;
                    }
                    Step::Rejected => if open.take().is_some() {
                        let rejected = Outcome::Rejected(RejectReason::NotReady);
                        versions.resolved(at(now), &rejected);
                        wait_until = now + 500;
                    },
                    Step::Waits => now += 200,
                }
                versions.expire(at(now));
                let all = [&members.voters, &members.outgoing, &members.learners];
                let all = all.into_iter().flatten();
                let twin = all.map(|it| told.get(it).map_or(0, |it| it.get())).min().unwrap();
                let free = open.is_none() && now >= wait_until;
                let expected = (free && twin > in_force.get()).then(|| version(twin));
                let me = member(0);
                let (term, configuration) = (Term::new(term), &members);
                let supports = version(supports);
                let applied = configuration;
                let leading = Leading { me, supports, term, in_force, configuration, applied };
                let proposed = versions.propose(at(now), leading);
                prop_assert_eq!(proposed, expected);
                open = proposed.or(open);
                let needed = versions.needed(term, in_force);
                prop_assert_eq!(needed, open.unwrap_or(in_force));
            }
        }
    }
}
