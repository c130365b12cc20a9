//! Leader completeness (thesis 3.6.3): what is committed in a term is held by every leader of a
//! later one.
//!
//! When something is seen to be committed, it was committed in the term of whoever says so, or
//! before. Of several who say so the earliest term counts. A leader is compared with that whenever
//! either comes to be known: when it is elected, and when it was elected long ago, and only now
//! somebody says what had been committed before.

use std::collections::BTreeMap;

use meshraft_consensus::{ClusterId, Index, Member, Position, Term};

use super::{
    Violation,
    shadow::{EntryDigest, LogCopy, place},
};

/// Who led when with which log, and what was committed when.
#[derive(Debug, Default)]
pub(super) struct Completeness {
    /// In which term each entry was committed, at the latest. Never decreases from slot to slot.
    committed_in: BTreeMap<ClusterId, Vec<Term>>,
    /// Who led in each term, with where each term began in its log when it was seen to lead.
    led: BTreeMap<(ClusterId, Term), (Member, Vec<Position>)>,
}

impl Completeness {
    /// Everything up to an index is said, in this term, to be committed.
    pub(super) fn commits(
        &mut self,
        cluster: ClusterId,
        committed: &[EntryDigest],
        commit: Index,
        term: Term,
    ) -> Result<(), Violation> {
        let terms = self.committed_in.entry(cluster).or_default();
        let known = terms.len();
        terms.resize(committed.len(), term);
        let covered = terms.iter_mut().take(place(commit)).enumerate().rev();
        let mut first = place(commit);
        for (slot, earlier) in covered.take_while(|(slot, it)| *slot >= known || **it > term) {
            (*earlier, first) = (term, slot);
        }
        let news = committed.get(first..place(commit)).unwrap_or_default();
        let later = self.led.range((cluster, term.next())..);
        for ((_, led), (leader, log)) in later.take_while(|((of, _), _)| *of == cluster) {
            let lacks = |entry: &&EntryDigest| !holds(log, entry.position);
            if let Some(missing) = news.iter().find(lacks) {
                let (leader, term, missing) = (*leader, *led, missing.position);
                return Err(Violation::LeaderIncomplete { leader, term, missing });
            }
        }
        Ok(())
    }

    /// A member is seen to lead. One that won long ago and hears of it only now need not know what
    /// later ones committed.
    pub(super) fn leads(
        &mut self,
        cluster: ClusterId,
        committed: &[EntryDigest],
        term: Term,
        leader: Member,
        log: &LogCopy,
    ) -> Result<(), Violation> {
        let terms = self.committed_in.get(&cluster).into_iter().flatten();
        let before = committed.iter().zip(terms).take_while(|(_, by)| **by < term);
        for (entry, _) in before {
            if log.at(entry.position.index) != Some(*entry) {
                let missing = entry.position;
                return Err(Violation::LeaderIncomplete { leader, term, missing });
            }
        }
        self.led.entry((cluster, term)).or_insert_with(|| (leader, log.boundaries()));
        Ok(())
    }
}

/// Whether a log has an entry: it begins these terms at these slots, and ends before the last one.
fn holds(boundaries: &[Position], entry: Position) -> bool {
    let begun = boundaries.partition_point(|start| start.index <= entry.index);
    let start = begun.checked_sub(1).and_then(|nth| boundaries.get(nth));
    start.is_some_and(|start| start.term == entry.term)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meshraft_consensus::{Entry, EntryKind, Incarnation, NodeId};

    use super::*;

    const CLUSTER: ClusterId = ClusterId::new([1; 32]);

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    /// A log whose entries are of these terms.
    fn log(terms: &[u64]) -> LogCopy {
        let mut log = LogCopy::default();
        for term in terms {
            let position = Position::new(Term::new(*term), log.last().index.next());
            let (kind, bytes) = (EntryKind::Noop, Bytes::new());
            log.push(EntryDigest::of(&Entry { position, kind, bytes }));
        }
        log
    }

    fn leads(checks: &mut Completeness, committed: &LogCopy, term: u64, log: &LogCopy) -> bool {
        let (leader, term) = (member(1), Term::new(term));
        checks.leads(CLUSTER, committed.entries(), term, leader, log).is_ok()
    }

    fn commits(checks: &mut Completeness, committed: &LogCopy, commit: u64, term: u64) -> bool {
        let (commit, term) = (Index::new(commit), Term::new(term));
        checks.commits(CLUSTER, committed.entries(), commit, term).is_ok()
    }

    #[test]
    fn a_later_leader_holds_what_was_committed() {
        let (mut checks, committed) = (Completeness::default(), log(&[1, 1, 2]));
        assert!(commits(&mut checks, &committed, 3, 2));
        assert!(leads(&mut checks, &committed, 3, &log(&[1, 1, 2, 3])));
        assert!(!leads(&mut checks, &committed, 4, &log(&[1, 1, 3])));
        assert!(leads(&mut checks, &committed, 2, &log(&[1, 1])), "it led before that");
    }

    #[test]
    fn a_leader_that_was_elected_before_anybody_said_so_held_it() {
        let (mut checks, none) = (Completeness::default(), log(&[]));
        assert!(leads(&mut checks, &none, 5, &log(&[1, 4])));
        assert!(commits(&mut checks, &log(&[1]), 1, 3));
        assert!(!commits(&mut checks, &log(&[1, 3]), 2, 3), "it had another entry there");
    }

    #[test]
    fn the_earliest_term_counts() {
        let (mut checks, committed) = (Completeness::default(), log(&[1, 1]));
        assert!(commits(&mut checks, &committed, 2, 9));
        assert!(leads(&mut checks, &committed, 4, &log(&[1])), "perhaps it was committed since");
        assert!(!commits(&mut checks, &committed, 2, 3), "it was committed before");
    }
}
