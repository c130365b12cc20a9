//! The snapshots of a node on its disk: taking, serving, restoring.
//!
//! Invariants:
//! 1. A file is synchronised before it gets its name, and the name before success is told.
//! 2. Whatever fails, every file but the one being written stays as it was.
//! 3. What a checksum does not prove is not restored.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meshraft_consensus::{Position, SnapshotMeta};

use crate::{
    dir::DataDir,
    snapshot::{
        SnapshotChunk, SnapshotError, SnapshotId, SnapshotOptions, SnapshotPart, SnapshotsError,
        files::{Access, Folder, SnapshotFile, SnapshotFiles},
        format::{Decoder, Encoder, Header},
        names::{self, Stage},
        partial::Partial,
    },
    types::GroupId,
};

/// The snapshots of a node, as files in a folder of its data folder; clones share it.
///
/// Every method blocks. Calls about different groups may overlap; of those about one group only
/// [`Snapshots::read`], [`Snapshots::restore`] and [`Snapshots::verify`] may, with anything.
#[derive(Clone, Debug)]
pub struct Snapshots {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Box<dyn SnapshotFiles>,
    pub(crate) options: SnapshotOptions,
    /// Files that are being fetched and were written to by this process.
    partials: Mutex<BTreeMap<GroupId, Partial>>,
}

impl Snapshots {
    /// The most bytes that [`Snapshots::read`] gives at once.
    pub const READ_BYTES_MAX: u32 = 4 << 20;

    /// Opens the snapshots in `dir`, and creates the folder for them.
    ///
    /// # Errors
    /// Says why the folder can't be used.
    pub fn open(dir: &DataDir, options: SnapshotOptions) -> Result<Self, SnapshotsError> {
        Self::open_on(Folder::open(dir)?, options)
    }

    /// The same on any file system, for tests of what a crash leaves behind.
    ///
    /// # Errors
    /// As [`Snapshots::open`].
    pub fn open_on(
        files: impl SnapshotFiles,
        options: SnapshotOptions,
    ) -> Result<Self, SnapshotsError> {
        let files = Box::new(files);
        let shared = Shared { files, options, partials: Mutex::new(BTreeMap::new()) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Writes a snapshot: `write` streams the state, of any length. Answers how long the file is,
    /// once it is durable; a file that was at this position is replaced.
    ///
    /// # Errors
    /// Says why there is none. The unfinished file is removed.
    pub fn take(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError> {
        let new = names::path(group, meta.position, Stage::New);
        self.create_group(group)?;
        let taken = self.write_new(&new, meta, id, write);
        let taken = taken.and_then(|bytes| {
            self.publish(group, meta.position, Stage::New)?;
            Ok(bytes)
        });
        if taken.is_err() {
            self.shared.files.remove(&new).ok();
        }
        taken
    }

    fn write_new(
        &self,
        path: &Path,
        meta: &SnapshotMeta,
        id: SnapshotId,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError> {
        let file = self.shared.files.open(path, Access::Create)?;
        let mut encoder = Encoder::new(Paced::new(file, 0, self.shared.options), id, meta)?;
        if let Err(error) = write(&mut encoder) {
            // What the file system said, however it was passed on.
            return Err(encoder.take_fault().unwrap_or_else(|| error.into()));
        }
        let mut paced = encoder.finish()?;
        paced.file.sync()?;
        Ok(paced.bytes)
    }

    /// Reads bytes of a file, as they are, from `offset`: up to `bytes_max` and up to
    /// [`Snapshots::READ_BYTES_MAX`] of them. `id` says whose file it must be.
    ///
    /// # Errors
    /// [`SnapshotError::OtherId`] if it is another's, [`SnapshotError::Gap`] beyond its end; the
    /// header alone is checked.
    pub fn read(
        &self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError> {
        let mut file = self.open_file(group, position, Stage::Whole, Access::Read)?;
        let header = Header::read(&mut *file)?;
        check_position(&header, position)?;
        let total = file.seek(SeekFrom::End(0))?;
        if id.is_some_and(|id| id != header.id) {
            return Err(SnapshotError::OtherId { found: header.id });
        }
        let Some(left) = total.checked_sub(offset) else {
            return Err(SnapshotError::Gap { expected: total, found: offset });
        };
        let bytes = left.min(u64::from(bytes_max.min(Self::READ_BYTES_MAX)));
        let mut chunk = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        file.seek(SeekFrom::Start(offset))?;
        file.take(bytes).read_to_end(&mut chunk)?;
        Ok(SnapshotChunk { id: header.id, total, offset, bytes: chunk.into() })
    }

    /// Hands the state of a snapshot to `read`, which need not read all of it. Each block is
    /// checked before it is handed on; one that is damaged is an error of the reader inside, and
    /// what this answers. A file that is removed meanwhile is read to its end.
    ///
    /// # Errors
    /// Says why the state can't be had; what `read` made of it until then is no state.
    pub fn restore<T>(
        &self,
        group: GroupId,
        position: Position,
        read: impl FnOnce(&mut dyn io::Read) -> T,
    ) -> Result<T, SnapshotError> {
        let mut file = self.open_file(group, position, Stage::Whole, Access::Read)?;
        let mut decoder = Decoder::new(&mut *file)?;
        check_position(decoder.header(), position)?;
        let state = read(&mut decoder);
        decoder.drain()?;
        Ok(state)
    }

    /// Reads a whole file and checks all of it; answers what it stands for.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn verify(
        &self,
        group: GroupId,
        position: Position,
    ) -> Result<(SnapshotId, SnapshotMeta), SnapshotError> {
        let mut file = self.open_file(group, position, Stage::Whole, Access::Read)?;
        let mut decoder = Decoder::new(&mut *file)?;
        check_position(decoder.header(), position)?;
        decoder.drain()?;
        let header = decoder.header();
        Ok((header.id, header.meta.clone()))
    }

    pub(crate) fn open_file(
        &self,
        group: GroupId,
        position: Position,
        stage: Stage,
        access: Access,
    ) -> Result<Box<dyn SnapshotFile>, SnapshotError> {
        let path = names::path(group, position, stage);
        self.shared.files.open(&path, access).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::Gone,
            _ => error.into(),
        })
    }

    pub(crate) fn create_group(&self, group: GroupId) -> io::Result<()> {
        self.shared.files.create_folder(&names::folder(group))
    }

    /// Gives a file that is whole and synchronised its name.
    pub(crate) fn publish(
        &self,
        group: GroupId,
        position: Position,
        from: Stage,
    ) -> Result<(), SnapshotError> {
        let files = &self.shared.files;
        let whole = names::path(group, position, Stage::Whole);
        files.rename(&names::path(group, position, from), &whole)?;
        files.sync_folder(&names::folder(group))?;
        // The group's folder may be new, or its creator may not have come so far.
        files.sync_folder(Path::new(""))?;
        Ok(())
    }

    /// A panic elsewhere leaves the list of partial files right: it is changed in single steps.
    pub(crate) fn partials(&self) -> MutexGuard<'_, BTreeMap<GroupId, Partial>> {
        self.shared.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file under the name of another position is not what was asked for.
pub(crate) fn check_position(header: &Header, position: Position) -> Result<(), SnapshotError> {
    if header.meta.position == position {
        return Ok(());
    }
    Err(SnapshotError::Corrupt { part: SnapshotPart::Meta })
}

/// A file that is synchronised every so often while it is written.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) file: Box<dyn SnapshotFile>,
    /// How long the file is.
    pub(crate) bytes: u64,
    unsynced_bytes: u64,
    sync_bytes: u64,
}

impl Paced {
    /// Goes on where a file of `bytes` ends.
    pub(crate) fn new(file: Box<dyn SnapshotFile>, bytes: u64, options: SnapshotOptions) -> Self {
        Self { file, bytes, unsynced_bytes: 0, sync_bytes: options.sync_bytes }
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.unsynced_bytes += written as u64;
        if self.unsynced_bytes >= self.sync_bytes {
            self.file.sync()?;
            self.unsynced_bytes = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
