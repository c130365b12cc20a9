//! The disk under one core: what is durable, what was handed to it, and files of snapshots.
//!
//! Invariants:
//! 1. Writes become durable in order, each as a whole.
//! 2. A read sees everything that was handed over, durable or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meshraft_consensus::{
    ClusterId, Configuration, Entry, EntryKind, HardState, Index, IndexRange, LoadError,
    LogAfterSnapshot, Member, Position, Restored, SnapshotMeta, Write,
};

use super::cards::Wallet;

/// A snapshot: what it stands for, and the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) meta: SnapshotMeta,
    pub(super) state: u64,
}

/// A log with what stands beside it.
#[derive(Clone, Debug, Default)]
struct Log {
    hard: HardState,
    /// What `hard` was before it changed last.
    hard_before: HardState,
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
    /// Slots that can't be read, and whether a start finds out.
    rotten: BTreeMap<Index, bool>,
}

/// One disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    durable: Log,
    live: Log,
    waiting: VecDeque<Write>,
    files: BTreeMap<Position, File>,
    /// What stands beside the log.
    pub(super) wallet: Wallet,
    /// What the process that runs was told to be lost.
    told: BTreeSet<Index>,
    /// Whether that was the end of its log.
    endless: bool,
}

/// So many files of snapshots are kept at least: an older one than the recorded one may still be
/// fetched by someone, a newer one may be recorded by a write that is out.
const FILES_MAX: usize = 3;

impl Disk {
    /// Takes a write.
    pub(super) fn submit(&mut self, write: Write) {
        self.live.write(&write);
        self.waiting.push_back(write);
    }

    /// How many writes are not durable.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next write is durable now.
    pub(super) fn keep_next(&mut self) -> Option<Write> {
        let write = self.waiting.pop_front()?;
        self.durable.write(&write);
        self.wallet.written();
        Some(write)
    }

    /// What is not durable is lost.
    pub(super) fn crash(&mut self) {
        self.waiting.clear();
        self.wallet.crash();
        self.live = self.durable.clone();
        let lost = self.durable.rotten.iter().filter(|(_, seen)| **seen);
        self.told = lost.map(|(index, _)| *index).collect();
        self.endless = self.durable.ends_lost();
    }

    /// What is durable by now.
    pub(super) fn copy(&self) -> Self {
        let mut copy = self.clone();
        copy.crash();
        copy
    }

    /// The last entry that is durable.
    pub(super) fn last(&self) -> Index {
        self.durable.last().index
    }

    /// Up to where a start knows that entries are committed.
    pub(super) fn known_committed(&self) -> Index {
        self.durable.hard.commit_hint.max(self.recorded_at().unwrap_or(Index::ZERO))
    }

    /// Whether a start would find that the end of the log is lost, and with it, perhaps, term and
    /// vote.
    pub(super) fn ends_lost(&self) -> bool {
        self.durable.ends_lost()
    }

    /// Whether the running process found the end of its log to be lost.
    pub(super) const fn began_endless(&self) -> bool {
        self.endless
    }

    /// Whether anything stands at an index and behind, and something is left before it.
    pub(super) fn may_lose(&self, from: Index) -> bool {
        let covered = self.durable.snapshot.as_ref().map_or(Index::ZERO, |it| it.position.index);
        from > self.durable.first().max(covered.next()) && from <= self.last()
    }

    /// Loses what stands at an index and behind, and what is not durable.
    pub(super) fn lose(&mut self, from: Index) {
        let kept = self.durable.place(from);
        self.durable.entries.truncate(kept);
        self.crash();
    }

    pub(super) fn keep_file(&mut self, file: File) {
        self.files.insert(file.meta.position, file);
        let recorded = self.durable.snapshot.as_ref().map(|meta| meta.position);
        while self.files.len() > FILES_MAX
            && let Some(oldest) = self.files.first_entry()
            && Some(*oldest.key()) < recorded
        {
            oldest.remove();
        }
    }

    pub(super) fn file(&self, position: Position) -> Option<&File> {
        self.files.get(&position)
    }

    /// The state that a process begins with.
    pub(super) fn recorded(&self) -> Option<&File> {
        self.files.get(&self.durable.snapshot.as_ref()?.position)
    }

    /// Where the recorded snapshot ends.
    pub(super) fn recorded_at(&self) -> Option<Index> {
        self.durable.snapshot.as_ref().map(|meta| meta.position.index)
    }

    pub(super) fn load(&self, range: IndexRange, bytes_max: u64) -> Result<Vec<Entry>, LoadError> {
        self.live.load(range, bytes_max)
    }

    /// An entry can't be read any more. A start always finds out of a configuration.
    pub(super) fn rot(&mut self, index: Index, seen: bool) {
        if self.durable.rotten.contains_key(&index) {
            return;
        }
        // It was repaired since.
        self.told.remove(&index);
        for log in [&mut self.durable, &mut self.live] {
            if let Some(entry) = log.entry(index) {
                let seen = seen || entry.kind == EntryKind::Configuration;
                log.rotten.insert(index, seen);
            }
        }
    }

    /// Whether any entry can't be read.
    pub(super) fn rots(&self) -> bool {
        !self.durable.rotten.is_empty() || !self.live.rotten.is_empty()
    }

    /// The slots that can't be read.
    pub(super) fn unreadable(&self) -> BTreeSet<Index> {
        self.durable.rotten.keys().chain(self.live.rotten.keys()).copied().collect()
    }

    /// From the first slot that can't be read to the last: a process takes all between for lost.
    pub(super) fn lost_between(&self) -> Option<IndexRange> {
        let lost = self.unreadable();
        Some(IndexRange { first: *lost.first()?, last: *lost.last()? })
    }

    /// Whether the running process was told that some of its log is lost, and it still is. What it
    /// has applied since is not missed: a snapshot stands for it.
    pub(super) fn is_known_lost(&self, applied: Index) -> bool {
        let lost = |index: &&Index| self.durable.rotten.contains_key(*index);
        self.told.iter().filter(lost).any(|index| *index > applied)
    }

    /// What stands in a slot, readable or not.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.live.entry(index)
    }

    /// Whether this entry is durable and can be read, or is covered by the recorded snapshot.
    pub(super) fn holds(&self, position: Position) -> bool {
        let covered = self.durable.snapshot.as_ref().map(|meta| meta.position.index);
        let held = self.durable.entry(position.index).map(|entry| entry.position);
        let sound = !self.unreadable().contains(&position.index);
        covered >= Some(position.index) || (held == Some(position) && sound)
    }

    /// The slot of the newest configuration that has a member, as far as the log and its snapshot
    /// say.
    pub(super) fn newest_with(&self, member: &Member) -> Option<Index> {
        let snapshot = self.live.snapshot.as_ref();
        let base = snapshot.filter(|meta| meta.configuration.contains(member));
        let has = |entry: &&Entry| {
            entry.kind == EntryKind::Configuration
                && Configuration::decode(&entry.bytes).is_ok_and(|one| one.contains(member))
        };
        let newest = self.live.entries.iter().rev().find(has).map(|entry| entry.position.index);
        newest.max(base.map(|meta| meta.configuration_index))
    }

    /// The slots that are durable.
    pub(super) fn slots(&self) -> IndexRange {
        IndexRange { first: self.durable.first(), last: self.durable.last().index }
    }

    pub(super) fn restored(
        &self,
        me: Member,
        cluster: ClusterId,
        founding: Option<Vec<Member>>,
    ) -> Restored {
        let log = &self.durable;
        let hard = if log.ends_lost() { log.hard_before } else { log.hard };
        let mut terms: Vec<Position> = Vec::new();
        // Nobody knows the terms of slots that are lost.
        let found = || log.entries.iter().filter(|entry| !log.lost(entry.position.index));
        for entry in found() {
            let Position { term, index } = entry.position;
            if terms.last().is_none_or(|start| start.term < term) {
                let first = if terms.is_empty() { log.first() } else { index };
                terms.push(Position::new(term, first));
            }
        }
        let logged = found().filter(|entry| entry.kind == EntryKind::Configuration);
        let configurations = logged.filter_map(|entry| {
            Some((entry.position.index, Configuration::decode(&entry.bytes).ok()?))
        });
        Restored {
            me,
            cluster,
            founding,
            hard,
            snapshot: log.snapshot.clone(),
            terms,
            configurations: configurations.collect(),
            last: log.found_last(),
            damage: log.damage(),
        }
    }
}

impl Log {
    fn last(&self) -> Position {
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        self.entries.last().map_or(covered, |entry| entry.position)
    }

    /// Where a start takes the log to end: the last entry that it finds.
    fn found_last(&self) -> Position {
        if !self.ends_lost() {
            return self.last();
        }
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        let found = self.entries.iter().rev().map(|entry| entry.position);
        found.into_iter().find(|position| !self.lost(position.index)).unwrap_or(covered)
    }

    fn ends_lost(&self) -> bool {
        self.lost(self.last().index)
    }

    fn first(&self) -> Index {
        self.entries.first().map_or_else(|| self.last().index.next(), |first| first.position.index)
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.place(index)).filter(|entry| entry.position.index == index)
    }

    fn lost(&self, index: Index) -> bool {
        self.rotten.get(&index) == Some(&true)
    }

    /// What a start finds to be lost; it ends after the log if the end of that is lost.
    fn damage(&self) -> Option<IndexRange> {
        let mut lost = self.rotten.iter().filter(|(_, seen)| **seen).map(|(index, _)| *index);
        let first = lost.next()?;
        let last = lost.next_back().unwrap_or(first);
        Some(IndexRange { first, last: if self.ends_lost() { last.next() } else { last } })
    }

    /// Where the entry of a slot stands.
    fn place(&self, index: Index) -> usize {
        usize::try_from(index.distance_from(self.first().previous()).saturating_sub(1))
            .unwrap_or(usize::MAX)
            .min(self.entries.len())
    }

    fn write(&mut self, write: &Write) {
        if let Some(hard) = write.hard.filter(|hard| *hard != self.hard) {
            (self.hard_before, self.hard) = (self.hard, hard);
        }
        if let Some(snapshot) = write.snapshot() {
            let position = snapshot.meta.position;
            match snapshot.log {
                LogAfterSnapshot::KeepFrom(first) if position.index <= self.last().index => {
                    let gone = self.place(first.max(self.first()));
                    self.entries.drain(..gone);
                }
                LogAfterSnapshot::KeepFrom(_) | LogAfterSnapshot::Replace => {
                    self.entries.clear();
                    self.rotten.clear();
                }
            }
            self.snapshot = Some(snapshot.meta.clone());
        }
        for entry in write.repair() {
            let index = entry.position.index;
            let place = self.place(index);
            // A snapshot may have come to stand for it meanwhile.
            let slot = self.entries.get_mut(place).filter(|slot| slot.position.index == index);
            if let Some(slot) = slot {
                *slot = entry.clone();
            }
            self.rotten.remove(&index);
        }
        if let Some(from) = write.truncate_from() {
            let kept = if from < self.first() { 0 } else { self.place(from) };
            self.entries.truncate(kept);
        }
        self.entries.extend(write.append.iter().cloned());
        if !self.rotten.is_empty() {
            let (first, from) = (self.first(), write.truncate_from());
            let stays = |index: Index| index >= first && from.is_none_or(|from| index < from);
            self.rotten.retain(|index, _| stays(*index));
        }
    }

    fn load(&self, range: IndexRange, bytes_max: u64) -> Result<Vec<Entry>, LoadError> {
        if range.first < self.first() {
            return Err(LoadError::Compacted);
        } else if range.last > self.last().index {
            return Err(LoadError::Truncated);
        }
        let mut slots = self.rotten.range(range.first..=range.last).map(|(index, _)| *index);
        let rotten = slots.next();
        if rotten == Some(range.first) {
            return Err(LoadError::Damaged(IndexRange { first: range.first, last: range.first }));
        }
        let end = rotten.unwrap_or_else(|| range.last.next());
        let (from, to) = (self.place(range.first), self.place(end));
        let mut bytes = 0;
        let wanted = self.entries.get(from..to).unwrap_or_default().iter().enumerate();
        let loaded = wanted.take_while(|(nth, entry)| {
            bytes += entry.cost_bytes();
            *nth == 0 || bytes <= bytes_max
        });
        Ok(loaded.map(|(_, entry)| entry.clone()).collect())
    }
}
