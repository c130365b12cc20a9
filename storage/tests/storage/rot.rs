//! Bits that flip on a disk at rest: told as damage, never passed on as data.

use std::{fs, iter, path::PathBuf};

use meshraft_consensus::{ConfigBuilder, Core, Entry, Event, LoadError, Moment, Output, Restored};
use meshraft_storage::{
    DataDir, GroupId, Job, OpenError, Opened, OpenedGroup, Store, StoreOptions,
};
use tempfile::TempDir;

use crate::{
    script::{Random, seeds},
    subject::*,
};

const ENTRIES: u64 = 60;

struct Rotten {
    folder: TempDir,
}

fn payload(group: u64, index: u64) -> String {
    format!("payload {index} of {group}, which no other bytes in the file are like")
}

fn entry(group: u64, index: u64) -> Entry {
    if index == 1 {
        return configuration_entry(1, index, &[group as u8, 100]);
    }
    command(1 + index / 20, index, payload(group, index))
}

impl Rotten {
    /// Three groups, their entries interleaved over many commits, closed cleanly.
    fn new() -> Self {
        let mut disk = OnDisk::new();
        disk.commit((1..=3).map(|group| create(&format!("n{group}"), group)).collect());
        for index in 1..=ENTRIES {
            let jobs = (1..=3).map(|group| {
                let mut write = write(None, vec![entry(group, index)]);
                write.hard = Some(hard(1 + index / 20, Some(group as u8), index - 1));
                log(index, group, write)
            });
            disk.commit(jobs.collect());
        }
        Self { folder: disk.into_folder() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("log.redb")
    }

    /// Flips a bit of every occurrence of `bytes` in the file, `offset` bytes in.
    fn flip_in(&self, bytes: &[u8], offset: usize) {
        let mut file = fs::read(self.file()).unwrap();
        let found: Vec<usize> =
            (0..file.len() - bytes.len()).filter(|at| file[*at..].starts_with(bytes)).collect();
        assert!(!found.is_empty(), "the bytes to be flipped are in the file");
        found.iter().for_each(|at| file[at + offset] ^= 0x10);
        fs::write(self.file(), file).unwrap();
    }

    fn open(&self) -> Result<(Store, Opened), OpenError> {
        let dir = DataDir::open(self.folder.path()).unwrap();
        Store::open(&dir, StoreOptions::default(), |_| {})
    }
}

/// How a section of entries begins: its kind, group, term and first slot.
fn section(group: u64, term: u64, first: u64) -> Vec<u8> {
    [&[1][..], &group.to_be_bytes(), &term.to_be_bytes(), &first.to_be_bytes()].concat()
}

fn load(store: &Store, group: u64, first: u64, last: u64) -> Result<Vec<Entry>, LoadError> {
    store.load(GroupId::new(group), range(first, last), 1 << 20)
}

fn expected(group: u64, first: u64, last: u64) -> Vec<Entry> {
    (first..=last).map(|index| entry(group, index)).collect()
}

#[test]
fn flipped_payload_is_damage_of_its_entry_alone() {
    let rotten = Rotten::new();
    rotten.flip_in(payload(2, 30).as_bytes(), 9);
    let (store, opened) = rotten.open().unwrap();
    // Payloads are not read by an open.
    assert!(opened.namespaces.iter().all(|one| one.groups[0].damage.is_none()));
    assert_eq!(load(&store, 2, 30, 40), Err(LoadError::Damaged(range(30, 30))));
    assert_eq!(load(&store, 2, 25, 40), Ok(expected(2, 25, 29)));
    assert_eq!(load(&store, 2, 31, 60), Ok(expected(2, 31, 60)));
    assert_eq!(load(&store, 1, 1, 60), Ok(expected(1, 1, 60)));
    assert_eq!(load(&store, 3, 1, 60), Ok(expected(3, 1, 60)));
}

#[test]
fn flipped_large_payload_is_damage_of_its_entry_alone() {
    let mut disk = OnDisk::new();
    let pattern = |number: u8| [&[number; 100_000][..], b"end of a large payload"].concat();
    let entries = vec![command(1, 1, pattern(1)), command(1, 2, "small")];
    disk.commit(vec![create("a", 1), append(1, 1, entries)]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(b"end of a large payload", 3);
    let (store, _) = rotten.open().unwrap();
    assert_eq!(load(&store, 1, 1, 2), Err(LoadError::Damaged(range(1, 1))));
    assert_eq!(load(&store, 1, 2, 2), Ok(vec![command(1, 2, "small")]));
}

#[test]
fn flipped_configuration_is_damage_at_open() {
    let rotten = Rotten::new();
    rotten.flip_in(&configuration(&[2, 100]).encode(), 20);
    let (store, opened) = rotten.open().unwrap();
    let groups: Vec<_> = opened.namespaces.iter().map(|one| &one.groups[0]).collect();
    assert_eq!(groups[1].damage, Some(range(1, 1)));
    assert!(groups[1].configurations.is_empty());
    assert_eq!((groups[0].damage, groups[2].damage), (None, None));
    assert_eq!(load(&store, 2, 1, 9), Err(LoadError::Damaged(range(1, 1))));
    assert_eq!(load(&store, 2, 2, 9), Ok(expected(2, 2, 9)));
}

/// The directory of the commit that wrote slot 30 of all three groups: nothing before it can be
/// trusted to be the newest, everything after it can.
#[test]
fn flipped_directory_is_damage_of_its_groups_alone() {
    let mut disk = OnDisk::new();
    disk.commit((1..=2).map(|group| create(&format!("n{group}"), group)).collect());
    disk.commit(vec![append(1, 2, expected(2, 1, 5))]);
    disk.commit(vec![append(1, 1, expected(1, 1, 5))]);
    disk.commit(vec![append(1, 1, vec![command(77, 6, "the row to be damaged")])]);
    disk.commit(vec![append(1, 1, vec![command(77, 7, "a row after it")])]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(1, 77, 6), 12);
    let (store, opened) = rotten.open().unwrap();
    let groups: Vec<_> = opened.namespaces.iter().map(|one| &one.groups[0]).collect();
    // No hard state was ever written, so it may be in the damaged row: open-ended.
    assert_eq!(groups[0].damage, Some(range(1, 8)));
    assert_eq!(groups[0].last, position(77, 7));
    assert_eq!(groups[1].damage, None);
    assert_eq!(load(&store, 1, 1, 9), Err(LoadError::Damaged(range(1, 6))));
    assert_eq!(load(&store, 1, 7, 9), Ok(vec![command(77, 7, "a row after it")]));
    assert_eq!(load(&store, 2, 1, 9), Ok(expected(2, 1, 5)));
}

/// Once everything doubtful was written anew, the damage is gone.
#[test]
fn damage_heals_when_it_is_overwritten() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), append(1, 1, expected(1, 1, 5))]);
    disk.commit(vec![append(1, 1, vec![command(77, 6, "damaged")])]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(1, 77, 6), 12);
    let (store, opened) = rotten.open().unwrap();
    assert_eq!(opened.namespaces[0].groups[0].damage, Some(range(1, 6)));
    let mut write = write(Some(1), expected(1, 1, 9));
    write.hard = Some(hard(9, None, 0));
    store.submit(vec![log(1, 1, write)]);
    store.close();
    let (store, opened) = rotten.open().unwrap();
    assert_eq!(opened.namespaces[0].groups[0].damage, None);
    assert_eq!(load(&store, 1, 1, 9), Ok(expected(1, 1, 9)));
}

/// One write puts back exactly the slots that rotted, inline and in rows of their own, and nothing
/// else changes.
#[test]
fn repaired_slots_read_back_and_stay() {
    let mut disk = OnDisk::new();
    let large = |number: u8| [&[number; 100_000][..], b"end of a large payload"].concat();
    let mut entries = expected(1, 1, 9);
    entries.insert(4, command(1, 5, large(5)));
    entries.remove(5);
    disk.commit(vec![create("a", 1), append(1, 1, entries.clone())]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(b"end of a large payload", 3);
    rotten.flip_in(payload(1, 6).as_bytes(), 9);
    let (store, _) = rotten.open().unwrap();
    assert_eq!(load(&store, 1, 5, 9), Err(LoadError::Damaged(range(5, 5))));
    let mut write = write(None, Vec::new());
    write.change.get_or_insert_default().repair = entries[4..6].to_vec();
    store.submit(vec![log(1, 1, write)]);
    assert_eq!(load(&store, 1, 1, 9), Ok(entries.clone()), "while it is being written");
    store.close();
    let (store, opened) = rotten.open().unwrap();
    assert_eq!(opened.namespaces[0].groups[0].damage, None);
    assert_eq!(load(&store, 1, 1, 9), Ok(entries));
}

/// A row that can't be read had cut off entries of a high term and put some of a lower one in their
/// place. The entries after it are of their own terms all the same, so that others can be asked
/// what came before them; and what they tell heals it, in two parts with a restart between.
#[test]
fn doubtful_entries_lend_no_terms_and_are_repaired_in_parts() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), append(1, 1, expected(1, 1, 3))]);
    disk.commit(vec![append(1, 1, vec![command(9, 4, "stale"), command(9, 5, "stale")])]);
    let lost = vec![command(2, 4, "the row to be damaged"), command(3, 5, "too")];
    disk.commit(vec![log(1, 1, write(Some(4), lost.clone()))]);
    let mut after = write(None, vec![command(3, 6, "after it"), command(10, 7, "and the last")]);
    after.hard = Some(hard(10, None, 3));
    disk.commit(vec![log(1, 1, after)]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(1, 2, 4), 12);
    let (store, opened) = rotten.open().unwrap();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!((group.damage, group.last), (Some(range(1, 5)), position(10, 7)));
    let terms: Vec<_> = group.terms.iter().filter(|begin| begin.index.get() > 5).collect();
    assert_eq!(terms, [&position(3, 6), &position(10, 7)]);
    assert_eq!(load(&store, 1, 6, 6), Ok(vec![command(3, 6, "after it")]));
    let mut first = write(None, Vec::new());
    first.change.get_or_insert_default().repair = [expected(1, 1, 3), lost[..1].to_vec()].concat();
    store.submit(vec![log(1, 1, first)]);
    store.close();
    let (store, opened) = rotten.open().unwrap();
    assert_eq!(opened.namespaces[0].groups[0].damage, Some(range(5, 5)));
    let mut second = write(None, Vec::new());
    second.change.get_or_insert_default().repair = lost[1..].to_vec();
    store.submit(vec![log(1, 1, second)]);
    let opened = store.reopen(&opened.namespaces[0].namespace).unwrap().unwrap();
    let healed = opened.groups[0].clone();
    assert_eq!(healed.damage, None);
    let begins = [position(1, 1), position(2, 4), position(3, 5), position(10, 7)];
    assert_eq!(healed.terms, begins);
    store.close();
    let (store, opened) = rotten.open().unwrap();
    assert_eq!(opened.namespaces[0].groups[0], healed);
    let entries = [expected(1, 1, 3), lost, vec![command(3, 6, "after it")]].concat();
    assert_eq!(load(&store, 1, 1, 6), Ok(entries));
}

/// The last entry may be an older version of itself: nobody can know how the log ended.
#[test]
fn a_doubtful_last_entry_leaves_the_end_open() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), append(1, 1, expected(1, 1, 7))]);
    disk.commit(vec![log(1, 1, write(Some(5), vec![command(77, 5, "the row to be damaged")]))]);
    let mut cut = write(Some(5), Vec::new());
    cut.hard = Some(hard(78, None, 3));
    disk.commit(vec![log(1, 1, cut)]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(1, 77, 5), 12);
    let (_, opened) = rotten.open().unwrap();
    let group = &opened.namespaces[0].groups[0];
    assert_eq!((group.damage, group.last.index.get()), (Some(range(1, 5)), 4));
}

/// A group that was created when all rows before it were dead, and that wrote its first one only
/// after they were removed and the store was opened again.
#[test]
fn flipped_directory_is_damage_of_a_group_born_after_rows_that_went() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("n1", 1)]);
    (1..=5).for_each(|index| disk.commit(vec![append(index, 1, vec![entry(1, index)])]));
    let Job::Record { ticket, namespace, record, .. } = create("n1", 1) else { unreachable!() };
    let drop = vec![GroupId::new(1)];
    disk.commit(vec![Job::Record { ticket, namespace, record, create: None, drop }]);
    disk.commit(vec![create("n2", 2)]);
    disk.commit(vec![create("n3", 3)]);
    assert_eq!(disk.store().usage().stored_bytes, 0, "every row is dead and removed");
    disk.reopen();
    disk.commit(vec![append(1, 2, expected(2, 1, 2))]);
    disk.commit(vec![append(1, 2, vec![command(77, 3, "the row to be damaged")])]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(2, 77, 3), 12);
    let (store, opened) = rotten.open().unwrap();
    let damage: Vec<_> = opened.namespaces.iter().map(|one| one.groups.first()?.damage).collect();
    // No hard state was ever written, so it may be in the damaged row: open-ended.
    assert_eq!(damage, [None, Some(range(1, 3)), None]);
    assert_eq!(load(&store, 2, 1, 2), Err(LoadError::Damaged(range(1, 2))));
}

/// The start of the log is lost, and with it where its first term begins: a core is still restored
/// from what is left, and knows that it is damaged.
#[test]
fn core_is_restored_from_a_log_without_its_start() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("n1", 1)]);
    disk.commit(vec![append(1, 1, vec![command(77, 1, "the row to be damaged")])]);
    let after = [command(78, 2, "a row after it"), command(79, 3, "and a later term")];
    disk.commit(vec![append(1, 1, after.to_vec())]);
    let rotten = Rotten { folder: disk.into_folder() };
    rotten.flip_in(&section(1, 77, 1), 12);
    let (store, opened) = rotten.open().unwrap();
    let group = opened.namespaces[0].groups[0].clone();
    assert_eq!(group.terms, [position(78, 1), position(79, 3)]);
    assert_eq!(load(&store, 1, 1, 3), Err(LoadError::Damaged(range(1, 1))));
    let damage = group.damage.unwrap();
    // No hard state was ever written, so it may be in the damaged row: open-ended.
    assert_eq!(damage, range(1, 4));
    let mut core = core(group);
    let told = iter::from_fn(|| core.poll())
        .any(|output| output == Output::Observe(Event::Damaged { range: damage }));
    assert!(told, "the core does not say that it is damaged");
}

/// What a driver makes of a group that it found.
fn core(group: OpenedGroup) -> Core {
    let restored = Restored {
        me: member(1),
        cluster: group.cluster,
        founding: None,
        hard: group.hard,
        snapshot: group.snapshot,
        terms: group.terms,
        configurations: group.configurations,
        last: group.last,
        damage: group.damage,
    };
    Core::new(ConfigBuilder::lan().build().unwrap(), restored, Moment::ZERO)
}

#[test]
fn flipped_record_keeps_the_store_shut() {
    let rotten = Rotten::new();
    rotten.flip_in(b"record of n2", 4);
    let error = rotten.open().unwrap_err();
    assert!(matches!(error, OpenError::Damaged(_)), "{error:?}");
    assert_eq!(error.to_string(), "the log is damaged: row of namespace \"n2\"");
}

/// Any bit anywhere (`FLIPS=n` sets how many, `SEED=n` replays one): whatever is answered is what
/// was written, or an error.
#[test]
fn no_flipped_bit_is_ever_passed_on_as_data() {
    let rotten = Rotten::new();
    let sound = fs::read(rotten.file()).unwrap();
    let (mut harmless, mut told) = (0, 0);
    for seed in seeds("FLIPS", 200) {
        let mut random = Random(seed);
        let mut file = sound.clone();
        // Most of the file is empty; half of the flips aim at what is not.
        let at = loop {
            let at = random.below(file.len() as u64) as usize;
            if seed % 2 == 0 || file[at] != 0 {
                break at;
            }
        };
        file[at] ^= 1 << random.below(8);
        fs::write(rotten.file(), &file).unwrap();
        if probe(&rotten, seed) { harmless += 1 } else { told += 1 }
    }
    assert!(harmless + told > 0, "nothing was flipped");
}

/// Whether everything was read; panics if something was read that was never written.
fn probe(rotten: &Rotten, seed: u64) -> bool {
    let Ok((store, opened)) = rotten.open() else { return false };
    let mut all = opened.namespaces.len() == 3;
    for namespace in &opened.namespaces {
        match store.reopen(&namespace.namespace) {
            Ok(found) => assert_eq!(found.as_ref(), Some(namespace), "seed {seed}"),
            Err(_) => all = false,
        }
        assert!(namespace.record.starts_with(b"record of n"), "seed {seed}");
        for group in &namespace.groups {
            let number = group.group.get();
            let tail = group.last.index.get();
            // State may be lost or stale only if damage says so.
            if group.damage.is_none() {
                assert_eq!(tail, ENTRIES, "seed {seed}: the end of {number} was lost in silence");
                let newest = hard(1 + tail / 20, Some(number as u8), tail - 1);
                assert_eq!(group.hard, newest, "seed {seed}");
            }
            for index in 1..=ENTRIES {
                match load(&store, number, index, index) {
                    Ok(found) => assert_eq!(found, [entry(number, index)], "seed {seed}"),
                    Err(_) => all = false,
                }
            }
        }
    }
    all
}

#[test]
fn log_that_is_no_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(folder.path()).unwrap();
    fs::write(folder.path().join("log.redb"), vec![0x5a; 10_000]).unwrap();
    let error = Store::open(&dir, StoreOptions::default(), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Damaged(_) | OpenError::Io(_)), "{error:?}");
}
