//! Exactly once, whatever is repeated, reordered or cut into batches, and across snapshots
//! (thesis 6.3), against a model that keeps everything for ever.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshraft_consensus::{
    Configuration, Entry, EntryKind, Incarnation, Index, Member, NodeId, Position, Term,
};
use meshraft_service::{
    Applied, ApplyError, CheckError, Command, HaltReason, QueryError, Replicated, RestoreError,
    Sequence, SessionId, SnapshotWriter, StateMachine,
    envelope::{Envelope, USER_VERSION, UserCommand},
    wire::WireError,
};
use proptest::prelude::*;

/// Remembers each command that it ever applied, so that a repetition shows.
#[derive(Default)]
struct Ledger {
    lines: Vec<u8>,
}

const UNKNOWN: u8 = 0xff;

impl StateMachine for Ledger {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        if payload == [UNKNOWN] { Err(CheckError::Kind { kind: 255 }) } else { Ok(()) }
    }

    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let apply = |command: &Command<'_>| {
            self.lines.extend(command.payload);
            self.lines.extend(command.log_time_ms.to_be_bytes());
            Bytes::copy_from_slice(&(self.lines.len() as u64).to_be_bytes())
        };
        commands.iter().map(apply).collect()
    }

    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(self.lines.clone().into())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let lines = self.lines.clone();
        Box::new(move |to| to.write_all(&lines))
    }

    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        self.lines.clear();
        snapshot.read_to_end(&mut self.lines).map(|_| ())
    }
}

fn empty() -> Replicated {
    Replicated::new(Box::new(Ledger::default()))
}

fn position(index: u64) -> Position {
    Position::new(Term::new(1), Index::new(index))
}

fn entry(index: u64, kind: EntryKind, bytes: Bytes) -> Entry {
    Entry { position: position(index), kind, bytes }
}

fn user(index: u64, session: u8, sequence: u64, acked: u64, payload: &[u8]) -> Envelope {
    Envelope::User(UserCommand {
        version: USER_VERSION,
        session: SessionId::new([session; 16]),
        sequence: Sequence::new(sequence),
        acked_below: Sequence::new(acked),
        log_time_ms: index * 10 % 70,
        payload: Bytes::copy_from_slice(payload),
    })
}

fn command(index: u64, session: u8, sequence: u64, acked: u64, payload: &[u8]) -> Entry {
    entry(index, EntryKind::Command, user(index, session, sequence, acked, payload).encode())
}

fn contents(replica: &Replicated) -> Bytes {
    replica.query(&[]).unwrap()
}

fn snapshot(replica: &Replicated) -> Vec<u8> {
    let mut bytes = Vec::new();
    replica.snapshot().1(&mut bytes).unwrap();
    bytes
}

/// What a caller may send: any sequence of a few sessions, in any order, any number of times.
#[derive(Clone, Copy, Debug)]
struct Sent {
    session: u8,
    sequence: u64,
    acked: u64,
}

fn sent() -> impl Strategy<Value = Sent> {
    (0_u8..4, 1_u64..7, 0_u64..7).prop_map(|(session, sequence, acked)| Sent {
        session,
        sequence: if session == 0 { 0 } else { sequence },
        acked: if session == 0 { 0 } else { acked.min(sequence) },
    })
}

fn log(sent: &[Sent]) -> Vec<Entry> {
    let entry = |(at, sent): (usize, &Sent)| {
        let payload = [sent.session, sent.sequence as u8, at as u8];
        command(at as u64 + 1, sent.session, sent.sequence, sent.acked, &payload)
    };
    sent.iter().enumerate().map(entry).collect()
}

/// The naive twin: it never forgets a result, and remembers only what was acknowledged.
#[derive(Default)]
struct Model {
    acked: BTreeMap<u8, u64>,
    first: BTreeMap<(u8, u64), u64>,
}

impl Model {
    /// Where the command takes effect, or why not.
    fn apply(&mut self, at: u64, sent: Sent) -> Result<u64, ApplyError> {
        let Sent { session, sequence, acked } = sent;
        if session == 0 {
            return Ok(at);
        }
        if !self.acked.contains_key(&session) && sequence > 1 {
            return Err(ApplyError::SessionExpired);
        }
        let known = self.acked.entry(session).or_insert(1);
        *known = acked.max(*known);
        if sequence < *known {
            return Err(ApplyError::Forgotten);
        }
        Ok(*self.first.entry((session, sequence)).or_insert(at))
    }
}

proptest! {
    #[test]
    fn nothing_applies_twice(
        sent in prop::collection::vec(sent(), 1..80),
        cuts in prop::collection::vec(1_usize..9, 1..80),
        restart in 0_usize..80,
    ) {
        let (mut model, mut whole, mut cut) = (Model::default(), empty(), empty());
        let log = log(&sent);
        let at_once = whole.apply(log.clone()).unwrap();
        let mut answers: Vec<Applied> = Vec::new();
        let (mut rest, mut cuts) = (log.as_slice(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = later;
            answers.extend(cut.apply(batch.to_vec()).unwrap());
            if answers.len() >= restart {
                // A replica that went on from a snapshot is no different from one that did not.
                let bytes = snapshot(&cut);
                cut = empty();
                cut.restore(&mut bytes.as_slice()).unwrap();
            }
        }
        prop_assert_eq!(&answers, &at_once);
        prop_assert_eq!(contents(&cut), contents(&whole));
        prop_assert_eq!(cut.state_hash(), whole.state_hash());
        prop_assert_eq!(snapshot(&cut), snapshot(&whole));
        let mut responses = BTreeMap::new();
        for (at, (sent, answer)) in sent.iter().zip(&answers).enumerate() {
            let at = at as u64 + 1;
            prop_assert_eq!(answer.position, position(at));
            match model.apply(at, *sent) {
                Ok(effective) => {
                    prop_assert_eq!(answer.effective, position(effective));
                    let response = answer.response.clone().unwrap();
                    let first = responses.entry(effective).or_insert_with(|| response.clone());
                    prop_assert_eq!(&*first, &response);
                }
                Err(error) => prop_assert_eq!(answer.response.clone(), Err(error)),
            }
        }
        let lines = contents(&cut).len();
        prop_assert_eq!(lines, 11 * responses.len(), "each effect stands in the ledger once");
    }
}

/// Restores a damaged snapshot: either that is found, or nothing that replicas compare differs.
fn restore_damaged(replica: &Replicated, good: &[u8], bad: &[u8], what: &str) {
    let mut other = empty();
    if other.restore(&mut &*bad).is_ok() {
        // Kept responses are not compared: the store's checksums guard those.
        assert_eq!(contents(&other), contents(replica), "{what}");
        assert_eq!(other.applied(), replica.applied(), "{what}");
        assert_eq!(other.log_time_ms(), replica.log_time_ms(), "{what}");
        assert_eq!(other.snapshot().0, replica.snapshot().0, "{what}");
        return;
    }
    assert_eq!(other.query(&[]), Err(QueryError::Halted), "{what}");
    let halt = other.apply(vec![command(1, 0, 0, 0, &[1])]).unwrap_err();
    assert_eq!(halt.reason, HaltReason::Restore, "{what}");
    other.restore(&mut &*good).unwrap();
    assert_eq!(snapshot(&other), good, "a good snapshot takes the place of a bad one");
}

#[test]
fn a_damaged_snapshot_is_found() {
    let mut replica = empty();
    let voters =
        [1, 2].map(|number| Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16])));
    let configuration = Configuration::of_voters(voters).encode();
    replica.apply(vec![entry(1, EntryKind::Configuration, configuration)]).unwrap();
    let writes = [(2, 1, 1, 0), (3, 1, 2, 1), (4, 2, 1, 0), (5, 0, 0, 0)];
    for (index, session, sequence, acked) in writes {
        replica.apply(vec![command(index, session, sequence, acked, b"payload")]).unwrap();
    }
    let good = snapshot(&replica);
    for at in 0..good.len() {
        restore_damaged(&replica, &good, &good[..at], &format!("cut at {at}"));
        for flip in [1, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            restore_damaged(&replica, &good, &bad, &format!("bits {flip:#x} of byte {at}"));
        }
    }
}

#[test]
fn a_retry_gets_the_first_answer_also_in_the_same_batch() {
    let mut replica = empty();
    let answers = replica
        .apply(vec![
            command(1, 7, 1, 0, b"x"),
            command(2, 7, 1, 0, b"x"),
            command(3, 7, 2, 2, b"y"),
            command(4, 7, 1, 0, b"x"),
        ])
        .unwrap();
    assert_eq!(answers[1].effective, position(1));
    assert_eq!(answers[1].response, answers[0].response);
    assert_eq!(answers[2].effective, position(3));
    assert_eq!(answers[3].response, Err(ApplyError::Forgotten));
}

#[test]
fn entries_of_other_kinds_only_move_the_applied_position() {
    let mut replica = empty();
    let configuration = Configuration::default().encode();
    let entries = vec![
        entry(1, EntryKind::Configuration, configuration),
        entry(2, EntryKind::Noop, Bytes::new()),
        entry(3, EntryKind::Abandon, Bytes::new()),
    ];
    assert_eq!(replica.apply(entries).unwrap(), vec![]);
    assert_eq!(replica.applied(), position(3));
    assert_eq!(replica.snapshot().0.configuration_index, Index::new(1));
    assert_eq!(replica.snapshot().0.position, position(3));
}

#[test]
fn log_time_never_goes_back() {
    let mut replica = empty();
    for index in 1..=20 {
        let before = replica.log_time_ms();
        replica.apply(vec![command(index, 0, 0, 0, b"x")]).unwrap();
        assert!(replica.log_time_ms() >= before);
    }
    assert_eq!(replica.log_time_ms(), 60);
}

#[test]
fn what_a_replica_does_not_know_halts_it_before_that_entry() {
    let unknown_envelope = entry(3, EntryKind::Command, Bytes::from_static(&[9, 1]));
    let unknown_version = entry(3, EntryKind::Command, Bytes::from_static(&[0, 2]));
    let unknown_command = command(3, 7, 1, 0, &[UNKNOWN]);
    let configuration = entry(3, EntryKind::Configuration, Bytes::from_static(&[9]));
    for (bad, reason) in [
        (unknown_envelope, HaltReason::Envelope(WireError::Kind { kind: 9 })),
        (unknown_version, HaltReason::Envelope(WireError::Version { version: 2 })),
        (unknown_command, HaltReason::Command(CheckError::Kind { kind: 255 })),
        (configuration, HaltReason::Configuration),
    ] {
        let (mut replica, mut twin) = (empty(), empty());
        let good = vec![command(1, 0, 0, 0, b"a"), entry(2, EntryKind::Noop, Bytes::new())];
        let after = command(4, 0, 0, 0, b"b");
        let mut entries = good.clone();
        entries.extend([bad, after]);
        let halt = replica.apply(entries).unwrap_err();
        let applied = twin.apply(good).unwrap();
        assert_eq!((halt.at, halt.reason), (position(3), reason));
        assert_eq!(halt.applied, applied, "what stands before it is applied and answered");
        assert_eq!(replica.applied(), position(2));
        assert_eq!(replica.state_hash(), twin.state_hash());
        assert_eq!(replica.query(&[]), Err(QueryError::Halted));
        assert!(replica.check(&user(3, 0, 0, 0, b"a")).is_err());
        let again = replica.apply(vec![command(3, 0, 0, 0, b"c")]).unwrap_err();
        assert_eq!((again.at, again.reason), (position(3), reason), "it applies nothing any more");
    }
}

/// A machine of another length of mind.
struct Forgetful;

impl StateMachine for Forgetful {
    fn apply(&mut self, _commands: &[Command<'_>]) -> Vec<Bytes> {
        Vec::new()
    }
    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }
    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }
    fn restore(&mut self, _snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_machine_that_answers_too_little_halts_the_replica() {
    let mut replica = Replicated::new(Box::new(Forgetful));
    let halt = replica.apply(vec![command(1, 0, 0, 0, b"a")]).unwrap_err();
    assert_eq!(halt.reason, HaltReason::Responses { commands: 1, responses: 0 });
    assert_eq!((halt.at, replica.applied()), (position(1), Position::ZERO));
}

/// A ledger that is durable up to some index.
struct Durable(Ledger, Index);

impl StateMachine for Durable {
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        self.0.apply(commands)
    }
    fn query(&self, query: &[u8], applied: Index) -> Result<Bytes, QueryError> {
        self.0.query(query, applied)
    }
    fn snapshot(&self) -> SnapshotWriter {
        self.0.snapshot()
    }
    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        self.0.restore(snapshot)
    }
    fn durable_applied(&self) -> Option<Index> {
        Some(self.1)
    }
}

#[test]
fn a_durable_machine_skips_what_it_has() {
    let machine = Durable(Ledger::default(), Index::new(2));
    let mut replica = Replicated::new(Box::new(machine));
    let log =
        [Sent { session: 3, sequence: 1, acked: 0 }, Sent { session: 3, sequence: 2, acked: 0 }];
    let mut entries = crate::once::log(&log);
    entries.push(command(3, 3, 3, 0, b"c"));
    entries.push(command(4, 3, 2, 0, b"b"));
    let answers = replica.apply(entries).unwrap();
    assert_eq!(contents(&replica).len(), 1 + 8, "only the third command was applied");
    assert_eq!(answers[3].effective, position(2));
    assert!(matches!(answers[3].response, Err(ApplyError::ResponseDropped { .. })));
}

#[test]
fn a_response_too_long_to_keep_is_not_applied_again() {
    struct Verbose(u64);
    impl StateMachine for Verbose {
        fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
            self.0 += commands.len() as u64;
            commands.iter().map(|_| Bytes::from(vec![1; 5000])).collect()
        }
        fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
            Ok(Bytes::copy_from_slice(&self.0.to_be_bytes()))
        }
        fn snapshot(&self) -> SnapshotWriter {
            Box::new(|_| Ok(()))
        }
        fn restore(&mut self, _snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut replica = Replicated::new(Box::new(Verbose(0)));
    let answers =
        replica.apply(vec![command(1, 1, 1, 0, b"a"), command(2, 1, 1, 0, b"a")]).unwrap();
    assert_eq!(answers[0].response.as_ref().unwrap().len(), 5000);
    assert_eq!(answers[1].response, Err(ApplyError::ResponseDropped { bytes: 5000 }));
    assert_eq!(replica.query(&[]).unwrap(), 1_u64.to_be_bytes().as_slice());
}

#[test]
fn a_snapshot_of_a_later_format_is_refused_by_name() {
    let mut bytes = snapshot(&empty());
    bytes[0] = 9;
    let error = empty().restore(&mut bytes.as_slice()).unwrap_err();
    assert!(matches!(error, RestoreError::Format { format: 9 }));
}
