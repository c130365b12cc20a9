//! A snapshot is fetched while other writes are outstanding: whatever the disk has done of them
//! when the power fails, what it holds is a log that follows on a snapshot, and nothing was claimed
//! that it does not hold.

use bytes::Bytes;
use meshraft_consensus::{
    AppendRequest, Configuration, Entry, EntryKind, HardState, Index, Input, LogAfterSnapshot,
    Message, Position, SnapshotMeta, SnapshotOffer, Term, Write,
};

use crate::{
    cluster::{Cluster, Disk, member},
    disk::File,
};

fn at(index: u64, term: u64) -> Position {
    Position::new(Term::new(term), Index::new(index))
}

fn command(index: u64, term: u64) -> Entry {
    let bytes = Bytes::from(format!("{index}@{term}"));
    Entry { position: at(index, term), kind: EntryKind::Command, bytes }
}

fn meta(position: Position) -> SnapshotMeta {
    let configuration = Configuration::of_voters((1..=3).map(member));
    SnapshotMeta { position, configuration, configuration_index: Index::new(1) }
}

/// Member 2 of three, whose log ends in six entries, the last four of a leader that is gone.
fn follower() -> Cluster {
    let mut cluster = Cluster::new(3);
    (1..=3).for_each(|number| cluster.crash(member(number)));
    let node = cluster.node(member(2));
    let first = node.disk.entries[0].clone();
    let entries = (2..=6).map(|index| command(index, 2));
    let hard = HardState { term: Term::new(2), vote: None, commit_hint: Index::new(2) };
    let entries = std::iter::once(first).chain(entries).collect();
    node.disk = Disk { hard, entries, ..Disk::default() };
    cluster.start(member(2));
    cluster
}

/// The leader of term 3 replaces everything from slot 3 on, up to `last`.
fn append(last: u64) -> Input {
    let message = Message::AppendRequest(AppendRequest {
        term: Term::new(3),
        sequence: 1,
        previous: at(2, 2),
        commit: Index::new(2),
        entries: (3..=last).map(|index| command(index, 3)).collect(),
    });
    Input::Receive { from: member(1), message }
}

/// The leader offers what is fetched at once.
fn install(cluster: &mut Cluster, position: Position) {
    let offer = SnapshotOffer { term: Term::new(3), meta: Box::new(meta(position)) };
    let message = Message::SnapshotOffer(offer);
    cluster.input_only(member(2), Input::Receive { from: member(1), message });
    let file = File { meta: meta(position), state: 0 };
    cluster.node(member(2)).disk.files.insert(position.index, file);
    cluster.input(member(2), Input::SnapshotFetched { position, result: Ok(()) });
}

fn writes(cluster: &mut Cluster) -> Vec<Write> {
    cluster.node(member(2)).writes.iter().cloned().collect()
}

fn positions(entries: &[Entry]) -> Vec<Position> {
    entries.iter().map(|entry| entry.position).collect()
}

/// Restarts the member after each number of its outstanding writes, and checks what it is then.
fn check_crashes(cluster: &mut Cluster, covered: Position, last: Position) {
    let disk = cluster.node(member(2)).disk.clone();
    let outstanding = writes(cluster);
    for done in 0..=outstanding.len() {
        cluster.crash(member(2));
        let mut disk = disk.clone();
        outstanding[..done].iter().for_each(|write| disk.write(write));
        cluster.node(member(2)).disk = disk;
        cluster.forget_history();
        cluster.start(member(2));
        let status = cluster.core(2).status();
        if done == outstanding.len() {
            assert_eq!((status.snapshot, status.last), (covered.index, last));
            assert_eq!(status.commit, covered.index);
        } else {
            assert_eq!(status.snapshot, Index::ZERO, "all of the old, or all of the new");
        }
    }
}

#[test]
fn what_a_snapshot_covers_is_not_written_any_more() {
    let mut cluster = follower();
    cluster.input_only(member(2), append(5));
    install(&mut cluster, at(4, 3));
    let [write] = &writes(&mut cluster)[..] else { panic!("one write") };
    let snapshot = write.snapshot().unwrap();
    assert_eq!(snapshot.meta.position, at(4, 3));
    assert_eq!(snapshot.log, LogAfterSnapshot::KeepFrom(Index::new(5)));
    assert_eq!(write.truncate_from(), Some(Index::new(5)), "older entries of those slots go");
    assert_eq!(positions(&write.append), [at(5, 3)]);
    check_crashes(&mut cluster, at(4, 3), at(5, 3));
}

#[test]
fn a_snapshot_may_cover_all_that_is_unwritten() {
    let mut cluster = follower();
    cluster.input_only(member(2), append(4));
    install(&mut cluster, at(4, 3));
    check_crashes(&mut cluster, at(4, 3), at(4, 3));
}

#[test]
fn a_snapshot_follows_on_writes_that_are_outstanding() {
    let mut cluster = follower();
    cluster.node(member(2)).stalled = true;
    cluster.input(member(2), append(5));
    install(&mut cluster, at(4, 3));
    let [older, newer] = &writes(&mut cluster)[..] else { panic!("two writes") };
    assert_eq!(older.truncate_from(), Some(Index::new(3)));
    assert_eq!((newer.truncate_from(), newer.append.len()), (None, 0));
    check_crashes(&mut cluster, at(4, 3), at(5, 3));
}

#[test]
fn a_snapshot_replaces_what_is_outstanding() {
    for drained in [true, false] {
        let mut cluster = follower();
        cluster.node(member(2)).stalled = true;
        cluster.input_only(member(2), append(5));
        if drained {
            cluster.drain(member(2));
        }
        install(&mut cluster, at(9, 3));
        let last = writes(&mut cluster).pop().unwrap();
        let log = last.snapshot().map(|snapshot| snapshot.log);
        assert_eq!(log, Some(LogAfterSnapshot::Replace));
        assert_eq!((last.truncate_from(), last.append.len()), (None, 0));
        check_crashes(&mut cluster, at(9, 3), at(9, 3));
    }
}

/// An older write completes after the install: it vouches for nothing beyond what was committed.
#[test]
fn a_late_completion_vouches_for_nothing_that_is_replaced() {
    let mut cluster = follower();
    cluster.node(member(2)).stalled = true;
    cluster.input(member(2), append(5));
    install(&mut cluster, at(9, 3));
    let entries = vec![command(10, 3)];
    let message = Message::AppendRequest(AppendRequest {
        term: Term::new(3),
        sequence: 2,
        previous: at(9, 3),
        commit: Index::new(10),
        entries,
    });
    cluster.input(member(2), Input::Receive { from: member(1), message });
    let answers = |cluster: &Cluster| {
        let matched = cluster.packets.iter().filter_map(|packet| match &packet.message {
            Message::AppendResponse(response) => Some(response.result),
            _ => None,
        });
        matched.collect::<Vec<_>>()
    };
    // The claims of each message are checked against the disk when it leaves.
    let mut heard = Vec::new();
    while cluster.persist(member(2)).is_some() {
        heard.push(answers(&cluster).len());
    }
    assert_eq!(heard, [1, 1, 2], "one answer a write that it rests on");
    assert_eq!(cluster.core(2).status().applied, Index::new(2), "nothing is applied meanwhile");
    cluster.transfer(member(2));
    assert_eq!(cluster.core(2).status().applied, Index::new(10));
}

/// A configuration that was in force, and is in no log any more, is forgotten with its entry.
#[test]
fn a_configuration_that_a_snapshot_replaces_is_forgotten() {
    let mut cluster = follower();
    let bytes = Configuration::of_voters((1..=4).map(member)).encode();
    let message = Message::AppendRequest(AppendRequest {
        term: Term::new(3),
        sequence: 1,
        previous: at(6, 2),
        commit: Index::new(2),
        entries: vec![Entry { position: at(7, 3), kind: EntryKind::Configuration, bytes }],
    });
    cluster.input(member(2), Input::Receive { from: member(1), message });
    assert!(cluster.core(2).configuration().contains(&member(4)));
    let offer = SnapshotOffer { term: Term::new(4), meta: Box::new(meta(at(9, 4))) };
    let message = Message::SnapshotOffer(offer);
    cluster.input(member(2), Input::Receive { from: member(3), message });
    let (position, file) = (at(9, 4), File { meta: meta(at(9, 4)), state: 0 });
    cluster.node(member(2)).disk.files.insert(position.index, file);
    cluster.input(member(2), Input::SnapshotFetched { position, result: Ok(()) });
    assert_eq!(*cluster.core(2).configuration(), meta(position).configuration);
    while cluster.persist(member(2)).is_some() {}
    cluster.crash(member(2));
    cluster.start(member(2));
    assert_eq!(*cluster.core(2).configuration(), meta(position).configuration);
}
