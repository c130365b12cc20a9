//! A snapshot that is being fetched: bytes of its file are appended until it is whole.
//!
//! Invariants:
//! 1. A group has one partial file at most, so that offers that come to nothing fill no disk.
//! 2. Only a file that was read again from end to end, and is what was asked for, gets its name.

use std::io::{self, Seek as _, SeekFrom, Write as _};

use meshraft_consensus::{Position, SnapshotMeta};

use crate::{
    snapshot::{
        SnapshotError, SnapshotId, SnapshotPart, Snapshots,
        files::{Access, SnapshotFile},
        folder::{Paced, check_position},
        format::{Decoder, Header},
        names::{self, Stage},
    },
    types::GroupId,
};

/// An open file that bytes are appended to.
#[derive(Debug)]
pub(crate) struct Partial {
    position: Position,
    id: SnapshotId,
    file: Paced,
}

impl Snapshots {
    /// What there is of a file that was being fetched, cut to its last whole sound block: whose it
    /// is and how long. `None` if nothing of use is left; it is then removed.
    ///
    /// # Errors
    /// The file system failed; the file is left as it is.
    pub fn resume(
        &self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
        self.close_partial(group, position);
        let mut file = match self.open_file(group, position, Stage::Partial, Access::Edit) {
            Err(SnapshotError::Gone) => return Ok(None),
            opened => opened?,
        };
        let Some((id, sound_bytes)) = sound_prefix(&mut *file, position)? else {
            self.shared.files.remove(&names::path(group, position, Stage::Partial))?;
            return Ok(None);
        };
        file.set_len(sound_bytes)?;
        let partial = self.at_end(position, id, file)?;
        self.partials().insert(group, partial);
        Ok(Some((id, sound_bytes)))
    }

    /// Appends bytes of the file of snapshot `id`, which has `total`, at `offset`; answers where it
    /// goes on. At offset 0 the file of another snapshot, or of another position, gives way. What
    /// was appended may be lost in a crash, see [`Snapshots::resume`].
    ///
    /// # Errors
    /// [`SnapshotError::Gap`] if the file does not end at `offset`, [`SnapshotError::OtherId`] if
    /// it is another's: nothing is changed. After a write that failed it is removed.
    pub fn append(
        &self,
        group: GroupId,
        position: Position,
        id: SnapshotId,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > total {
            return Err(SnapshotError::TooLong { total, end });
        }
        let mut partial = match self.partial(group, position)? {
            Some(partial) if partial.id == id => partial,
            Some(partial) if offset > 0 => {
                let found = partial.id;
                self.partials().insert(group, partial);
                return Err(SnapshotError::OtherId { found });
            }
            None if offset > 0 => return Err(SnapshotError::Gap { expected: 0, found: offset }),
            _ => self.begin(group, position, id)?,
        };
        let expected = partial.file.bytes;
        if offset != expected {
            self.partials().insert(group, partial);
            return Err(SnapshotError::Gap { expected, found: offset });
        }
        match partial.file.write_all(bytes).map_err(SnapshotError::from) {
            Ok(()) => {
                self.partials().insert(group, partial);
                Ok(end)
            }
            Err(error) => {
                // How much of it is there is not known: a sync that fails may drop pages, and the
                // next one succeeds all the same. Only a new file is written from the beginning.
                drop(partial);
                self.remove_partials(group, |_| true).ok();
                Err(error)
            }
        }
    }

    /// Makes a snapshot of a file that was fetched as a whole: checks every byte of it, and that it
    /// is the one that was offered.
    ///
    /// # Errors
    /// Says what is wrong with it. If the fault is the file's, it is removed.
    pub fn finish(&self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        let position = meta.position;
        self.close_partial(group, position);
        let mut file = self.open_file(group, position, Stage::Partial, Access::Edit)?;
        if let Err(error) = check(&mut *file, meta) {
            if !matches!(error, SnapshotError::Io(_)) {
                self.shared.files.remove(&names::path(group, position, Stage::Partial)).ok();
            }
            return Err(error);
        }
        let synced = file.sync().map_err(SnapshotError::from);
        drop(file);
        if let Err(error) = synced {
            // What is read now may be in memory only, and a second sync would not say so.
            self.remove_partials(group, |_| true).ok();
            return Err(error);
        }
        self.publish(group, position, Stage::Partial)
    }

    /// The partial file at a position, opened if need be.
    fn partial(
        &self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<Partial>, SnapshotError> {
        let is_open = |partial: &Partial| partial.position == position;
        if self.partials().get(&group).is_some_and(is_open) {
            return Ok(self.partials().remove(&group));
        }
        let mut file = match self.open_file(group, position, Stage::Partial, Access::Edit) {
            Err(SnapshotError::Gone) => return Ok(None),
            opened => opened?,
        };
        let header = match Header::read(&mut *file) {
            Err(SnapshotError::Io(fault)) => return Err(SnapshotError::Io(fault)),
            Err(_) => return Ok(None),
            Ok(header) => header,
        };
        Ok(Some(self.at_end(position, header.id, file)?))
    }

    fn close_partial(&self, group: GroupId, position: Position) {
        self.partials().retain(|id, partial| *id != group || partial.position != position);
    }

    /// Goes on after the last byte of a file.
    fn at_end(
        &self,
        position: Position,
        id: SnapshotId,
        mut file: Box<dyn SnapshotFile>,
    ) -> io::Result<Partial> {
        let bytes = file.seek(SeekFrom::End(0))?;
        let file = Paced::new(file, bytes, self.shared.options);
        Ok(Partial { position, id, file })
    }

    /// Begins a file; every other partial one of the group goes.
    fn begin(
        &self,
        group: GroupId,
        position: Position,
        id: SnapshotId,
    ) -> Result<Partial, SnapshotError> {
        self.create_group(group)?;
        self.remove_partials(group, |_| true)?;
        let path = names::path(group, position, Stage::Partial);
        let file = self.shared.files.open(&path, Access::Create)?;
        Ok(Partial { position, id, file: Paced::new(file, 0, self.shared.options) })
    }

    /// Removes the partial files of a group at these positions.
    pub(crate) fn remove_partials(
        &self,
        group: GroupId,
        goes: impl Fn(Position) -> bool,
    ) -> io::Result<()> {
        self.partials().retain(|id, partial| *id != group || !goes(partial.position));
        self.remove(group, |position, stage| stage == Stage::Partial && goes(position))
    }
}

/// Whose a partial file is, and up to where it is sound. `None` if not even its header is.
fn sound_prefix(
    file: &mut dyn SnapshotFile,
    position: Position,
) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
    let mut decoder = match Decoder::new(file) {
        Err(SnapshotError::Io(fault)) => return Err(SnapshotError::Io(fault)),
        Err(_) => return Ok(None),
        Ok(decoder) => decoder,
    };
    if check_position(decoder.header(), position).is_err() {
        return Ok(None);
    }
    if let Err(SnapshotError::Io(fault)) = decoder.drain() {
        return Err(SnapshotError::Io(fault));
    }
    Ok(Some((decoder.header().id, decoder.sound_bytes())))
}

fn check(file: &mut dyn SnapshotFile, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
    let mut decoder = Decoder::new(file)?;
    if decoder.header().meta != *meta {
        return Err(SnapshotError::Corrupt { part: SnapshotPart::Meta });
    }
    decoder.drain()
}
