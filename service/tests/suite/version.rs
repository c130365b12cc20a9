//! The cluster version in the replicated state: raised by entries, never lowered, carried by
//! snapshots, and what gates commands, against a twin that reads the log as a whole.

use std::io::{self, Read};

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Entry, EntryKind, Index, Position, Term};
use meshraft_service::{
    CheckError, Command, HaltReason, QueryError, Replicated, RestoreError, Sequence, ServiceError,
    SessionId, SnapshotWriter, StateMachine,
    envelope::{Envelope, USER_VERSION, UserCommand},
};
use proptest::prelude::*;

/// A machine of a build that knows commands up to some version: a command is the version that it
/// needs. It counts them.
struct Build {
    knows: u8,
    applied: u64,
}

impl StateMachine for Build {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        match payload {
            [needs] if *needs <= self.knows => Ok(()),
            _ => Err(CheckError::Kind { kind: u32::from(u8::MAX) }),
        }
    }
    fn needs(&self, payload: &[u8]) -> ClusterVersion {
        payload.first().map_or(ClusterVersion::BASELINE, |needs| version(*needs))
    }
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        self.applied += commands.len() as u64;
        vec![Bytes::new(); commands.len()]
    }
    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(Bytes::copy_from_slice(&self.applied.to_be_bytes()))
    }
    fn snapshot(&self) -> SnapshotWriter {
        let applied = self.applied;
        Box::new(move |to| to.write_all(&applied.to_be_bytes()))
    }
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.applied = u64::from_be_bytes(bytes);
        Ok(())
    }
}

fn version(number: u8) -> ClusterVersion {
    ClusterVersion::new(u16::from(number))
}

fn build(supports: u8) -> Replicated {
    let machine = Build { knows: supports, applied: 0 };
    Replicated::new(Box::new(machine)).supporting(version(supports))
}

fn user(needs: u8) -> Envelope {
    Envelope::User(UserCommand {
        version: USER_VERSION,
        session: SessionId::NONE,
        sequence: Sequence::ZERO,
        acked_below: Sequence::ZERO,
        log_time_ms: 0,
        payload: Bytes::copy_from_slice(&[needs]),
    })
}

fn raise(to: u8) -> Envelope {
    Envelope::ClusterVersion(version(to))
}

fn log(commands: &[Envelope]) -> Vec<Entry> {
    let entry = |(at, command): (usize, &Envelope)| Entry {
        position: Position::new(Term::new(1), Index::new(at as u64 + 1)),
        kind: EntryKind::Command,
        bytes: command.encode(),
    };
    commands.iter().enumerate().map(entry).collect()
}

fn snapshot(state: &Replicated) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.snapshot().1(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_empty_log_means_the_baseline() {
    assert_eq!(build(3).version(), ClusterVersion::BASELINE);
    let mut state = build(3);
    state.apply(log(&[user(1)])).unwrap();
    assert_eq!(state.version(), ClusterVersion::BASELINE);
}

#[test]
fn a_command_waits_for_the_version_that_it_needs() {
    let (one, two) = (version(1), version(2));
    let mut state = build(2);
    let refused = Err(ServiceError::NotInForce { needed: two, in_force: one });
    assert_eq!(state.check(&user(2)), refused);
    assert_eq!((state.check(&user(1)), state.check(&raise(2))), (Ok(()), Ok(())));
    state.apply(log(&[raise(2)])).unwrap();
    assert_eq!(state.check(&user(2)), Ok(()));
    let unknown = build(1).check(&user(2)).unwrap_err();
    assert_eq!(unknown.code(), "unsupported", "an old build does not know that it needs more");
}

/// Whether it comes as an entry or in a snapshot, and nothing of it is applied.
#[test]
fn a_build_that_is_too_old_halts_before_it() {
    let (needed, supports) = (version(3), version(2));
    let reason = HaltReason::ClusterVersion { needed, supports };
    let mut state = build(2);
    let halt = state.apply(log(&[user(1), raise(2), raise(3), user(1)])).unwrap_err();
    assert_eq!((halt.at.index, halt.reason), (Index::new(3), reason));
    assert_eq!((state.applied().index, state.version()), (Index::new(2), version(2)));
    assert_eq!(state.check(&user(1)), Err(ServiceError::Halted));

    let mut newer = build(3);
    newer.apply(log(&[user(1), raise(3)])).unwrap();
    let mut state = build(2);
    let error = state.restore(&mut snapshot(&newer).as_slice()).unwrap_err();
    let told = matches!(error, RestoreError::ClusterVersion { needed: n, supports: s }
        if (n, s) == (needed, supports));
    assert!(told, "{error}");
    assert_eq!(state.halted().map(|(_, why)| why), Some(reason));
    assert_eq!(state.applied(), Position::ZERO);
}

#[test]
fn the_version_is_part_of_the_state_hash() {
    let (mut lower, mut higher) = (build(3), build(3));
    lower.apply(log(&[raise(2)])).unwrap();
    higher.apply(log(&[raise(3)])).unwrap();
    assert_ne!(lower.state_hash(), higher.state_hash());
}

fn commands() -> impl Strategy<Value = Vec<Envelope>> {
    let command = prop_oneof![(1_u8..4).prop_map(user), (0_u8..6).prop_map(raise)];
    prop::collection::vec(command, 0..30)
}

proptest! {
    /// The twin looks at the whole log: what is in force is the highest version that was ever
    /// said, and a replica stands before the first that it does not support. Restarts from a
    /// snapshot and the bounds of batches change nothing.
    #[test]
    fn what_is_in_force_is_the_highest_that_was_said(
        commands in commands(), supports in 3_u8..6,
        cuts in prop::collection::vec((0_usize..6, any::<bool>()), 0..12),
    ) {
        let too_new = |it: &Envelope| matches!(it, Envelope::ClusterVersion(to)
            if *to > version(supports));
        let stands = commands.iter().position(too_new).unwrap_or(commands.len());
        let said = commands[..stands].iter().filter_map(|it| match it {
            Envelope::ClusterVersion(to) => Some(*to),
            _ => None,
        });
        let twin = said.fold(ClusterVersion::BASELINE, ClusterVersion::max);

        let (mut state, mut entries) = (build(supports), log(&commands));
        let mut highest = ClusterVersion::BASELINE;
        for (cut, restarts) in cuts.into_iter().chain([(usize::MAX, true)]) {
            let rest = entries.split_off(cut.min(entries.len()));
            let halted = state.apply(std::mem::replace(&mut entries, rest)).is_err();
            prop_assert!(state.version() >= highest, "it went down");
            highest = state.version();
            if halted {
                break;
            }
            if restarts {
                let bytes = snapshot(&state);
                let (before, hash) = (state.version(), state.state_hash());
                state = build(supports);
                state.restore(&mut bytes.as_slice()).unwrap();
                prop_assert_eq!((state.version(), state.state_hash()), (before, hash));
            }
        }
        prop_assert_eq!(state.applied().index.get(), stands as u64);
        prop_assert_eq!(state.version(), twin);
    }
}
