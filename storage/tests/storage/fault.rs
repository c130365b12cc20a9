//! A disk that fails while the store runs: one failure is told, and nothing is acknowledged after.

use std::sync::mpsc::{self, Receiver};

use meshraft_consensus::{Index, LoadError};
use meshraft_storage::{Ack, GroupId, Job, OpenError, Store, StoreOptions, WriteError};

use crate::{
    disk::{Disk, Fault},
    subject::*,
};

fn open(disk: &Disk) -> (Store, Receiver<Ack>) {
    let (sender, acks) = mpsc::channel();
    let acknowledge = move |ack| drop(sender.send(ack));
    let store = Store::open_on(disk.clone(), StoreOptions::default(), acknowledge).unwrap().0;
    (store, acks)
}

fn commit(store: &Store, acks: &Receiver<Ack>, jobs: Vec<Job>) -> Ack {
    store.submit(jobs);
    acks.recv_timeout(PATIENCE).unwrap()
}

/// Submits after a failure must stay unanswered: the channel ends when the store goes.
fn assert_silent(store: Store, acks: &Receiver<Ack>) {
    store.submit(vec![append(90, 1, vec![command(1, 2, "late")])]);
    store.close();
    assert_eq!(acks.recv(), Err(mpsc::RecvError));
}

#[test]
fn failed_synchronisation_ends_all_acknowledgements() {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    let first = vec![create("a", 1), append(1, 1, vec![command(1, 1, "kept")])];
    assert!(matches!(commit(&store, &acks, first), Ack::Durable(_)));
    disk.set_fault(Some(Fault::SynchroniseOnce));
    let failed = commit(&store, &acks, vec![append(2, 1, vec![command(1, 2, "unknown")])]);
    assert!(
        matches!(failed, Ack::Failed(WriteError::Io { code: Some(5), .. })),
        "an EIO is told as such: {failed:?}"
    );
    // The disk is well again, but what it lost nobody knows.
    assert_silent(store, &acks);
    let (store, _acks) = open(&Disk::holding(disk.live()));
    let kept = store.load(GroupId::new(1), range(1, 1), 99);
    assert_eq!(kept, Ok(vec![command(1, 1, "kept")]));
}

#[test]
fn full_disk_is_told_apart() {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    assert!(matches!(commit(&store, &acks, vec![create("a", 1)]), Ack::Durable(_)));
    disk.set_fault(Some(Fault::Full));
    let failed = commit(&store, &acks, vec![append(2, 1, vec![command(1, 1, "x")])]);
    assert_eq!(failed, Ack::Failed(WriteError::Full));
    assert_silent(store, &acks);
    // Nothing of it is there afterwards, and the same again fails the same way.
    let disk = Disk::holding(disk.live());
    let (store, acks) = open(&disk);
    disk.set_fault(Some(Fault::Full));
    let failed = commit(&store, &acks, vec![append(2, 1, vec![command(1, 1, "x")])]);
    assert_eq!(failed, Ack::Failed(WriteError::Full));
}

#[test]
fn broken_promises_of_the_driver_are_told() {
    let gap = vec![create("a", 1), append(1, 1, vec![command(1, 2, "x")])];
    let expected =
        WriteError::Gap { group: GroupId::new(1), expected: Index::new(1), found: Index::new(2) };
    refused(gap, expected);
    let reused = WriteError::GroupReused { group: GroupId::new(1), next: GroupId::new(3) };
    refused(vec![create("a", 2), create("b", 1)], reused);
    let mut large = create("a", 1);
    if let Job::Record { record, .. } = &mut large {
        *record = vec![0; Job::RECORD_BYTES_MAX + 1].into();
    }
    refused(vec![large], WriteError::RecordTooLarge { bytes: Job::RECORD_BYTES_MAX + 1 });
}

/// All of a batch is refused, and nothing of it is there afterwards.
fn refused(jobs: Vec<Job>, expected: WriteError) {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    assert_eq!(commit(&store, &acks, jobs), Ack::Failed(expected));
    assert_silent(store, &acks);
    let opened = Store::open_on(disk, StoreOptions::default(), |_| {}).unwrap().1;
    assert!(opened.namespaces.is_empty());
}

#[test]
fn unreadable_disk_fails_loads_and_says_so() {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    let first = vec![create("a", 1), append(1, 1, vec![command(1, 1, vec![1; 90_000])])];
    assert!(matches!(commit(&store, &acks, first), Ack::Durable(_)));
    store.close();
    let options = StoreOptions { cache_bytes: 0, ..StoreOptions::default() };
    let (store, _) = Store::open_on(Disk::holding(disk.live()), options, |_| {}).unwrap();
    assert!(store.load(GroupId::new(1), range(1, 1), 1).is_ok());
    store.close();
    let disk = Disk::holding(disk.live());
    let (store, _) = Store::open_on(disk.clone(), options, |_| {}).unwrap();
    disk.set_fault(Some(Fault::Unreadable));
    assert_eq!(store.load(GroupId::new(1), range(1, 1), 1), Err(LoadError::Failed));
}

/// A configuration that rots while the store is open is damage when its namespace is found again,
/// as it is for an open, and the store goes on.
#[test]
fn rotten_configuration_is_found_as_damage() {
    let options = StoreOptions { cache_bytes: 0, ..StoreOptions::default() };
    let rotting = configuration_entry(1, 2, &[7, 8, 9]);
    let open = |disk: &Disk| {
        let (sender, acks) = mpsc::channel();
        let acknowledge = move |ack| drop(sender.send(ack));
        let (store, _) = Store::open_on(disk.clone(), options, acknowledge).unwrap();
        let first = configuration_entry(1, 1, &[1, 2, 3]);
        commit(&store, &acks, vec![create("a", 1), append(1, 1, vec![first])]);
        commit(&store, &acks, vec![append(2, 1, vec![rotting.clone(), command(1, 3, "x")])]);
        (store, acks)
    };
    let (disk, closed) = (Disk::default(), Disk::default());
    let (store, acks) = open(&disk);
    disk.flip(&rotting.bytes);
    let found = store.reopen(&namespace("a")).unwrap().unwrap();
    assert_eq!(found.groups[0].damage, Some(range(2, 2)));
    assert_eq!(found.groups[0].configurations, [(Index::new(1), configuration(&[1, 2, 3]))]);
    open(&closed).0.close();
    closed.flip(&rotting.bytes);
    let opened = Store::open_on(closed, options, |_| {}).unwrap().1;
    assert_eq!(found, opened.namespaces[0]);
    // What a peer sends again replaces it.
    let healed = write(Some(2), vec![command(2, 2, "y")]);
    assert!(matches!(commit(&store, &acks, vec![log(3, 1, healed)]), Ack::Durable(_)));
    assert_eq!(store.reopen(&namespace("a")).unwrap().unwrap().groups[0].damage, None);
}

#[test]
fn failed_or_closed_store_finds_nothing() {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    commit(&store, &acks, vec![create("a", 1)]);
    disk.set_fault(Some(Fault::Full));
    store.submit(vec![append(2, 1, vec![command(1, 1, "x")])]);
    // Whether it fails before, while or after this waits for it.
    assert!(matches!(store.reopen(&namespace("a")), Err(OpenError::Closed)));
    let (store, _acks) = open(&Disk::default());
    let other = store.clone();
    store.close();
    assert!(matches!(other.reopen(&namespace("a")), Err(OpenError::Closed)));
}

#[test]
fn one_batch_costs_one_synchronisation() {
    let disk = Disk::default();
    let (store, acks) = open(&disk);
    let groups = 1..=256;
    let all = groups.clone().map(|group| create(&format!("n{group}"), group)).collect();
    commit(&store, &acks, all);
    let before = disk.synchronisations();
    let one_each = groups.map(|group| append(group, group, vec![command(1, 1, vec![7; 100])]));
    assert!(matches!(commit(&store, &acks, one_each.collect()), Ack::Durable(_)));
    // One more is allowed for the growth of the file.
    let spent = disk.synchronisations() - before;
    assert!((1..=2).contains(&spent), "256 groups took {spent} synchronisations");
    let before = disk.synchronisations();
    commit(&store, &acks, vec![append(1, 1, vec![command(1, 2, "x")])]);
    assert_eq!(disk.synchronisations() - before, 1);
}
