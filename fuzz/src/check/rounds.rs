//! What confirms a read (thesis 6.4): after it began, a quorum has heard from the leader, in the
//! leader's term.
//!
//! A read that is served without that need not be stale yet, but could be. What members heard is
//! taken from the messages that reached them, not from what they answer.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Configuration, Heartbeat, Member, Moment, ReadId, Term};

use super::Violation;

/// The rounds of all leaders.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Reads that a leader, in its term, was asked for, and when.
    asked: BTreeMap<ReadId, (Member, Term, Moment)>,
    /// When a leader, in its term, first sent each of its rounds.
    sent: BTreeMap<(Member, Term, u64), Moment>,
    /// The newest round of each leader, in its term, that each member heard.
    heard: BTreeMap<(Member, Term, Member), u64>,
}

impl Rounds {
    /// A leader sends a sign of life.
    pub(crate) fn sends(&mut self, leader: Member, heartbeat: &Heartbeat, now: Moment) {
        self.sent.entry((leader, heartbeat.term, heartbeat.round)).or_insert(now);
    }

    /// It reaches a member that is not past its term.
    pub(crate) fn hears(&mut self, member: Member, leader: Member, heartbeat: &Heartbeat) {
        let newest = self.heard.entry((leader, heartbeat.term, member)).or_default();
        *newest = heartbeat.round.max(*newest);
    }

    /// A leader is asked for a read that may not rest on a lease.
    pub(crate) fn asked(&mut self, id: ReadId, leader: Member, term: Term, now: Moment) {
        self.asked.insert(id, (leader, term, now));
    }

    /// A member that leads in this term, by this configuration, serves a read.
    pub(crate) fn serves(
        &mut self,
        id: ReadId,
        leads: Option<Term>,
        configuration: &Configuration,
    ) -> Result<(), Violation> {
        let Some((leader, term, since)) = self.asked.remove(&id) else { return Ok(()) };
        // What it was asked as the leader of another term is another's to confirm.
        if leads != Some(term) || self.confirm(leader, term, configuration, since) {
            return Ok(());
        }
        let what = "a read was allowed by a leader that no quorum had heard since";
        Err(Violation::Promise { id: id.get(), what })
    }

    /// Whether a quorum heard a leader in its term after a moment. Of a joint configuration one
    /// half will do: the other may have come in force since.
    fn confirm(
        &self,
        leader: Member,
        term: Term,
        configuration: &Configuration,
        since: Moment,
    ) -> bool {
        let heard = |member: &&Member| {
            let newest = self.heard.get(&(leader, term, **member));
            let sent = newest.and_then(|round| self.sent.get(&(leader, term, *round)));
            **member == leader || sent.is_some_and(|sent| *sent >= since)
        };
        let quorum = |half: &BTreeSet<Member>| half.iter().filter(heard).count() * 2 > half.len();
        quorum(&configuration.voters) || quorum(&configuration.outgoing)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshraft_consensus::{Incarnation, NodeId, Position};

    use super::*;

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    #[test]
    fn a_quorum_has_to_hear_what_was_sent_after_the_read_began() {
        let at = |millis| Moment::ZERO.plus(Duration::from_millis(millis));
        let term = Term::new(2);
        let heartbeat = |term, round| Heartbeat { term, round, commit: Position::ZERO };
        let three = Configuration::of_voters([1, 2, 3].map(member));
        let mut rounds = Rounds::default();
        rounds.sends(member(1), &heartbeat(Term::new(1), 5), at(1));
        for round in [4, 5] {
            rounds.sends(member(1), &heartbeat(term, round), at(round * 10));
        }
        let id = ReadId::new(1);
        let serves = |rounds: &mut Rounds, leads| {
            rounds.asked(id, member(1), term, at(45));
            rounds.serves(id, leads, &three).is_ok()
        };
        rounds.hears(member(2), member(1), &heartbeat(term, 4));
        rounds.hears(member(3), member(1), &heartbeat(Term::new(1), 5));
        assert!(!serves(&mut rounds, Some(term)), "too early, and in another term");
        assert!(serves(&mut rounds, None), "another leader allowed it");
        rounds.hears(member(2), member(1), &heartbeat(term, 5));
        assert!(serves(&mut rounds, Some(term)));
    }
}
