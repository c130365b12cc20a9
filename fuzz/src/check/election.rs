//! One leader a term (thesis 3.6.3, election safety), one vote a term (3.4), over restarts too.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, HardState, Member, Term};

use super::{HardStateText, Violation};

/// Who led when.
#[derive(Debug, Default)]
pub(crate) struct Elections {
    leaders: BTreeMap<(ClusterId, Term), Member>,
    /// Every vote that was ever durable.
    cast: BTreeMap<(ClusterId, Member, Term), Member>,
    /// Members whose disk was replaced by an old copy: they may forget their votes.
    set_back: BTreeSet<Member>,
}

impl Elections {
    /// A member leads. Says whether that is new.
    pub(crate) fn leads(
        &mut self,
        cluster: ClusterId,
        term: Term,
        member: Member,
    ) -> Result<bool, Violation> {
        match self.leaders.insert((cluster, term), member) {
            None => Ok(true),
            Some(first) if first == member => Ok(false),
            Some(first) => Err(Violation::TwoLeaders { cluster, term, first, second: member }),
        }
    }

    /// An old copy took the place of a member's disk.
    pub(crate) fn set_back(&mut self, member: Member) {
        self.set_back.insert(member);
    }

    /// Whether an old copy took the place of this member's disk.
    pub(crate) fn is_set_back(&self, member: Member) -> bool {
        self.set_back.contains(&member)
    }

    /// A member's hard state is durable.
    pub(crate) fn cast(
        &mut self,
        cluster: ClusterId,
        member: Member,
        hard: HardState,
    ) -> Result<(), Violation> {
        let Some(vote) = hard.vote.filter(|_| !self.set_back.contains(&member)) else {
            return Ok(());
        };
        match *self.cast.entry((cluster, member, hard.term)).or_insert(vote) {
            first if first == vote => Ok(()),
            first => {
                let from = HardStateText(HardState { vote: Some(first), ..hard });
                Err(Violation::HardState { member, from, to: HardStateText(hard) })
            }
        }
    }

    /// Whom a member voted for in a term, durably.
    pub(crate) fn vote_of(&self, cluster: ClusterId, member: Member, term: Term) -> Option<Member> {
        self.cast.get(&(cluster, member, term)).copied()
    }

    /// The latest term in which anyone led.
    pub(crate) fn last_led(&self) -> Term {
        self.leaders.keys().map(|(_, term)| *term).max().unwrap_or_default()
    }

    /// A member writes its hard state over an older one.
    pub(crate) fn votes(
        &self,
        member: Member,
        from: HardState,
        to: HardState,
    ) -> Result<(), Violation> {
        let term_went_back = to.term < from.term;
        let voted_again = to.term == from.term && from.vote.is_some() && to.vote != from.vote;
        if term_went_back || voted_again {
            let (from, to) = (HardStateText(from), HardStateText(to));
            return Err(Violation::HardState { member, from, to });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, Index, NodeId};

    use super::*;

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    #[test]
    fn two_leaders_of_a_term_are_seen() {
        let (mut elections, cluster) = (Elections::default(), ClusterId::new([1; 32]));
        let term = Term::new(3);
        assert_eq!(elections.leads(cluster, term, member(1)), Ok(true));
        assert_eq!(elections.leads(cluster, term, member(1)), Ok(false));
        assert_eq!(elections.leads(cluster, term.next(), member(2)), Ok(true));
        let (first, second) = (member(1), member(2));
        let expected = Violation::TwoLeaders { cluster, term, first, second };
        assert_eq!(elections.leads(cluster, term, member(2)), Err(expected));
    }

    #[test]
    fn a_vote_that_a_restart_forgot_is_seen() {
        let (mut elections, cluster) = (Elections::default(), ClusterId::new([1; 32]));
        let vote = |number| {
            let (term, commit_hint) = (Term::new(3), Index::ZERO);
            HardState { term, vote: Some(member(number)), commit_hint }
        };
        assert_eq!(elections.cast(cluster, member(1), vote(2)), Ok(()));
        assert_eq!(elections.cast(cluster, member(1), vote(2)), Ok(()));
        assert!(elections.cast(cluster, member(1), vote(3)).is_err());
        elections.set_back(member(1));
        assert_eq!(elections.cast(cluster, member(1), vote(3)), Ok(()));
    }

    #[test]
    fn a_second_vote_and_an_older_term_are_seen() {
        let hard = |term, vote: Option<u8>| HardState {
            term: Term::new(term),
            vote: vote.map(member),
            commit_hint: Index::ZERO,
        };
        let elections = Elections::default();
        let wrote = |from, to| elections.votes(member(1), from, to).is_ok();
        assert!(wrote(hard(1, None), hard(1, Some(2))));
        assert!(wrote(hard(1, Some(2)), hard(2, Some(3))));
        assert!(!wrote(hard(1, Some(2)), hard(1, Some(3))));
        assert!(!wrote(hard(1, Some(2)), hard(1, None)));
        assert!(!wrote(hard(2, None), hard(1, None)));
    }
}
