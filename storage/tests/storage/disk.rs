//! A disk that loses power: what was not synchronised is lost, torn or reordered.
//!
//! It keeps what a running process sees apart from what the platter holds. redb assumes that bytes
//! outside a write never change and that one byte is written whole; so does this disk.

use std::{
    io,
    sync::{Arc, Mutex},
};

use meshraft_storage::StorageBackend;

use crate::script::Random;

const SECTOR: u64 = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Platter {
    /// What survives for certain.
    durable: Vec<u8>,
    /// What a running process sees.
    live: Vec<u8>,
    /// What happened since the last synchronisation.
    pending: Vec<Change>,
    /// Power fails at this many more changes or synchronisations.
    fuse: Option<u64>,
    fault: Option<Fault>,
    dead: bool,
    pub(crate) synchronisations: u64,
}

/// What a living disk may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next synchronisation fails, those after it succeed.
    SynchroniseOnce,
    /// No write succeeds, for want of space.
    Full,
    /// No read succeeds.
    Unreadable,
}

/// A handle on the disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// Power fails after `changes` more changes.
    pub(crate) fn set_fuse(&self, changes: u64) {
        self.0.lock().unwrap().fuse = Some(changes);
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    pub(crate) fn synchronisations(&self) -> u64 {
        self.0.lock().unwrap().synchronisations
    }

    /// What a process that runs on sees: the page cache after a crash of the process alone.
    pub(crate) fn live(&self) -> Vec<u8> {
        self.0.lock().unwrap().live.clone()
    }

    /// Flips a bit of every occurrence of `bytes`.
    pub(crate) fn flip(&self, bytes: &[u8]) {
        let live = &mut self.0.lock().unwrap().live;
        let found: Vec<usize> =
            (0..live.len() - bytes.len()).filter(|at| live[*at..].starts_with(bytes)).collect();
        assert!(!found.is_empty(), "the bytes to be flipped are on the disk");
        found.iter().for_each(|at| live[*at] ^= 1);
    }

    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let durable = bytes.clone();
        Self(Arc::new(Mutex::new(Platter { durable, live: bytes, ..Platter::default() })))
    }

    /// The disk after the power came back.
    pub(crate) fn after_power_loss(&self, random: &mut Random) -> Self {
        let platter = self.0.lock().unwrap();
        let mut image = platter.durable.clone();
        let keep_percent = random.below(101);
        let mut kept: Vec<&Change> =
            platter.pending.iter().filter(|_| random.below(100) < keep_percent).collect();
        if random.below(2) == 0 {
            for at in (1..kept.len()).rev() {
                kept.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        // A file's length is in its inode, not in its order: it is there before what it makes room
        // for, or not at all.
        let mut lengths = kept.iter().filter_map(|change| match change {
            Change::Length(length) => Some(*length),
            Change::Write(..) => None,
        });
        if let Some(length) = lengths.next_back() {
            image.resize(length as usize, 0);
        }
        for change in kept {
            if let Change::Write(offset, bytes) = change {
                tear(&mut image, *offset, bytes, random);
            }
        }
        Self::holding(image)
    }
}

/// Writes all of it, or in one case of three only some sectors.
fn tear(image: &mut [u8], offset: u64, bytes: &[u8], random: &mut Random) {
    let torn = random.below(3) == 0;
    let mut at = 0;
    while at < bytes.len() {
        let sector_end = (offset + at as u64) / SECTOR * SECTOR + SECTOR;
        let end = bytes.len().min((sector_end - offset) as usize);
        if !torn || random.below(2) == 0 {
            let start = offset as usize + at;
            if let Some(place) = image.get_mut(start..start + end - at) {
                place.copy_from_slice(&bytes[at..end]);
            }
        }
        at = end;
    }
}

impl Platter {
    fn burn(&mut self) -> io::Result<()> {
        if let Some(fuse) = &mut self.fuse {
            if *fuse == 0 {
                self.dead = true;
            }
            *fuse = fuse.saturating_sub(1);
        }
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        if platter.dead || platter.fault == Some(Fault::Unreadable) {
            return Err(io::Error::other("the disk does not answer"));
        }
        let start = offset as usize;
        let found = platter.live.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.burn()?;
        platter.live.resize(length as usize, 0);
        platter.pending.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.burn()?;
        if platter.fault == Some(Fault::SynchroniseOnce) {
            platter.fault = None;
            return Err(io::Error::from_raw_os_error(5));
        }
        platter.synchronisations += 1;
        platter.durable = platter.live.clone();
        platter.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.burn()?;
        if platter.fault == Some(Fault::Full) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let start = offset as usize;
        platter.live[start..start + bytes.len()].copy_from_slice(bytes);
        platter.pending.push(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }
}
