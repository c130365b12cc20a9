//! What every store promises, run against the real one and the one in memory.

use bytes::Bytes;
use meshraft_consensus::{Entry, Index, LoadError};
use meshraft_storage::{GroupId, Job, LogAfterSnapshot, MemoryStore, Ticket};

use crate::subject::*;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(&mut super::MemoryStore::default());
            })*
        }
        mod disk {
            $(#[test]
            fn $name() {
                super::$name(&mut super::OnDisk::new());
            })*
        }
    };
}

contract!(
    new_store_is_empty,
    record_is_replaced_and_groups_are_listed,
    group_numbers_are_never_used_again,
    record_and_first_entry_are_written_together,
    log_comes_back_as_written,
    truncation_takes_the_suffix_and_keeps_the_rest,
    truncation_alone_shortens_the_log,
    stale_tail_does_not_come_back,
    hard_state_is_the_newest,
    configurations_are_found_and_rolled_back,
    large_entries_come_back,
    load_stops_at_the_bound_but_gives_one,
    load_names_why_it_gives_nothing,
    many_groups_share_a_commit,
    jobs_of_a_dropped_group_are_ignored,
    group_is_created_written_and_dropped_in_one_batch,
    snapshot_drops_what_it_covers,
    snapshot_replaces_a_log_that_conflicts,
    snapshot_ahead_of_the_log_replaces_it,
    older_snapshot_is_ignored,
    snapshot_comes_before_the_rest_of_its_write,
    older_snapshot_takes_nothing_of_its_write_along,
    namespace_is_found_as_an_open_finds_it,
);

fn entries(term: u64, first: u64, last: u64) -> Vec<Entry> {
    (first..=last).map(|index| command(term, index, format!("{index}@{term}"))).collect()
}

fn all(subject: &impl Subject, group: u64) -> Result<Vec<Entry>, LoadError> {
    subject.load(GroupId::new(group), range(1, u64::MAX), u64::MAX)
}

fn new_store_is_empty(subject: &mut impl Subject) {
    let opened = subject.reopen();
    assert_eq!(opened.next_group, GroupId::new(1));
    assert!(opened.namespaces.is_empty());
    assert_eq!(all(subject, 1), Err(LoadError::Truncated));
}

fn record_is_replaced_and_groups_are_listed(subject: &mut impl Subject) {
    subject.commit(vec![create("b", 1), create("a", 2)]);
    let replacement = Job::Record {
        ticket: Ticket::new(9),
        namespace: namespace("a"),
        record: Bytes::from(vec![7; Job::RECORD_BYTES_MAX]),
        create: None,
        drop: Vec::new(),
    };
    subject.commit(vec![replacement]);
    let opened = subject.reopen();
    let names: Vec<&str> = opened.namespaces.iter().map(|one| one.namespace.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(opened.namespaces[0].record, vec![7; Job::RECORD_BYTES_MAX]);
    assert_eq!(opened.namespaces[1].record, "record of b");
    let group = &opened.namespaces[0].groups[0];
    assert_eq!(group.group, GroupId::new(2));
    assert_eq!(group.cluster.as_bytes(), &[2; 32]);
    assert_eq!((group.last, group.damage), (position(0, 0), None));
}

fn group_numbers_are_never_used_again(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), create("a", 5)]);
    let drop_both = Job::Record {
        ticket: Ticket::new(1),
        namespace: namespace("a"),
        record: Bytes::new(),
        create: None,
        drop: vec![GroupId::new(5), GroupId::new(1), GroupId::new(77)],
    };
    subject.commit(vec![drop_both]);
    let opened = subject.reopen();
    assert_eq!(opened.next_group, GroupId::new(6));
    assert!(opened.namespaces[0].groups.is_empty());
}

fn record_and_first_entry_are_written_together(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1)]);
    let enter = Job::Enter {
        ticket: Ticket::new(2),
        namespace: namespace("a"),
        record: Bytes::from_static(b"entered"),
        group: GroupId::new(1),
        write: write(None, entries(3, 1, 2)),
    };
    subject.commit(vec![enter, append(3, 1, entries(3, 3, 3))]);
    assert_eq!(all(subject, 1), Ok(entries(3, 1, 3)));
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].record, "entered");
    let group = &opened.namespaces[0].groups[0];
    assert_eq!((group.cluster.as_bytes(), group.last), (&[1; 32], position(3, 3)));
    assert_eq!(all(subject, 1), Ok(entries(3, 1, 3)));
}

fn log_comes_back_as_written(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1)]);
    subject.commit(vec![append(2, 1, entries(1, 1, 3))]);
    subject.commit(vec![append(3, 1, entries(4, 4, 4)), append(4, 1, entries(4, 5, 6))]);
    let expected: Vec<Entry> = [entries(1, 1, 3), entries(4, 4, 6)].concat();
    assert_eq!(all(subject, 1), Ok(expected.clone()));
    let opened = subject.reopen();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!(group.terms, [position(1, 1), position(4, 4)]);
    assert_eq!(group.last, position(4, 6));
    assert_eq!(all(subject, 1), Ok(expected));
    assert_eq!(subject.load(GroupId::new(1), range(5, 5), 1000), Ok(entries(4, 5, 5)));
}

fn truncation_takes_the_suffix_and_keeps_the_rest(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(2, 1, entries(1, 1, 9))]);
    subject.commit(vec![log(3, 1, write(Some(4), entries(2, 4, 5)))]);
    let expected = [entries(1, 1, 3), entries(2, 4, 5)].concat();
    assert_eq!(all(subject, 1), Ok(expected.clone()));
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].groups[0].last, position(2, 5));
    assert_eq!(opened.namespaces[0].groups[0].terms, [position(1, 1), position(2, 4)]);
    assert_eq!(all(subject, 1), Ok(expected));
}

fn truncation_alone_shortens_the_log(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(2, 1, entries(1, 1, 9))]);
    subject.commit(vec![log(3, 1, write(Some(1), Vec::new()))]);
    assert_eq!(all(subject, 1), Err(LoadError::Truncated));
    let opened = subject.reopen();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!((group.last, group.terms.len()), (position(0, 0), 0));
    subject.commit(vec![append(4, 1, entries(3, 1, 2))]);
    subject.reopen();
    assert_eq!(all(subject, 1), Ok(entries(3, 1, 2)));
}

/// Entries beyond a truncation must stay dead although they are still in the file, also when the
/// log grows past them again.
fn stale_tail_does_not_come_back(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(2, 1, entries(1, 1, 8))]);
    subject.commit(vec![log(3, 1, write(Some(3), entries(2, 3, 3)))]);
    subject.reopen();
    assert_eq!(all(subject, 1), Ok([entries(1, 1, 2), entries(2, 3, 3)].concat()));
    subject.commit(vec![append(4, 1, entries(2, 4, 6))]);
    subject.reopen();
    assert_eq!(all(subject, 1), Ok([entries(1, 1, 2), entries(2, 3, 6)].concat()));
}

fn hard_state_is_the_newest(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1)]);
    let write_hard = |state| {
        let mut one = write(None, Vec::new());
        one.hard = Some(state);
        one
    };
    subject.commit(vec![log(1, 1, write_hard(hard(3, Some(2), 0)))]);
    subject.commit(vec![
        log(2, 1, write_hard(hard(4, Some(1), 7))),
        log(3, 1, write_hard(hard(5, None, 8))),
    ]);
    assert_eq!(subject.reopen().namespaces[0].groups[0].hard, hard(5, None, 8));
    subject.commit(vec![append(4, 1, entries(5, 1, 1))]);
    assert_eq!(subject.reopen().namespaces[0].groups[0].hard, hard(5, None, 8));
    subject.commit(vec![log(5, 1, write_hard(hard(6, Some(9), 8)))]);
    assert_eq!(subject.reopen().namespaces[0].groups[0].hard, hard(6, Some(9), 8));
}

fn configurations_are_found_and_rolled_back(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1)]);
    subject.commit(vec![append(
        1,
        1,
        vec![
            configuration_entry(1, 1, &[1, 2, 3]),
            command(1, 2, "x"),
            configuration_entry(1, 3, &[1, 2]),
        ],
    )]);
    let both =
        [(Index::new(1), configuration(&[1, 2, 3])), (Index::new(3), configuration(&[1, 2]))];
    assert_eq!(subject.reopen().namespaces[0].groups[0].configurations, both);
    subject.commit(vec![log(2, 1, write(Some(3), vec![command(2, 3, "y")]))]);
    assert_eq!(subject.reopen().namespaces[0].groups[0].configurations, both[..1]);
}

fn large_entries_come_back(subject: &mut impl Subject) {
    let lengths = [32 * 1024, 32 * 1024 + 1, 65_280, 65_281, 1 << 20, 0, 3];
    let large: Vec<Entry> = (1..)
        .zip(lengths)
        .map(|(index, length)| command(1, index, vec![index as u8; length]))
        .collect();
    subject.commit(vec![create("a", 1), append(1, 1, large.clone())]);
    assert_eq!(all(subject, 1), Ok(large.clone()));
    subject.reopen();
    assert_eq!(all(subject, 1), Ok(large.clone()));
    subject.commit(vec![log(2, 1, write(Some(5), vec![command(2, 5, vec![9; 200_000])]))]);
    subject.commit(vec![log(3, 1, write(None, Vec::new()))]);
    subject.reopen();
    let expected = [&large[..4], &[command(2, 5, vec![9; 200_000])]].concat();
    assert_eq!(all(subject, 1), Ok(expected));
}

fn load_stops_at_the_bound_but_gives_one(subject: &mut impl Subject) {
    let ten = |index| command(1, index, vec![1; 10]);
    subject.commit(vec![create("a", 1), append(1, 1, vec![ten(1), ten(2), ten(3)])]);
    let cost = ten(1).cost_bytes();
    let load = |bytes_max| subject.load(GroupId::new(1), range(1, 3), bytes_max).unwrap().len();
    let expected = [(0, 1), (cost, 1), (2 * cost - 1, 1), (2 * cost, 2), (3 * cost, 3)];
    for (bytes_max, count) in expected {
        assert_eq!(load(bytes_max), count, "{bytes_max} bytes");
    }
}

fn load_names_why_it_gives_nothing(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 5))]);
    subject.commit(vec![snapshot(1, position(1, 3), LogAfterSnapshot::KeepFrom(Index::new(3)))]);
    let load = |first, last| subject.load(GroupId::new(1), range(first, last), 1 << 20);
    assert_eq!(load(2, 5), Err(LoadError::Compacted));
    assert_eq!(load(6, 9), Err(LoadError::Truncated));
    assert_eq!(load(3, 9), Ok(entries(1, 3, 5)));
    assert_eq!(load(4, 3), Ok(Vec::new()));
    assert_eq!(subject.load(GroupId::new(2), range(1, 1), 1), Err(LoadError::Truncated));
}

fn many_groups_share_a_commit(subject: &mut impl Subject) {
    let groups = 1..=256;
    subject.commit(groups.clone().map(|group| create(&format!("n{group}"), group)).collect());
    for index in 1..=3 {
        let jobs = groups.clone().map(|group| {
            append(group, group, vec![command(group, index, format!("{index} of {group}"))])
        });
        subject.commit(jobs.collect());
    }
    let opened = subject.reopen();
    assert_eq!(opened.namespaces.len(), 256);
    for group in groups {
        let entries = all(subject, group).unwrap();
        assert_eq!(entries[2], command(group, 3, format!("3 of {group}")));
    }
}

fn jobs_of_a_dropped_group_are_ignored(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 2)), create("a", 2)]);
    let drop_first = Job::Record {
        ticket: Ticket::new(3),
        namespace: namespace("a"),
        record: Bytes::new(),
        create: None,
        drop: vec![GroupId::new(1)],
    };
    subject.commit(vec![
        drop_first,
        append(4, 1, entries(1, 3, 3)),
        snapshot(1, position(1, 2), LogAfterSnapshot::Replace),
        append(5, 2, entries(1, 1, 1)),
    ]);
    subject.commit(vec![append(6, 1, entries(7, 70, 71))]);
    assert_eq!(all(subject, 1), Err(LoadError::Truncated));
    let opened = subject.reopen();
    let groups: Vec<GroupId> =
        opened.namespaces[0].groups.iter().map(|group| group.group).collect();
    assert_eq!(groups, [GroupId::new(2)]);
    assert_eq!(all(subject, 2), Ok(entries(1, 1, 1)));
}

fn group_is_created_written_and_dropped_in_one_batch(subject: &mut impl Subject) {
    let drop_it = Job::Record {
        ticket: Ticket::new(3),
        namespace: namespace("a"),
        record: Bytes::from_static(b"after"),
        create: Some((GroupId::new(2), meshraft_consensus::ClusterId::new([2; 32]))),
        drop: vec![GroupId::new(1)],
    };
    subject.commit(vec![
        create("a", 1),
        append(1, 1, entries(1, 1, 2)),
        drop_it,
        append(4, 2, entries(5, 1, 4)),
    ]);
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].record, "after");
    assert_eq!(opened.namespaces[0].groups.len(), 1);
    assert_eq!(all(subject, 2), Ok(entries(5, 1, 4)));
}

fn snapshot_drops_what_it_covers(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 4))]);
    subject.commit(vec![append(2, 1, entries(2, 5, 9))]);
    subject.commit(vec![snapshot(1, position(2, 6), LogAfterSnapshot::KeepFrom(Index::new(6)))]);
    let opened = subject.reopen();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!(group.snapshot.as_ref().unwrap().position, position(2, 6));
    assert_eq!(group.snapshot.as_ref().unwrap().configuration, configuration(&[1, 2, 3]));
    assert_eq!((group.terms.as_slice(), group.last), (&[position(2, 6)][..], position(2, 9)));
    assert_eq!(subject.load(GroupId::new(1), range(6, 9), 999), Ok(entries(2, 6, 9)));
    // All of it covered: the log is empty, and goes on after the snapshot.
    subject.commit(vec![snapshot(1, position(2, 9), LogAfterSnapshot::KeepFrom(Index::new(99)))]);
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].groups[0].last, position(2, 9));
    assert!(opened.namespaces[0].groups[0].terms.is_empty());
    subject.commit(vec![append(3, 1, entries(3, 10, 11))]);
    subject.reopen();
    assert_eq!(subject.load(GroupId::new(1), range(10, 11), 999), Ok(entries(3, 10, 11)));
}

fn snapshot_replaces_a_log_that_conflicts(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 9))]);
    subject.commit(vec![
        snapshot(1, position(4, 5), LogAfterSnapshot::Replace),
        append(2, 1, entries(4, 6, 7)),
    ]);
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].groups[0].last, position(4, 7));
    assert_eq!(opened.namespaces[0].groups[0].terms, [position(4, 6)]);
    assert_eq!(subject.load(GroupId::new(1), range(6, 9), 999), Ok(entries(4, 6, 7)));
    assert_eq!(subject.load(GroupId::new(1), range(5, 9), 999), Err(LoadError::Compacted));
}

fn snapshot_ahead_of_the_log_replaces_it(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 3))]);
    subject.commit(vec![snapshot(1, position(2, 50), LogAfterSnapshot::KeepFrom(Index::new(2)))]);
    subject.commit(vec![append(2, 1, entries(2, 51, 51))]);
    let opened = subject.reopen();
    assert_eq!(opened.namespaces[0].groups[0].last, position(2, 51));
    assert_eq!(subject.load(GroupId::new(1), range(51, 60), 999), Ok(entries(2, 51, 51)));
}

fn older_snapshot_is_ignored(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 9))]);
    subject.commit(vec![snapshot(1, position(1, 8), LogAfterSnapshot::KeepFrom(Index::new(5)))]);
    let before = subject.reopen();
    subject.commit(vec![snapshot(1, position(1, 7), LogAfterSnapshot::Replace)]);
    assert_eq!(subject.reopen(), before);
}

/// Installed, and followed at once by what the leader sent since: one write, one transaction.
fn snapshot_comes_before_the_rest_of_its_write(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 9))]);
    let install = write(Some(6), entries(4, 6, 7));
    let mut install = with_snapshot(position(4, 5), LogAfterSnapshot::Replace, install);
    install.hard = Some(hard(4, None, 5));
    subject.commit(vec![log(2, 1, install)]);
    let opened = subject.reopen();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!(group.snapshot.as_ref().unwrap().position, position(4, 5));
    assert_eq!((group.last, group.hard), (position(4, 7), hard(4, None, 5)));
    assert_eq!(subject.load(GroupId::new(1), range(6, 99), 999), Ok(entries(4, 6, 7)));
    let compact = write(Some(7), entries(5, 7, 8));
    let keep = LogAfterSnapshot::KeepFrom(Index::new(7));
    subject.commit(vec![log(3, 1, with_snapshot(position(4, 6), keep, compact))]);
    assert_eq!(subject.load(GroupId::new(1), range(6, 6), 999), Err(LoadError::Compacted));
    subject.reopen();
    assert_eq!(subject.load(GroupId::new(1), range(6, 6), 999), Err(LoadError::Compacted));
    assert_eq!(subject.load(GroupId::new(1), range(7, 99), 999), Ok(entries(5, 7, 8)));
}

fn older_snapshot_takes_nothing_of_its_write_along(subject: &mut impl Subject) {
    subject.commit(vec![create("a", 1), append(1, 1, entries(1, 1, 9))]);
    subject.commit(vec![snapshot(1, position(1, 8), LogAfterSnapshot::KeepFrom(Index::new(5)))]);
    let late = write(None, entries(1, 10, 11));
    let late = with_snapshot(position(1, 7), LogAfterSnapshot::Replace, late);
    subject.commit(vec![log(2, 1, late)]);
    let opened = subject.reopen();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!(group.snapshot.as_ref().unwrap().position, position(1, 8));
    assert_eq!(all(subject, 1), Err(LoadError::Compacted));
    assert_eq!(subject.load(GroupId::new(1), range(5, 99), 999), Ok(entries(1, 5, 11)));
}

fn namespace_is_found_as_an_open_finds_it(subject: &mut impl Subject) {
    assert_eq!(subject.found(&namespace("a")), None);
    subject.commit(vec![create("a", 1), create("b", 2), create("a", 3)]);
    let with_configurations = vec![
        configuration_entry(1, 1, &[1, 2, 3]),
        command(1, 2, vec![2; 90_000]),
        configuration_entry(2, 3, &[1, 2]),
        configuration_entry(2, 4, &[1]),
    ];
    subject.commit(vec![append(4, 1, with_configurations.clone()), append(5, 3, entries(7, 1, 9))]);
    let mut voted = write(Some(4), vec![command(3, 4, "x")]);
    voted.hard = Some(hard(3, Some(2), 1));
    let keep = LogAfterSnapshot::KeepFrom(Index::new(2));
    subject.commit(vec![log(6, 1, with_snapshot(position(1, 2), keep, voted))]);
    subject.commit(vec![append(7, 2, with_configurations)]);
    let found = ["a", "b", "c"].map(|name| subject.found(&namespace(name)));
    let opened = subject.reopen();
    assert_eq!(
        found,
        [Some(opened.namespaces[0].clone()), Some(opened.namespaces[1].clone()), None]
    );
    assert_eq!(
        opened.namespaces[0].groups[0].configurations,
        [(Index::new(3), configuration(&[1, 2]))]
    );
    assert_eq!(opened.namespaces[0].groups[0].hard, hard(3, Some(2), 1));
    let again = ["a", "b", "c"].map(|name| subject.found(&namespace(name)));
    assert_eq!(again, found);
}
