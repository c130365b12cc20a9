//! The bounds of the table, with limits so small that they are reached, against a naive twin.

use proptest::prelude::*;

use super::*;

const SMALL: SessionLimits = SessionLimits { sessions_max: 3, results_max: 6, pipeline_max: 4 };

fn id(number: u8) -> SessionId {
    SessionId::new([number; 16])
}

fn at(index: u64) -> Position {
    Position { index: Index::new(index), ..Position::ZERO }
}

/// Begins a command and, if it is fresh, finishes it at once.
fn run(table: &mut Sessions, index: u64, session: u8, sequence: u64, acked: u64) -> Verdict {
    let sequence = Sequence::new(sequence);
    let verdict = table.begin(id(session), sequence, Sequence::new(acked), Index::new(index));
    if verdict == Verdict::Fresh {
        let response = Bytes::copy_from_slice(&index.to_be_bytes());
        table.finish(id(session), sequence, at(index), Some(&response));
    }
    verdict
}

fn done(index: u64) -> Verdict {
    let response = Bytes::copy_from_slice(&index.to_be_bytes());
    Verdict::Done(Kept::Response { position: at(index), response })
}

#[test]
fn a_session_is_opened_by_its_first_command_only() {
    let mut table = Sessions::new(SMALL);
    assert_eq!(run(&mut table, 1, 1, 2, 0), Verdict::Expired);
    assert_eq!(run(&mut table, 2, 1, 1, 0), Verdict::Fresh);
    assert_eq!(run(&mut table, 3, 1, 2, 0), Verdict::Fresh);
    assert_eq!(run(&mut table, 4, 1, 1, 0), done(2));
    assert_eq!(table.counts(), (1, 2));
}

#[test]
fn gaps_and_any_order_are_allowed() {
    let mut table = Sessions::new(SMALL);
    for (index, sequence) in [(1, 1), (2, 9), (3, 4), (4, u64::MAX)] {
        assert_eq!(run(&mut table, index, 1, sequence, 0), Verdict::Fresh);
    }
    assert_eq!(run(&mut table, 5, 1, 4, 0), done(3));
}

#[test]
fn acknowledged_results_are_forgotten_and_never_come_back() {
    let mut table = Sessions::new(SMALL);
    run(&mut table, 1, 1, 1, 0);
    run(&mut table, 2, 1, 2, 0);
    assert_eq!(run(&mut table, 3, 1, 3, 3), Verdict::Fresh);
    assert_eq!(run(&mut table, 4, 1, 1, 0), Verdict::Forgotten);
    assert_eq!(run(&mut table, 5, 1, 2, 0), Verdict::Forgotten);
    assert_eq!(run(&mut table, 6, 1, 3, 0), done(3));
    assert_eq!(table.counts(), (1, 1));
}

#[test]
fn an_acknowledgement_beyond_the_command_spares_its_own_result() {
    let mut table = Sessions::new(SMALL);
    run(&mut table, 1, 1, 1, 0);
    assert_eq!(run(&mut table, 2, 1, 2, 99), Verdict::Fresh);
    assert_eq!(run(&mut table, 3, 1, 2, 99), done(2));
    assert_eq!(run(&mut table, 4, 1, 3, 0), Verdict::Fresh);
}

#[test]
fn a_pipeline_that_is_too_deep_is_refused_until_it_is_acknowledged() {
    let mut table = Sessions::new(SMALL);
    for sequence in 1..=4 {
        assert_eq!(run(&mut table, sequence, 1, sequence, 0), Verdict::Fresh);
    }
    assert_eq!(run(&mut table, 5, 1, 5, 0), Verdict::Full);
    assert_eq!(run(&mut table, 6, 1, 2, 0), done(2));
    assert_eq!(run(&mut table, 7, 1, 5, 2), Verdict::Fresh);
    assert_eq!(table.counts(), (1, 4));
}

#[test]
fn the_least_recently_used_session_goes_first() {
    let mut table = Sessions::new(SMALL);
    for session in 1..=3 {
        run(&mut table, u64::from(session), session, 1, 0);
    }
    // A repetition is a use.
    run(&mut table, 4, 1, 1, 0);
    run(&mut table, 5, 4, 1, 0);
    assert_eq!(run(&mut table, 6, 2, 2, 0), Verdict::Expired);
    assert_eq!(run(&mut table, 7, 1, 1, 0), done(1));
    assert_eq!(table.counts(), (3, 3));
}

#[test]
fn results_are_bounded_over_all_sessions() {
    let mut table = Sessions::new(SMALL);
    for (index, session, sequence) in [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 1), (5, 2, 2)] {
        assert_eq!(run(&mut table, index, session, sequence, 0), Verdict::Fresh);
    }
    assert_eq!(run(&mut table, 6, 3, 1, 0), Verdict::Fresh);
    assert_eq!(table.counts(), (3, 6));
    assert_eq!(run(&mut table, 7, 3, 2, 0), Verdict::Fresh);
    assert_eq!(table.counts(), (2, 4), "the first session made room");
    assert_eq!(run(&mut table, 8, 1, 4, 0), Verdict::Expired);
}

#[test]
fn an_evicted_session_takes_no_late_result() {
    let mut table = Sessions::new(SMALL);
    assert_eq!(table.begin(id(1), Sequence::FIRST, Sequence::ZERO, Index::new(1)), Verdict::Fresh);
    for session in 2..=4 {
        run(&mut table, u64::from(session), session, 1, 0);
    }
    table.finish(id(1), Sequence::FIRST, at(1), Some(&Bytes::new()));
    assert_eq!(table.kept(id(1), Sequence::FIRST), None);
    assert_eq!(table.counts(), (3, 3));
}

#[test]
fn a_table_that_breaks_its_invariants_is_not_restored() {
    let record = |number: u8, last_used: u64, sequences: &[u64]| SessionRecord {
        id: id(number),
        acked_below: Sequence::new(2),
        last_used: Index::new(last_used),
        results: sequences
            .iter()
            .map(|sequence| (Sequence::new(*sequence), Kept::Dropped { position: at(1), bytes: 0 }))
            .collect(),
    };
    let thaw = |records| Sessions::thawed(SMALL, records);
    assert!(thaw(vec![record(1, 1, &[2, 3]), record(2, 2, &[2])]).is_some());
    assert!(thaw(vec![record(0, 1, &[])]).is_none(), "no session");
    assert!(thaw(vec![record(1, 1, &[]), record(1, 2, &[])]).is_none(), "twice the same");
    assert!(thaw(vec![record(1, 1, &[]), record(2, 1, &[])]).is_none(), "used at one index");
    assert!(thaw(vec![record(1, 1, &[2, 2])]).is_none(), "one sequence twice");
    assert!(thaw(vec![record(1, 1, &[1])]).is_none(), "acknowledged and kept");
    assert!(thaw(vec![record(1, 1, &[2, 3, 4, 5, 6])]).is_none(), "too deep");
    let too_many = (1..=4).map(|number| record(number, u64::from(number), &[])).collect();
    assert!(thaw(too_many).is_none(), "too many");
}

/// The naive twin: a list in order of use, searched from one end to the other.
#[derive(Default)]
struct Twin {
    sessions: Vec<TwinSession>,
}

/// Its id, what it acknowledged, and each sequence with the index that it was applied at.
type TwinSession = (u8, u64, Vec<(u64, u64)>);

impl Twin {
    fn run(&mut self, index: u64, session: u8, sequence: u64, acked: u64) -> Verdict {
        let found = self.sessions.iter().position(|(id, ..)| *id == session);
        let mut entry = match found {
            Some(found) => self.sessions.remove(found),
            None if sequence == 1 => (session, 1, Vec::new()),
            None => return Verdict::Expired,
        };
        entry.1 = entry.1.max(acked.min(sequence));
        let acked = entry.1;
        entry.2.retain(|(kept, _)| *kept >= acked);
        let kept = entry.2.iter().find(|(kept, _)| *kept == sequence).map(|(_, index)| *index);
        let verdict = match kept {
            _ if sequence < acked => Verdict::Forgotten,
            Some(index) => done(index),
            None if entry.2.len() >= SMALL.pipeline_max => Verdict::Full,
            None => {
                entry.2.push((sequence, index));
                Verdict::Fresh
            }
        };
        self.sessions.push(entry);
        while self.sessions.len() > SMALL.sessions_max || self.results() > SMALL.results_max {
            self.sessions.remove(0);
        }
        verdict
    }

    fn results(&self) -> usize {
        self.sessions.iter().map(|(_, _, results)| results.len()).sum()
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_its_twin(
        commands in prop::collection::vec((1_u8..6, 1_u64..8, 0_u64..8), 1..120),
        restart in 0_usize..120,
    ) {
        let (mut table, mut twin) = (Sessions::new(SMALL), Twin::default());
        for (number, (session, sequence, acked)) in commands.into_iter().enumerate() {
            let index = number as u64 + 1;
            let expected = twin.run(index, session, sequence, acked);
            prop_assert_eq!(run(&mut table, index, session, sequence, acked), expected);
            prop_assert_eq!(table.counts(), (twin.sessions.len(), twin.results()));
            if number == restart {
                let records = table.frozen().records().collect();
                table = Sessions::thawed(SMALL, records).expect("a sound table");
            }
        }
    }

    /// However late results come in, which sessions are evicted is the same.
    #[test]
    fn bounds_do_not_depend_on_when_results_come(
        commands in prop::collection::vec((1_u8..6, 1_u64..8, 0_u64..8), 1..60),
    ) {
        let (mut at_once, mut late) = (Sessions::new(SMALL), Sessions::new(SMALL));
        for (number, (session, sequence, acked)) in commands.into_iter().enumerate() {
            let index = number as u64 + 1;
            let verdict = run(&mut at_once, index, session, sequence, acked);
            let (sequence, acked) = (Sequence::new(sequence), Sequence::new(acked));
            let without = match late.begin(id(session), sequence, acked, Index::new(index)) {
                Verdict::Begun => true,
                other => other == verdict,
            };
            prop_assert!(without, "{:?}", verdict);
            prop_assert_eq!(at_once.counts(), late.counts());
        }
    }
}
