//! The disk under one core: what is durable, what was handed to it, and files of snapshots.
//!
//! Invariants:
//! 1. Writes become durable in order, each as a whole.
//! 2. A read sees everything that was handed over, durable or not.

use std::collections::{BTreeMap, VecDeque};

use meshraft_consensus::{
    ClusterId, Configuration, Entry, EntryKind, HardState, Index, IndexRange, LoadError,
    LogAfterSnapshot, Member, Position, Restored, SnapshotMeta, Write,
};

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
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
}

/// One disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    durable: Log,
    live: Log,
    waiting: VecDeque<Write>,
    files: BTreeMap<Position, File>,
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
        Some(write)
    }

    /// What is not durable is lost.
    pub(super) fn crash(&mut self) {
        self.waiting.clear();
        self.live = self.durable.clone();
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

    pub(super) fn load(&self, range: IndexRange, bytes_max: u64) -> Result<Vec<Entry>, LoadError> {
        self.live.load(range, bytes_max)
    }

    pub(super) fn restored(
        &self,
        me: Member,
        cluster: ClusterId,
        founding: Option<Vec<Member>>,
    ) -> Restored {
        let log = &self.durable;
        let mut terms: Vec<Position> = Vec::new();
        for entry in &log.entries {
            if terms.last().is_none_or(|start| start.term < entry.position.term) {
                terms.push(entry.position);
            }
        }
        let logged = log.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
        let configurations = logged.filter_map(|entry| {
            Some((entry.position.index, Configuration::decode(&entry.bytes).ok()?))
        });
        Restored {
            me,
            cluster,
            founding,
            hard: log.hard,
            snapshot: log.snapshot.clone(),
            terms,
            configurations: configurations.collect(),
            last: log.last(),
            damage: None,
        }
    }
}

impl Log {
    fn last(&self) -> Position {
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        self.entries.last().map_or(covered, |entry| entry.position)
    }

    fn first(&self) -> Index {
        self.entries.first().map_or_else(|| self.last().index.next(), |first| first.position.index)
    }

    /// Where the entry of a slot stands.
    fn place(&self, index: Index) -> usize {
        usize::try_from(index.distance_from(self.first().previous()).saturating_sub(1))
            .unwrap_or(usize::MAX)
            .min(self.entries.len())
    }

    fn write(&mut self, write: &Write) {
        self.hard = write.hard.unwrap_or(self.hard);
        if let Some(snapshot) = &write.snapshot {
            let position = snapshot.meta.position;
            match snapshot.log {
                LogAfterSnapshot::KeepFrom(first) if position.index <= self.last().index => {
                    let gone = self.place(first.max(self.first()));
                    self.entries.drain(..gone);
                }
                LogAfterSnapshot::KeepFrom(_) | LogAfterSnapshot::Replace => self.entries.clear(),
            }
            self.snapshot = Some(snapshot.meta.clone());
        }
        if let Some(from) = write.truncate_from {
            let kept = if from < self.first() { 0 } else { self.place(from) };
            self.entries.truncate(kept);
        }
        self.entries.extend(write.append.iter().cloned());
    }

    fn load(&self, range: IndexRange, bytes_max: u64) -> Result<Vec<Entry>, LoadError> {
        if range.first < self.first() {
            return Err(LoadError::Compacted);
        } else if range.last > self.last().index {
            return Err(LoadError::Truncated);
        }
        let (from, to) = (self.place(range.first), self.place(range.last.next()));
        let mut bytes = 0;
        let wanted = self.entries.get(from..to).unwrap_or_default().iter().enumerate();
        let loaded = wanted.take_while(|(nth, entry)| {
            bytes += entry.cost_bytes();
            *nth == 0 || bytes <= bytes_max
        });
        Ok(loaded.map(|(_, entry)| entry.clone()).collect())
    }
}
