//! Carries out what a node asks of snapshots' files: the same way on real files and simulated ones.
//!
//! A panic of the state machine, which writes and reads the state in a file, is told like any other
//! failure.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use meshraft_consensus::{Position, SnapshotMeta};
use meshraft_service::{Replicated, SnapshotWriter};
use meshraft_storage::{GroupId, MemorySnapshots, SnapshotChunk, SnapshotError, SnapshotId};

use super::snapshot_io::{Done, RestoreFailure, SnapshotDone, SnapshotJob, SnapshotWork};

/// Where the files are that jobs are carried out on: real ones, or those of a simulation.
pub trait SnapshotStore {
    /// Writes a snapshot, durably, and says how many bytes its file has.
    ///
    /// # Errors
    /// Says why there is none; nothing else was touched.
    fn take(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        writer: SnapshotWriter,
    ) -> Result<u64, SnapshotError>;

    /// Reads bytes of a file.
    ///
    /// # Errors
    /// Says why there are none.
    fn read(
        &mut self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError>;

    /// What an earlier fetch left.
    ///
    /// # Errors
    /// Says why that can't be told.
    fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError>;

    /// Appends to a file that is being fetched, and says where it goes on.
    ///
    /// # Errors
    /// Says why the bytes were not appended.
    fn append(
        &mut self,
        group: GroupId,
        position: Position,
        id: SnapshotId,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError>;

    /// Checks a fetched file and makes it durable.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError>;

    /// Hands the contents of a file to `read`.
    ///
    /// # Errors
    /// Says what is wrong with the file, whatever `read` made of it.
    fn restore(
        &mut self,
        group: GroupId,
        position: Position,
        read: &mut dyn FnMut(&mut dyn io::Read),
    ) -> Result<(), SnapshotError>;

    /// Removes every file of the group but these.
    ///
    /// # Errors
    /// Says why some are left.
    fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError>;

    /// Removes every file of the group.
    ///
    /// # Errors
    /// Says why some are left.
    fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError>;
}

impl SnapshotJob {
    /// Carries the job out. Blocks; a panic of the state machine is told like any other failure.
    pub fn run(self, files: &mut dyn SnapshotStore) -> Option<SnapshotDone> {
        let Self { namespace, group, life, work } = self;
        run(work, group, files).map(|done| SnapshotDone { namespace, group, life, done })
    }
}

fn run(work: SnapshotWork, group: GroupId, files: &mut dyn SnapshotStore) -> Option<Done> {
    Some(match work {
        SnapshotWork::Take { meta, id, writer } => {
            let result = caught(|| files.take(group, &meta, id, writer));
            Done::Taken { meta, result }
        }
        SnapshotWork::Read { token, position, id, offset, bytes_max } => {
            let result = caught(|| files.read(group, position, id, offset, bytes_max));
            Done::Read { token, result }
        }
        SnapshotWork::Resume { position } => {
            let result = caught(|| files.resume(group, position));
            Done::Resumed { position, result }
        }
        SnapshotWork::Append { position, id, total, offset, bytes } => {
            let result = caught(|| files.append(group, position, id, total, offset, &bytes));
            Done::Appended { position, result }
        }
        SnapshotWork::Finish { meta } => {
            let result = caught(|| files.finish(group, &meta));
            Done::Finished { meta, result }
        }
        SnapshotWork::Restore { meta, mut state } => {
            let result = restore(group, &meta, &mut state, files);
            Done::Restored { meta, state, result }
        }
        SnapshotWork::Retain { positions } => {
            if let Err(error) = caught(|| files.retain(group, &positions)) {
                tracing::warn!(%group, %error, "old snapshots not removed");
            }
            return None;
        }
        SnapshotWork::Drop => {
            if let Err(error) = caught(|| files.drop_group(group)) {
                tracing::warn!(%group, %error, "snapshots of a dropped group not removed");
            }
            return None;
        }
    })
}

/// The writer is the state machine's code, so it may panic.
fn caught<T>(act: impl FnOnce() -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
    let panicked = |_| Err(SnapshotError::Io(io::Error::from(io::ErrorKind::Other).into()));
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(panicked)
}

fn restore(
    group: GroupId,
    meta: &SnapshotMeta,
    state: &mut Replicated,
    files: &mut dyn SnapshotStore,
) -> Result<(), RestoreFailure> {
    let mut read = None;
    let act = || files.restore(group, meta.position, &mut |from| read = Some(state.restore(from)));
    // What is wrong with the file tells more than what the state made of it.
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| RestoreFailure::Panicked)??;
    match read {
        Some(Ok(found)) if found == *meta => Ok(()),
        Some(Ok(found)) => Err(RestoreFailure::OtherState { found: found.position }),
        Some(Err(error)) => Err(error.into()),
        None => Err(RestoreFailure::Missing),
    }
}

impl SnapshotStore for MemorySnapshots {
    fn take(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        writer: SnapshotWriter,
    ) -> Result<u64, SnapshotError> {
        Self::take(self, group, meta, id, writer)
    }

    fn read(
        &mut self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError> {
        Self::read(self, group, position, id, offset, bytes_max)
    }

    fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
        Self::resume(self, group, position)
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
        Self::append(self, group, position, id, total, offset, bytes)
    }

    fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        Self::finish(self, group, meta)
    }

    fn restore(
        &mut self,
        group: GroupId,
        position: Position,
        read: &mut dyn FnMut(&mut dyn io::Read),
    ) -> Result<(), SnapshotError> {
        Self::restore(self, group, position, read)
    }

    fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError> {
        Self::retain(self, group, positions)
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError> {
        Self::drop_group(self, group)
    }
}
