//! What a member's disk holds: hard state, log, the record of its newest snapshot, and the files.

use std::collections::BTreeMap;

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
    pub(crate) damage: Option<IndexRange>,
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
        if let Some(snapshot) = &write.snapshot {
            self.record(snapshot);
        }
        if let Some(from) = write.truncate_from {
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
        let asked = range.first..=range.last;
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

    pub(crate) fn restored(&self, me: Member, cluster: ClusterId) -> Restored {
        let mut terms: Vec<Position> = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|start| start.term < entry.position.term) {
                terms.push(entry.position);
            }
        }
        let configurations = self
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Configuration)
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
            last: self.last(),
            damage: self.damage,
        }
    }
}
