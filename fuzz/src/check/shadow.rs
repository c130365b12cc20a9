//! A shadow of one log: every entry that a node gave its disk, by position and digest.
//!
//! A shadow forgets nothing: what a node compacted stays, and an installed snapshot stands for the
//! entries that were committed up to it. So every check still sees whole logs (thesis 5), and
//! beside them what the node itself has left: its base and its newest snapshot.

use meshraft_consensus::{
    Entry, EntryKind, HardState, Index, LogAfterSnapshot, Position, SnapshotWrite, Term, Write,
};

use crate::digest::Digest;

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryDigest {
    pub(crate) position: Position,
    pub(super) kind: EntryKind,
    pub(super) bytes: Digest,
}

impl EntryDigest {
    pub(super) fn of(entry: &Entry) -> Self {
        let Entry { position, kind, ref bytes } = *entry;
        Self { position, kind, bytes: Digest::of(bytes) }
    }

    /// Whether this is a command of these bytes at a position.
    pub(super) fn is_command(&self, position: Position, bytes: &[u8]) -> bool {
        let kind = EntryKind::Command;
        *self == Self { position, kind, bytes: Digest::of(bytes) }
    }
}

/// A log, whole from its first entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogCopy {
    entries: Vec<EntryDigest>,
    snapshot: Position,
    pub(super) hard: HardState,
}

impl LogCopy {
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(Position::ZERO, |entry| entry.position)
    }

    /// The newest snapshot that the node recorded.
    pub(crate) const fn snapshot(&self) -> Position {
        self.snapshot
    }

    pub(crate) fn at(&self, index: Index) -> Option<EntryDigest> {
        let place = usize::try_from(index.get()).ok()?.checked_sub(1)?;
        self.entries.get(place).copied()
    }

    /// All entries, from the first one on.
    pub(super) fn entries(&self) -> &[EntryDigest] {
        &self.entries
    }

    /// Where each term begins; and, in no term, what follows on the last entry.
    pub(super) fn boundaries(&self) -> Vec<Position> {
        let mut starts: Vec<Position> = Vec::new();
        for EntryDigest { position, .. } in &self.entries {
            if starts.last().is_none_or(|start| start.term < position.term) {
                starts.push(*position);
            }
        }
        starts.push(Position { term: Term::ZERO, index: self.last().index.next() });
        starts
    }

    /// Ends before an index.
    pub(super) fn cut(&mut self, from: Index) {
        self.entries.truncate(place(from.previous()));
    }

    pub(super) fn push(&mut self, entry: EntryDigest) {
        self.entries.push(entry);
    }

    /// Everything of a write but the entries that it appends.
    pub(super) fn prepare(&mut self, write: &Write, committed: &[EntryDigest]) {
        if let Some(snapshot) = write.snapshot() {
            self.record(snapshot, committed);
        }
        self.hard = write.hard.unwrap_or(self.hard);
        if let Some(from) = write.truncate_from() {
            self.entries.truncate(place(from.previous()));
        }
    }

    /// A whole write.
    pub(super) fn write(&mut self, write: &Write, committed: &[EntryDigest]) {
        self.prepare(write, committed);
        self.entries.extend(write.append.iter().map(EntryDigest::of));
    }

    fn record(&mut self, snapshot: &SnapshotWrite, committed: &[EntryDigest]) {
        let position = snapshot.meta.position;
        if position.index < self.snapshot.index {
            return;
        }
        self.snapshot = position;
        match snapshot.log {
            LogAfterSnapshot::KeepFrom(_) if position.index <= self.last().index => {}
            _ => {
                let covered = place(position.index).min(committed.len());
                self.entries = committed.get(..covered).unwrap_or_default().to_vec();
            }
        }
    }
}

/// How many entries stand up to an index.
pub(super) fn place(index: Index) -> usize {
    usize::try_from(index.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meshraft_consensus::{Configuration, LogChange, SnapshotMeta, WriteId};

    use super::*;

    fn entry(index: u64) -> Entry {
        let position = Position { term: Term::new(1), index: Index::new(index) };
        Entry { position, kind: EntryKind::Noop, bytes: Bytes::new() }
    }

    fn snapshot(index: u64, log: LogAfterSnapshot) -> Write {
        let meta = SnapshotMeta {
            position: entry(index).position,
            configuration: Configuration::default(),
            configuration_index: Index::ZERO,
        };
        let snapshot = Some(SnapshotWrite { meta, log });
        let change = Some(Box::new(LogChange { snapshot, ..LogChange::default() }));
        Write { id: WriteId::ZERO, hard: None, change, append: Vec::new() }
    }

    #[test]
    fn a_shadow_keeps_what_its_node_compacts_and_gains_what_it_installs() {
        let committed: Vec<_> = (1..=9).map(|index| EntryDigest::of(&entry(index))).collect();
        let mut log = LogCopy::default();
        for entry in committed.iter().take(5) {
            log.push(*entry);
        }
        log.write(&snapshot(4, LogAfterSnapshot::KeepFrom(Index::new(3))), &committed);
        assert_eq!(log.entries().len(), 5);
        log.write(&snapshot(8, LogAfterSnapshot::Replace), &committed);
        assert_eq!((log.entries().len(), log.last()), (8, entry(8).position));
        // An older one changes nothing.
        log.write(&snapshot(4, LogAfterSnapshot::Replace), &committed);
        assert_eq!(log.snapshot(), entry(8).position);
    }
}
