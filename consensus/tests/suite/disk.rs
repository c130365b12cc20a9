//! What a member's disk holds: hard state, log, the record of its newest snapshot, and the files.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{
    ClusterId, Configuration, Entry, EntryKind, HardState, Index, IndexRange, LoadError,
    LogAfterSnapshot, Member, Position, Restored, SnapshotMeta, SnapshotWrite, Write,
};

/// A snapshot: what it stands for, and a digest of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: u64,
}

/// What a member's disk holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    pub(crate) entries: Vec<Entry>,
    pub(crate) founding: Option<Vec<Member>>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) files: BTreeMap<Index, File>,
    /// Slots that can't be read: those that a start finds, and those that only a load finds.
    pub(crate) lost: BTreeSet<Index>,
    pub(crate) rotten: BTreeSet<Index>,
    /// Whether nobody can know how long the log was.
    pub(crate) cut: bool,
}

impl Disk {
    /// The slot before the first entry that is left.
    pub(crate) fn floor(&self) -> u64 {
        match self.entries.first() {
            Some(first) => first.position.index.get() - 1,
            None => self.covered(),
        }
    }

    /// What the newest snapshot covers.
    pub(crate) fn covered(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |meta| meta.position.index.get())
    }

    /// The last entry, or the snapshot's if nothing follows it.
    pub(crate) fn last(&self) -> Position {
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        self.entries.last().map_or(covered, |entry| entry.position)
    }

    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(hard) = write.hard {
            assert!(hard.term >= self.hard.term, "the durable term never decreases");
            let same_term = hard.term == self.hard.term;
            let kept = !same_term || self.hard.vote.is_none() || hard.vote == self.hard.vote;
            assert!(kept, "the durable vote of a term never changes");
            self.hard = hard;
        }
        if let Some(snapshot) = write.snapshot() {
            self.record(snapshot);
        }
        for entry in write.repair() {
            let found =
                self.entries.iter_mut().find(|it| it.position.index == entry.position.index);
            if let Some(slot) = found {
                *slot = entry.clone();
            }
            self.lost.remove(&entry.position.index);
            self.rotten.remove(&entry.position.index);
        }
        if let Some(from) = write.truncate_from() {
            assert!(from.get() > self.covered(), "what a snapshot covers is never truncated");
            self.entries.retain(|entry| entry.position.index < from);
        }
        for entry in &write.append {
            assert_eq!(entry.position.index, self.last().index.next(), "no gap is written");
            self.entries.push(entry.clone());
        }
    }

    fn record(&mut self, snapshot: &SnapshotWrite) {
        let position = snapshot.meta.position;
        assert!(position.index.get() >= self.covered(), "a snapshot never goes back");
        assert_eq!(
            self.files.get(&position.index).map(|file| &file.meta),
            Some(&snapshot.meta),
            "a snapshot is recorded when its file is durable"
        );
        match snapshot.log {
            LogAfterSnapshot::KeepFrom(first) if position.index <= self.last().index => {
                assert!(first <= position.index.next(), "nothing newer than the snapshot goes");
                assert!(first.get() > self.floor(), "what is gone does not come back");
                self.entries.retain(|entry| entry.position.index >= first);
            }
            LogAfterSnapshot::KeepFrom(_) | LogAfterSnapshot::Replace => self.entries.clear(),
        }
        self.snapshot = Some(snapshot.meta.clone());
        let floor = Index::new(self.floor());
        self.lost.retain(|slot| *slot > floor);
        self.rotten.retain(|slot| *slot > floor);
    }

    /// Files that neither the record nor a transfer needs go.
    pub(crate) fn sweep(&mut self, pinned: &[Index]) {
        let covered = Index::new(self.covered());
        self.files.retain(|index, _| *index >= covered || pinned.contains(index));
    }

    pub(crate) fn load(&self, range: IndexRange, bytes_max: u64) -> Result<Vec<Entry>, LoadError> {
        if range.first.get() <= self.floor() {
            return Err(LoadError::Compacted);
        }
        let unreadable = |slot: &Index| self.lost.contains(slot) || self.rotten.contains(slot);
        let slots = (range.first.get()..=range.last.get()).map(Index::new);
        let sound = slots.clone().take_while(|slot| !unreadable(slot)).last();
        let Some(last) = sound else {
            let last = slots.take_while(unreadable).last().unwrap_or(range.first);
            return Err(LoadError::Damaged(IndexRange { first: range.first, last }));
        };
        let asked = range.first..=last;
        let wanted = self.entries.iter().filter(|entry| asked.contains(&entry.position.index));
        let mut bytes = 0;
        let loaded: Vec<Entry> = wanted
            .enumerate()
            .take_while(|(nth, entry)| {
                bytes += entry.cost_bytes();
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, entry)| entry.clone())
            .collect();
        assert!(!loaded.is_empty(), "asked for entries that were never written");
        Ok(loaded)
    }

    /// The last entry that a start can tell of.
    fn last_known(&self) -> Position {
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        let mut known = self.entries.iter().rev().map(|entry| entry.position);
        known.find(|position| !self.lost.contains(&position.index)).unwrap_or(covered)
    }

    fn damage(&self) -> Option<IndexRange> {
        let (first, last) = (self.lost.first().copied()?, self.lost.last().copied()?);
        let last = if self.cut { self.last().index.next() } else { last };
        Some(IndexRange { first, last })
    }

    pub(crate) fn restored(&self, me: Member, cluster: ClusterId) -> Restored {
        let mut terms: Vec<Position> = Vec::new();
        let lost = |entry: &&Entry| self.lost.contains(&entry.position.index);
        // Nobody knows the terms of slots that are lost.
        for entry in self.entries.iter().filter(|entry| !lost(entry)) {
            if terms.last().is_none_or(|start| start.term < entry.position.term) {
                let first =
                    if terms.is_empty() { self.floor() + 1 } else { entry.position.index.get() };
                terms.push(Position::new(entry.position.term, Index::new(first)));
            }
        }
        let configurations = self
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Configuration && !lost(entry))
            .map(|entry| (entry.position.index, Configuration::decode(&entry.bytes).unwrap()))
            .collect();
        Restored {
            me,
            cluster,
            founding: self.founding.clone(),
            hard: self.hard,
            snapshot: self.snapshot.clone(),
            terms,
            configurations,
            last: self.last_known(),
            damage: self.damage(),
        }
    }
}
