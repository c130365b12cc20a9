//! Random jobs that keep a driver's promises, and the comparison of a store with its plain twin.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use meshraft_consensus::{ClusterId, Entry, EntryKind, Index, LoadError, WriteId};
use meshraft_storage::{GroupId, Job, LogAfterSnapshot, MemoryStore, Opened, Store, Ticket};

use crate::subject::*;

/// What may happen next; numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Create { namespace: u8 },
    Record { namespace: u8, bytes: u16 },
    Drop { group: u8 },
    Append { group: u8, count: u8, bytes: u32, next_term: bool, hard: bool },
    Replace { group: u8, back: u8, count: u8, bytes: u32 },
    Truncate { group: u8, back: u8 },
    Repair { group: u8, back: u8, count: u8, bytes: u32 },
    Vote { group: u8, candidate: u8 },
    Snapshot { group: u8, back: u8, keep: u8 },
    Install { group: u8, ahead: u8 },
}

/// A small seeded generator (splitmix64), so that a seed is all that a failure has to print.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn act(&mut self) -> Act {
        let (group, namespace) = (self.below(256) as u8, self.below(4) as u8);
        let (count, back) = (self.below(6) as u8, self.below(8) as u8);
        let bytes = match self.below(20) {
            0 => self.below(200_000) as u32,
            1..4 => self.below(5_000) as u32,
            _ => self.below(150) as u32,
        };
        match self.below(20) {
            0 => Act::Create { namespace },
            1 => Act::Record { namespace, bytes: bytes as u16 },
            2 => Act::Drop { group },
            3 | 4 => Act::Replace { group, back, count, bytes },
            5 => Act::Truncate { group, back },
            6 => Act::Vote { group, candidate: back },
            7 => Act::Repair { group, back, count, bytes },
            8 => Act::Snapshot { group, back, keep: count },
            9 if back == 0 => Act::Install { group, ahead: count },
            _ => {
                let (next_term, hard) = (self.below(4) == 0, self.below(2) == 0);
                Act::Append { group, count, bytes, next_term, hard }
            }
        }
    }
}

/// The seeds to run: `SEED` alone if it is set, else as many as `count_setting` or `count` says.
pub(crate) fn seeds(count_setting: &str, count: u64) -> Range<u64> {
    let setting = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    match setting("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting(count_setting).unwrap_or(count),
    }
}

#[derive(Clone, Debug)]
struct Log {
    namespace: u8,
    term: u64,
    floor: u64,
    tail: u64,
    snapshot: u64,
}

/// A driver's view of a store, and the twin that says what the store must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) twin: MemoryStore,
    groups: BTreeMap<u64, Log>,
    used: u64,
    ticket: u64,
}

impl Script {
    /// The job for an act, if it is possible now; the twin has it done.
    pub(crate) fn job(&mut self, act: &Act) -> Option<Job> {
        self.ticket += 1;
        let job = self.resolve(act)?;
        self.twin.commit(std::slice::from_ref(&job));
        Some(job)
    }

    fn resolve(&mut self, act: &Act) -> Option<Job> {
        match *act {
            Act::Create { namespace } => Some(self.create(namespace)),
            Act::Record { namespace, bytes } => {
                let record = Bytes::from(vec![self.ticket as u8; usize::from(bytes)]);
                Some(self.record(namespace, record, None, Vec::new()))
            }
            Act::Drop { group } => {
                let (id, log) = self.pick(group)?;
                self.groups.remove(&id);
                Some(self.record(log.namespace, Bytes::new(), None, vec![GroupId::new(id)]))
            }
            Act::Append { group, count, bytes, next_term, hard } => {
                let (id, mut log) = self.pick(group)?;
                log.term += u64::from(next_term);
                self.write(id, log, None, u64::from(count), bytes, hard)
            }
            Act::Replace { group, back, count, bytes } => {
                let (id, mut log) = self.pick(group)?;
                log.term += 1;
                let from = log.tail.saturating_sub(u64::from(back)).max(log.snapshot) + 1;
                self.write(id, log, Some(from), u64::from(count), bytes, true)
            }
            Act::Truncate { group, back } => {
                let (id, log) = self.pick(group)?;
                let from = log.tail.saturating_sub(u64::from(back)).max(log.snapshot) + 1;
                self.write(id, log, Some(from), 0, 0, false)
            }
            Act::Repair { group, back, count, bytes } => {
                let (id, log) = self.pick(group)?;
                self.repair(id, &log, u64::from(back), u64::from(count), bytes)
            }
            Act::Vote { group, candidate } => {
                let (id, log) = self.pick(group)?;
                let mut write = write(None, Vec::new());
                write.hard = Some(hard(log.term, Some(candidate), log.tail));
                Some(crate::subject::log(self.ticket, id, write))
            }
            Act::Snapshot { group, back, keep } => {
                let (id, log) = self.pick(group)?;
                let covered = log.tail.saturating_sub(u64::from(back));
                let keep = covered.saturating_sub(u64::from(keep)) + 1;
                self.snapshot(id, log, covered, LogAfterSnapshot::KeepFrom(Index::new(keep)))
            }
            Act::Install { group, ahead } => {
                let (id, mut log) = self.pick(group)?;
                log.term += 1;
                let covered = log.tail + u64::from(ahead);
                self.snapshot(id, log, covered, LogAfterSnapshot::Replace)
            }
        }
    }

    fn pick(&self, number: u8) -> Option<(u64, Log)> {
        let at = usize::from(number) % self.groups.len().max(1);
        self.groups.iter().nth(at).map(|(id, log)| (*id, log.clone()))
    }

    fn create(&mut self, name: u8) -> Job {
        self.used += 1;
        let log = Log { namespace: name, term: 1, floor: 0, tail: 0, snapshot: 0 };
        self.groups.insert(self.used, log);
        let group = (GroupId::new(self.used), ClusterId::new([self.used as u8; 32]));
        self.record(name, Bytes::from_static(b"new"), Some(group), Vec::new())
    }

    fn record(
        &self,
        name: u8,
        record: Bytes,
        create: Option<(GroupId, ClusterId)>,
        drop: Vec<GroupId>,
    ) -> Job {
        let namespace = namespace(&format!("namespace {name}"));
        Job::Record { ticket: Ticket::new(self.ticket), namespace, record, create, drop }
    }

    fn write(
        &mut self,
        id: u64,
        mut log: Log,
        from: Option<u64>,
        count: u64,
        bytes: u32,
        with_hard: bool,
    ) -> Option<Job> {
        log.tail = from.map_or(log.tail, |from| log.tail.min(from - 1));
        let append: Vec<Entry> = (log.tail + 1..=log.tail + count)
            .map(|index| entry(id, log.term, index, bytes as usize))
            .collect();
        log.tail += count;
        let mut write = write(from, append);
        write.id = WriteId::new(self.ticket);
        write.hard = with_hard.then(|| hard(log.term, None, log.tail));
        self.groups.insert(id, log);
        Some(crate::subject::log(self.ticket, id, write))
    }

    /// The same slots, terms and kinds with other payloads, so that it shows which one is read.
    fn repair(&self, id: u64, log: &Log, back: u64, count: u64, bytes: u32) -> Option<Job> {
        let first = log.tail.saturating_sub(back).max(log.floor + 1);
        let slots = range(first, log.tail.min(first + count));
        let mut repair = self.twin.load(GroupId::new(id), slots, u64::MAX).ok()?;
        for entry in repair.iter_mut().filter(|entry| entry.kind != EntryKind::Configuration) {
            let mut payload = format!("repaired {} by {}", entry.position, self.ticket);
            payload.extend(std::iter::repeat_n('.', bytes as usize));
            entry.bytes = payload.into();
        }
        let mut write = write(None, Vec::new());
        write.id = WriteId::new(self.ticket);
        write.change.get_or_insert_default().repair = repair;
        Some(crate::subject::log(self.ticket, id, write))
    }

    fn snapshot(
        &mut self,
        id: u64,
        mut log: Log,
        covered: u64,
        after: LogAfterSnapshot,
    ) -> Option<Job> {
        if covered < log.snapshot || covered == 0 {
            return None;
        }
        log.snapshot = covered;
        match after {
            LogAfterSnapshot::KeepFrom(keep) => log.floor = log.floor.max(keep.get() - 1),
            LogAfterSnapshot::Replace => (log.floor, log.tail) = (covered, covered),
        }
        let position = position(log.term, covered);
        // Two times in three the same write goes on after it, and cuts what follows on it first.
        let from = (covered % 3 == 1).then_some(covered + 1);
        let job = self.write(id, log, from, covered % 3, 100, false)?;
        let Job::Log { ticket, group, write } = job else { return Some(job) };
        Some(Job::Log { ticket, group, write: with_snapshot(position, after, write) })
    }
}

/// An entry whose payload tells which one it is; every eleventh is a configuration.
fn entry(group: u64, term: u64, index: u64, bytes: usize) -> Entry {
    if index % 11 == 1 {
        return configuration_entry(term, index, &[group as u8, term as u8, index as u8]);
    }
    let mut payload = format!("{group}/{index}@{term};").into_bytes();
    let mut random = Random(group << 40 | term << 20 | index);
    while payload.len() < bytes {
        payload.extend_from_slice(&random.next().to_le_bytes());
    }
    let kind = if index % 13 == 2 { EntryKind::Noop } else { EntryKind::Command };
    Entry { position: position(term, index), kind, bytes: payload.into() }
}

/// Panics with the difference if the store does not hold what the twin does.
pub(crate) fn assert_same(store: &Store, opened: &Opened, twin: &MemoryStore) {
    assert_eq!(opened, &twin.opened());
    assert_same_logs(store, twin);
}

/// The same for the logs alone.
pub(crate) fn assert_same_logs(store: &Store, twin: &MemoryStore) {
    for expected in twin.opened().namespaces {
        let found = store.reopen(&expected.namespace).unwrap();
        assert_eq!(found, Some(expected));
    }
    for group in twin.opened().namespaces.iter().flat_map(|namespace| &namespace.groups) {
        let mut first = (1..)
            .find(|first| {
                let found = twin.load(group.group, range(*first, *first), 0);
                found != Err(LoadError::Compacted)
            })
            .unwrap();
        let floor = range(first - 1, first);
        if first > 1 {
            assert_eq!(store.load(group.group, floor, 1), Err(LoadError::Compacted));
        }
        loop {
            let expected = twin.load(group.group, range(first, u64::MAX), 50_000);
            let found = store.load(group.group, range(first, u64::MAX), 50_000);
            assert!(found == expected, "{} differs from {first} on", group.group);
            let Ok(entries) = found else { break };
            first += entries.len() as u64;
        }
    }
}
