//! Readers beside the writer, and what is submitted but not durable yet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use meshraft_consensus::{Entry, Index, LoadError};
use meshraft_storage::{Ack, DataDir, GroupId, LogAfterSnapshot, Store, StoreOptions, Ticket};

use crate::{script::Random, subject::*};

/// A store whose acknowledgements wait for `gate`, so that what follows stays queued.
fn gated(folder: &std::path::Path) -> (Store, mpsc::Sender<()>, mpsc::Receiver<Ack>) {
    let (gate, opens) = mpsc::channel::<()>();
    let (sender, acks) = mpsc::channel();
    let dir = DataDir::open(folder).unwrap();
    let acknowledge = move |ack| {
        sender.send(ack).unwrap();
        // The gate is gone when the test is over.
        opens.recv().ok();
    };
    let (store, _) = Store::open(&dir, StoreOptions::default(), acknowledge).unwrap();
    (store, gate, acks)
}

#[test]
fn what_was_submitted_is_served_before_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate, acks) = gated(folder.path());
    let entries = |term, first, last| -> Vec<Entry> {
        (first..=last).map(|index| command(term, index, format!("{index}@{term}"))).collect()
    };
    store.submit(vec![create("a", 1), append(1, 1, entries(1, 1, 5))]);
    acks.recv_timeout(PATIENCE).unwrap();
    // The writer waits at the gate: nothing below becomes durable before it opens.
    store.submit(vec![append(2, 1, entries(1, 6, 8))]);
    store.submit(vec![log(3, 1, write(Some(4), entries(2, 4, 4)))]);
    store.submit(vec![append(4, 1, entries(2, 5, 5)), append(5, 1, entries(3, 6, 6))]);
    let load = |first, last| store.load(GroupId::new(1), range(first, last), 1 << 20);
    let expected = [entries(1, 1, 3), entries(2, 4, 5), entries(3, 6, 6)].concat();
    assert_eq!(load(1, 99), Ok(expected.clone()));
    assert_eq!(load(7, 8), Err(LoadError::Truncated));
    store.submit(vec![log(6, 1, write(Some(6), Vec::new()))]);
    assert_eq!(load(6, 6), Err(LoadError::Truncated));
    assert_eq!(load(5, 6), Ok(entries(2, 5, 5)));
    let keep = LogAfterSnapshot::KeepFrom(Index::new(3));
    store.submit(vec![snapshot(1, position(2, 4), keep)]);
    assert_eq!(load(2, 6), Err(LoadError::Compacted));
    assert_eq!(load(3, 6), Ok(expected[2..5].to_vec()));
    let install = write(None, entries(4, 21, 22));
    store.submit(vec![log(7, 1, with_snapshot(position(4, 20), keep, install))]);
    assert_eq!(load(3, 6), Err(LoadError::Compacted));
    assert_eq!(load(20, 22), Err(LoadError::Compacted));
    assert_eq!(load(21, 99), Ok(entries(4, 21, 22)));
    assert_eq!(load(23, 99), Err(LoadError::Truncated));
    drop(gate);
    let rest = acks.recv_timeout(PATIENCE).unwrap();
    assert_eq!(rest, Ack::Durable([2, 3, 4, 5, 6, 0, 7].map(Ticket::new).to_vec()));
    assert_eq!(load(21, 99), Ok(entries(4, 21, 22)));
    assert_eq!(load(20, 22), Err(LoadError::Compacted));
    store.close();
}

#[test]
fn close_commits_what_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate, acks) = gated(folder.path());
    store.submit(vec![create("a", 1)]);
    acks.recv_timeout(PATIENCE).unwrap();
    store.submit(vec![append(2, 1, vec![command(1, 1, "x")])]);
    let other = store.clone();
    drop(gate);
    store.close();
    assert_eq!(acks.recv_timeout(PATIENCE).unwrap(), Ack::Durable(vec![Ticket::new(2)]));
    other.submit(vec![append(3, 1, vec![command(1, 2, "y")])]);
    assert_eq!(other.load(GroupId::new(1), range(1, 1), 1), Err(LoadError::Failed));
    drop(other);
    let (store, _gate, _acks) = gated(folder.path());
    assert_eq!(store.load(GroupId::new(1), range(1, 9), 99), Ok(vec![command(1, 1, "x")]));
}

#[test]
fn store_may_go_inside_an_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(folder.path()).unwrap();
    let (give, take) = mpsc::channel::<Store>();
    let (sender, acks) = mpsc::channel();
    let acknowledge = move |ack| {
        drop(take.recv());
        sender.send(ack).unwrap();
    };
    let (store, _) = Store::open(&dir, StoreOptions::default(), acknowledge).unwrap();
    store.submit(vec![create("a", 1)]);
    give.send(store).unwrap();
    assert!(matches!(acks.recv_timeout(PATIENCE), Ok(Ack::Durable(_))));
}

/// The writer is gone then; nothing may pile up, hang, or be acknowledged.
#[test]
fn panic_in_an_acknowledgement_ends_the_writer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(folder.path()).unwrap();
    let (sender, acks) = mpsc::channel();
    let acknowledge = move |ack| {
        sender.send(ack).unwrap();
        panic!("an acknowledgement that panics, as this test wants");
    };
    let (store, _) = Store::open(&dir, StoreOptions::default(), acknowledge).unwrap();
    store.submit(vec![create("a", 1), append(2, 1, vec![command(1, 1, "x")])]);
    assert!(matches!(acks.recv_timeout(PATIENCE), Ok(Ack::Durable(_))));
    assert!(acks.recv().is_err(), "the writer ends");
    store.submit(vec![append(3, 1, vec![command(1, 2, "y")])]);
    store.close();
    drop(dir);
    let (store, _gate, _acks) = gated(folder.path());
    assert_eq!(store.load(GroupId::new(1), range(1, 9), 99), Ok(vec![command(1, 1, "x")]));
}

fn numbered(term: u64, index: u64) -> Entry {
    command(term, index, format!("{term}.{index}").repeat(1 + (index % 40) as usize))
}

/// Readers hammer a log that is appended to, truncated, compacted and rewritten under them: what
/// they get is contiguous and is what was written, and damage is never seen.
#[test]
fn readers_see_sound_entries_whatever_the_writer_does() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1)]);
    let (done, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|seed| {
            let (store, done, newest) = (disk.store().clone(), done.clone(), newest.clone());
            thread::spawn(move || read_on(&store, &done, &newest, seed))
        })
        .collect();
    let mut random = Random(4);
    let (mut term, mut tail, mut covered) = (1, 0, 0);
    for round in 1..=300 {
        let from = (random.below(5) == 0).then(|| {
            term += 1;
            tail -= random.below(4).min(tail - covered);
            tail + 1
        });
        let last = tail + 1 + random.below(20);
        let entries = (tail + 1..=last).map(|index| numbered(term, index)).collect();
        tail = last;
        let mut jobs = vec![log(round, 1, write(from, entries))];
        if round % 20 == 0 {
            covered = tail - 5;
            let keep = LogAfterSnapshot::KeepFrom(Index::new(covered - 5));
            jobs.push(snapshot(1, position(term, covered), keep));
        }
        disk.commit(jobs);
        newest.store(tail, Ordering::Relaxed);
    }
    done.store(true, Ordering::Relaxed);
    let read: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(read > 1_000, "only {read} entries were read");
}

fn read_on(store: &Store, done: &AtomicBool, newest: &AtomicU64, seed: u64) -> u64 {
    let (mut random, mut read) = (Random(seed), 0);
    while !done.load(Ordering::Relaxed) {
        let newest = newest.load(Ordering::Relaxed).max(1);
        let first = newest.saturating_sub(random.below(60)).max(1);
        match store.load(GroupId::new(1), range(first, first + random.below(30)), 9_000) {
            Ok(entries) => {
                for (index, entry) in (first..).zip(&entries) {
                    assert_eq!(*entry, numbered(entry.position.term.get(), index));
                }
                read += entries.len() as u64;
            }
            Err(LoadError::Compacted | LoadError::Truncated) => {}
            Err(error) => panic!("{error}"),
        }
    }
    read
}

/// It waits for what was submitted before, and only for that.
#[test]
fn namespace_is_found_with_all_that_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate, acks) = gated(folder.path());
    store.submit(vec![create("a", 1), create("b", 2)]);
    acks.recv_timeout(PATIENCE).unwrap();
    // The writer waits at the gate.
    store.submit(vec![append(3, 1, vec![command(1, 1, "x")])]);
    let (sender, found) = mpsc::channel();
    let finder = {
        let store = store.clone();
        thread::spawn(move || sender.send(store.reopen(&namespace("a"))).unwrap())
    };
    assert!(found.try_recv().is_err(), "what was submitted is not durable yet");
    drop(gate);
    let found = found.recv_timeout(PATIENCE).unwrap().unwrap().unwrap();
    assert_eq!(found.groups[0].last, position(1, 1));
    finder.join().unwrap();
    store.close();
}

/// One namespace is opened again and again while another writes, compacts and is rewritten.
#[test]
fn namespace_is_found_while_others_write() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), create("b", 2)]);
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let (store, done) = (disk.store().clone(), done.clone());
        thread::spawn(move || {
            let mut index = 0;
            while !done.load(Ordering::Relaxed) {
                index += 1;
                let entries = vec![numbered(1, index)];
                store.submit(vec![append(index, 2, entries)]);
                if index % 50 == 0 {
                    let keep = LogAfterSnapshot::KeepFrom(Index::new(index - 9));
                    store.submit(vec![snapshot(2, position(1, index - 5), keep)]);
                    // Waits for its own, so that the queue stays short.
                    store.reopen(&namespace("b")).unwrap();
                }
            }
            index
        })
    };
    let mut expected = Vec::new();
    for index in 1..=200 {
        let voters = [index as u8, 255];
        disk.store().submit(vec![append(index, 1, vec![configuration_entry(1, index, &voters)])]);
        expected.push((Index::new(index), configuration(&voters)));
        let found = disk.store().reopen(&namespace("a")).unwrap().unwrap();
        assert_eq!(found.groups[0].last, position(1, index));
        assert_eq!(found.groups[0].configurations, expected);
    }
    done.store(true, Ordering::Relaxed);
    assert!(other.join().unwrap() > 0);
    let before = ["a", "b"].map(|name| disk.found(&namespace(name)).unwrap());
    assert_eq!(disk.reopen().namespaces, before);
}
