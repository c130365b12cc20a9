//! Dead rows go, mostly dead rows are rewritten, and the file stays as large as what is needed.

use meshraft_consensus::Index;
use meshraft_storage::{GroupId, Job, LogAfterSnapshot, Ticket};

use crate::subject::*;

fn small(group: u64, index: u64) -> meshraft_consensus::Entry {
    command(1, index, vec![group as u8; 100])
}

/// One group writes on and compacts; 50 that wrote once in its first commits stay idle.
#[test]
fn idle_groups_pin_nothing_but_their_own() {
    let mut disk = OnDisk::new();
    let idle = 2..=51_u64;
    disk.commit(vec![create("busy", 1)]);
    for group in idle.clone() {
        let mut once = write(None, vec![small(group, 1)]);
        once.hard = Some(hard(3, Some(2), 0));
        let large = command(1, group - 1, vec![1; 20_000]);
        disk.commit(vec![
            create(&format!("idle {group}"), group),
            log(1, group, once),
            append(2, 1, vec![large]),
        ]);
    }
    let filled = disk.store().usage();
    assert!(filled.stored_bytes > 1_000_000);
    disk.commit(vec![snapshot(1, position(1, 50), LogAfterSnapshot::KeepFrom(Index::new(51)))]);
    for index in 51..=100 {
        disk.commit(vec![append(1, 1, vec![small(1, index)])]);
    }
    let left = disk.store().usage();
    assert!(left.stored_bytes < 60_000, "{left:?} of {filled:?}");
    let opened = disk.reopen();
    assert_eq!(disk.store().usage().stored_bytes, left.stored_bytes);
    for namespace in opened.namespaces.iter().filter(|one| one.namespace.as_str() != "busy") {
        let group = &namespace.groups[0];
        assert_eq!((group.hard, group.last), (hard(3, Some(2), 0), position(1, 1)));
        let found = disk.load(group.group, range(1, 1), 1);
        assert_eq!(found, Ok(vec![small(group.group.get(), 1)]));
    }
}

/// A vote overwritten ten thousand times leaves one row, not ten thousand.
#[test]
fn superseded_state_is_dropped() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1)]);
    for term in 1..=400 {
        let mut vote = write(None, Vec::new());
        vote.hard = Some(hard(term, Some(1), 0));
        disk.commit(vec![log(term, 1, vote)]);
    }
    assert!(disk.store().usage().stored_bytes < 500, "{:?}", disk.store().usage());
    assert_eq!(disk.reopen().namespaces[0].groups[0].hard, hard(400, Some(1), 0));
}

#[test]
fn dropped_group_leaves_nothing() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), create("b", 2)]);
    for index in 1..=40 {
        let entry = command(1, index, vec![3; 50_000]);
        disk.commit(vec![
            append(index, 1, vec![entry.clone()]),
            append(index, 2, vec![small(2, index)]),
        ]);
    }
    let drop_it = Job::Record {
        ticket: Ticket::new(1),
        namespace: namespace("a"),
        record: Vec::new().into(),
        create: None,
        drop: vec![GroupId::new(1)],
    };
    disk.commit(vec![drop_it]);
    for index in 41..=60 {
        disk.commit(vec![append(index, 2, vec![small(2, index)])]);
    }
    let left = disk.store().usage();
    assert!(left.stored_bytes < 20_000, "{left:?}");
    let all: Vec<_> = (1..=60).map(|index| small(2, index)).collect();
    disk.reopen();
    assert_eq!(disk.load(GroupId::new(2), range(1, 60), u64::MAX), Ok(all));
}

/// The file does not grow with the number of appends when the log is kept short.
#[test]
fn file_stays_small_under_steady_compaction() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1)]);
    let mut sizes = Vec::new();
    for round in 0..40_u64 {
        for batch in 0..5 {
            let first = round * 500 + batch * 100 + 1;
            let entries = (first..first + 100).map(|index| small(1, index)).collect();
            disk.commit(vec![append(first, 1, entries)]);
        }
        let covered = round * 500 + 400;
        let keep = LogAfterSnapshot::KeepFrom(Index::new(covered + 1));
        disk.commit(vec![snapshot(1, position(1, covered), keep)]);
        sizes.push(disk.file_bytes());
    }
    assert!(sizes[39] <= sizes[9], "the file grew from round to round: {sizes:?}");
}
