//! The contract of [`crate::Snapshots`] as a plain value, for the simulator and as the twin that
//! tests compare with. It holds the same bytes, and shares nothing with the real one but what those
//! bytes mean and which of them stay.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use bytes::Bytes;
use meshraft_consensus::{Position, SnapshotMeta};

use crate::{
    snapshot::{
        SnapshotChunk, SnapshotError, SnapshotId, SnapshotPart, Snapshots,
        format::{Decoder, Encoder, Header},
        keep,
    },
    types::{GroupId, Opened},
};

/// Snapshots in memory; see [`Snapshots`] for what each method promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySnapshots {
    groups: BTreeMap<GroupId, Files>,
    bytes_max: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    whole: BTreeMap<Position, Bytes>,
    partial: Option<Partial>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Partial {
    position: Position,
    /// `None` if its header got lost in a crash.
    id: Option<SnapshotId>,
    bytes: Vec<u8>,
}

impl MemorySnapshots {
    /// What a loss of power leaves: of a partial file some bytes from its beginning, and sometimes
    /// zeros after them. How many follows from the file alone, so that a run can be replayed.
    pub fn crash(&mut self) {
        for files in self.groups.values_mut() {
            let Some(partial) = &mut files.partial else { continue };
            let draw = crc32c::crc32c(&partial.bytes) as usize;
            let length = partial.bytes.len();
            let kept = draw % (length + 1);
            partial.bytes.truncate(kept);
            if draw & 1 << 20 != 0 {
                partial.bytes.resize(length, 0);
            }
            partial.id = Header::read(&mut &partial.bytes[..]).ok().map(|header| header.id);
        }
    }

    /// From now on all files together hold this many bytes at most; `None` takes the bound away.
    pub fn limit_bytes(&mut self, bytes_max: Option<u64>) {
        self.bytes_max = bytes_max;
    }

    /// Flips one bit of a whole file; nothing if there is no such byte.
    pub fn rot(&mut self, group: GroupId, position: Position, offset: usize) {
        let file = self.groups.get_mut(&group).and_then(|files| files.whole.get_mut(&position));
        let Some(file) = file else { return };
        let mut bytes = file.to_vec();
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= 1;
        }
        *file = bytes.into();
    }

    /// Loses a whole file.
    pub fn lose(&mut self, group: GroupId, position: Position) {
        if let Some(files) = self.groups.get_mut(&group) {
            files.whole.remove(&position);
        }
    }

    /// See [`Snapshots::sweep`].
    ///
    /// # Errors
    /// Never; it has the type of the real one's.
    pub fn sweep(&mut self, opened: &Opened) -> Result<(), SnapshotError> {
        let known = keep::groups_of(opened);
        self.groups.retain(|id, _| known.contains_key(id));
        for (id, files) in &mut self.groups {
            let positions: Vec<Position> = files.whole.keys().copied().collect();
            files.whole.retain(|position, _| keep::stays(known[id], *position, &positions));
        }
        Ok(())
    }

    /// See [`Snapshots::take`].
    ///
    /// # Errors
    /// As there.
    pub fn take(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError> {
        let mut encoder = Encoder::new(Room { bytes: Vec::new(), left: self.left() }, id, meta)?;
        if let Err(error) = write(&mut encoder) {
            return Err(encoder.take_fault().unwrap_or_else(|| error.into()));
        }
        let file = Bytes::from(encoder.finish()?.bytes);
        let total = file.len() as u64;
        self.groups.entry(group).or_default().whole.insert(meta.position, file);
        Ok(total)
    }

    /// See [`Snapshots::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(
        &self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError> {
        let file = self.whole(group, position)?;
        let header = Header::read(&mut &file[..])?;
        let (found, total) = (header.id, file.len() as u64);
        if header.meta.position != position {
            return Err(SnapshotError::Corrupt { part: SnapshotPart::Meta });
        }
        if id.is_some_and(|id| id != found) {
            return Err(SnapshotError::OtherId { found });
        }
        if offset > total {
            return Err(SnapshotError::Gap { expected: total, found: offset });
        }
        let bytes_max = u64::from(bytes_max.min(Snapshots::READ_BYTES_MAX));
        let end = total.min(offset.saturating_add(bytes_max));
        let bytes = file.slice(offset as usize..end as usize);
        Ok(SnapshotChunk { id: found, total, offset, bytes })
    }

    /// See [`Snapshots::resume`].
    ///
    /// # Errors
    /// Never; it has the type of the real one's.
    pub fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
        let place = self.groups.get_mut(&group).map(|files| &mut files.partial);
        let Some(place) = place.filter(|place| is_at(place.as_ref(), position)) else {
            return Ok(None);
        };
        let sound = place.as_ref().and_then(|partial| sound_prefix(&partial.bytes, position));
        match (sound, &mut *place) {
            (Some((id, bytes)), Some(partial)) => {
                partial.bytes.truncate(bytes as usize);
                partial.id = Some(id);
            }
            _ => *place = None,
        }
        Ok(sound)
    }

    /// See [`Snapshots::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(
        &mut self,
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
        let left = self.left();
        let place = &mut self.groups.entry(group).or_default().partial;
        let found = place.as_ref().filter(|partial| partial.position == position);
        let found = found.and_then(|partial| Some((partial.id?, partial.bytes.len() as u64)));
        let expected = match found {
            Some((found, length)) if found == id => length,
            Some((found, _)) if offset > 0 => return Err(SnapshotError::OtherId { found }),
            _ => 0,
        };
        if offset != expected {
            return Err(SnapshotError::Gap { expected, found: offset });
        }
        let freed = match place {
            Some(old) if offset == 0 => old.bytes.len() as u64,
            _ => 0,
        };
        if bytes.len() as u64 > left.saturating_add(freed) {
            *place = None;
            return Err(SnapshotError::NoSpace);
        }
        if offset == 0 {
            *place = Some(Partial { position, id: Some(id), bytes: Vec::new() });
        }
        place.iter_mut().for_each(|partial| partial.bytes.extend_from_slice(bytes));
        Ok(end)
    }

    /// See [`Snapshots::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        let files = self.groups.get_mut(&group).ok_or(SnapshotError::Gone)?;
        if !is_at(files.partial.as_ref(), meta.position) {
            return Err(SnapshotError::Gone);
        }
        let Some(partial) = files.partial.take() else { return Err(SnapshotError::Gone) };
        check(&partial.bytes, |found| found == meta)?;
        files.whole.insert(meta.position, partial.bytes.into());
        Ok(())
    }

    /// See [`Snapshots::restore`].
    ///
    /// # Errors
    /// As there.
    pub fn restore<T>(
        &self,
        group: GroupId,
        position: Position,
        read: impl FnOnce(&mut dyn io::Read) -> T,
    ) -> Result<T, SnapshotError> {
        let mut file = &self.whole(group, position)?[..];
        let mut decoder = Decoder::new(&mut file)?;
        if decoder.header().meta.position != position {
            return Err(SnapshotError::Corrupt { part: SnapshotPart::Meta });
        }
        let state = read(&mut decoder);
        decoder.drain()?;
        Ok(state)
    }

    /// See [`Snapshots::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(
        &self,
        group: GroupId,
        position: Position,
    ) -> Result<(SnapshotId, SnapshotMeta), SnapshotError> {
        check(self.whole(group, position)?, |meta| meta.position == position)
    }

    /// See [`Snapshots::retain`].
    ///
    /// # Errors
    /// Never; it has the type of the real one's.
    pub fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError> {
        if let Some(files) = self.groups.get_mut(&group) {
            files.whole.retain(|position, _| positions.contains(position));
            files.partial.take_if(|partial| !keep::is_ahead(partial.position, positions));
        }
        Ok(())
    }

    /// See [`Snapshots::drop_group`].
    ///
    /// # Errors
    /// Never; it has the type of the real one's.
    pub fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError> {
        self.groups.remove(&group);
        Ok(())
    }

    /// See [`Snapshots::positions`].
    ///
    /// # Errors
    /// Never; it has the type of the real one's.
    pub fn positions(&self, group: GroupId) -> Result<Vec<Position>, SnapshotError> {
        let files = self.groups.get(&group);
        Ok(files.map(|files| files.whole.keys().copied().collect()).unwrap_or_default())
    }

    fn whole(&self, group: GroupId, position: Position) -> Result<&Bytes, SnapshotError> {
        let file = self.groups.get(&group).and_then(|files| files.whole.get(&position));
        file.ok_or(SnapshotError::Gone)
    }

    /// How many more bytes there is room for.
    fn left(&self) -> u64 {
        let used: usize = self.groups.values().map(Files::bytes).sum();
        self.bytes_max.map_or(u64::MAX, |bytes_max| bytes_max.saturating_sub(used as u64))
    }
}

impl Files {
    fn bytes(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        self.whole.values().map(Bytes::len).sum::<usize>() + partial
    }
}

fn is_at(partial: Option<&Partial>, position: Position) -> bool {
    partial.is_some_and(|partial| partial.position == position)
}

fn sound_prefix(mut file: &[u8], position: Position) -> Option<(SnapshotId, u64)> {
    let mut decoder = Decoder::new(&mut file).ok()?;
    if decoder.header().meta.position != position {
        return None;
    }
    decoder.drain().ok();
    Some((decoder.header().id, decoder.sound_bytes()))
}

fn check(
    mut file: &[u8],
    is_right: impl FnOnce(&SnapshotMeta) -> bool,
) -> Result<(SnapshotId, SnapshotMeta), SnapshotError> {
    let mut decoder = Decoder::new(&mut file)?;
    if !is_right(&decoder.header().meta) {
        return Err(SnapshotError::Corrupt { part: SnapshotPart::Meta });
    }
    decoder.drain()?;
    Ok((decoder.header().id, decoder.header().meta.clone()))
}

/// A file that may only grow so far.
struct Room {
    bytes: Vec<u8>,
    left: u64,
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        };
        self.left = left;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
