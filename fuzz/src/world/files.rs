//! The snapshots of a simulated node: the files' contract in memory, and what planted mistakes make
//! of it.

use std::{collections::BTreeMap, io};

use meshraft::host::SnapshotStore;
use meshraft_consensus::{Position, SnapshotMeta};
use meshraft_service::SnapshotWriter;
use meshraft_storage::{GroupId, MemorySnapshots, SnapshotChunk, SnapshotError, SnapshotId};

use crate::mistake::Mistake;

/// The files of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) memory: MemorySnapshots,
    /// No space is left.
    pub(crate) full: bool,
    /// The next read fails.
    pub(crate) fails_next: bool,
    mistake: Option<Mistake>,
    /// What the newest snapshot of each group holds, for a disk that writes old states.
    newest: BTreeMap<GroupId, Vec<u8>>,
}

impl Files {
    pub(crate) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    fn room(&self) -> Result<(), SnapshotError> {
        if self.full { Err(SnapshotError::NoSpace) } else { Ok(()) }
    }

    /// What is written under a snapshot's name: the state, or by mistake an older one.
    fn contents(&mut self, group: GroupId, writer: SnapshotWriter) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        writer(&mut bytes)?;
        if self.mistake != Some(Mistake::OldSnapshots) {
            return Ok(bytes);
        }
        let old = self.newest.insert(group, bytes.clone());
        Ok(old.unwrap_or(bytes))
    }
}

impl SnapshotStore for Files {
    fn take(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        writer: SnapshotWriter,
    ) -> Result<u64, SnapshotError> {
        self.room()?;
        let contents = self.contents(group, writer)?;
        self.memory.take(group, meta, id, |to| to.write_all(&contents))
    }

    fn read(
        &mut self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError> {
        if std::mem::take(&mut self.fails_next) {
            return Err(io::Error::other("planned").into());
        }
        self.memory.read(group, position, id, offset, bytes_max)
    }

    fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
        self.memory.resume(group, position)
    }

    fn append(
        &mut self,
        group: GroupId,
        position: Position,
        id: SnapshotId,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError> {
        self.room()?;
        self.memory.append(group, position, id, total, offset, bytes)
    }

    fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        self.memory.finish(group, meta)
    }

    fn restore(
        &mut self,
        group: GroupId,
        position: Position,
        read: &mut dyn FnMut(&mut dyn io::Read),
    ) -> Result<(), SnapshotError> {
        self.memory.restore(group, position, read)
    }

    fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError> {
        self.memory.retain(group, positions)
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError> {
        self.memory.drop_group(group)
    }
}
