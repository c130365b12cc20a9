//! A file system that loses power: names and bytes that were not synchronised may be lost.
//!
//! It keeps what a running process sees apart from what the platter holds. Of what happened in one
//! folder since it was synchronised some beginning is kept; of what was written to one file since
//! it was synchronised any part, in any order.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use meshraft_storage::{Access, SnapshotFile, SnapshotFiles};

use crate::script::Random;

/// The error that a fault is told with: no space, or anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Power is gone: nothing works any more.
    Power,
    /// This one change fails, for want of space.
    NoSpace,
    /// This one change fails.
    Broken,
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(PathBuf, Node),
    Take(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum DataChange {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<DataChange>,
}

#[derive(Clone, Debug, Default)]
struct Platter {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// What happened in each folder since it was synchronised.
    pending: BTreeMap<PathBuf, Vec<NameChange>>,
    inodes: Vec<Inode>,
    /// The change that fails, counted down, and how.
    fuse: Option<(u64, Fault)>,
    dead: bool,
    changes: u64,
    /// The most bytes of one file that were ever not synchronised.
    unsynced_max: usize,
}

/// A handle on the file system; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Arc<Mutex<Platter>>);

impl Files {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// The change after `changes` more fails.
    pub(crate) fn set_fuse(&self, changes: u64, fault: Fault) {
        self.lock().fuse = Some((changes, fault));
    }

    /// How many changes were made or tried.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    pub(crate) fn unsynced_max(&self) -> usize {
        self.lock().unsynced_max
    }

    /// What a process sees that starts after another was killed.
    pub(crate) fn after_kill(&self) -> Self {
        let mut platter = self.lock().clone();
        (platter.fuse, platter.dead) = (None, false);
        Self(Arc::new(Mutex::new(platter)))
    }

    /// What is there when the power is back.
    pub(crate) fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut platter = self.lock().clone();
        (platter.fuse, platter.dead) = (None, false);
        for changes in std::mem::take(&mut platter.pending).into_values() {
            let kept = random.below(changes.len() as u64 + 1) as usize;
            for change in &changes[..kept] {
                apply(&mut platter.durable, change);
            }
        }
        // A name in a folder that is not there is not there either.
        let folders = platter.durable.clone();
        platter.durable.retain(|path, _| {
            let parent = path.parent().unwrap_or(Path::new(""));
            parent.as_os_str().is_empty() || folders.get(parent) == Some(&Node::Folder)
        });
        platter.live = platter.durable.clone();
        platter.inodes.iter_mut().for_each(|inode| inode.lose(random));
        Self(Arc::new(Mutex::new(platter)))
    }

    /// Every file, with its bytes.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let platter = self.lock();
        let files = platter.live.iter().filter_map(|(path, node)| match node {
            Node::Folder => None,
            Node::File(inode) => Some((path.clone(), platter.inodes[*inode].live.clone())),
        });
        files.collect()
    }
}

impl Inode {
    fn lose(&mut self, random: &mut Random) {
        let keep_percent = random.below(101);
        let mut bytes = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if random.below(100) >= keep_percent {
                continue;
            }
            match change {
                DataChange::Length(length) => bytes.resize(length, 0),
                DataChange::Write(at, mut written) => {
                    // Torn: a beginning of it; what is missing before it reads as zeros.
                    if random.below(3) == 0 {
                        written.truncate(random.below(written.len() as u64 + 1) as usize);
                    }
                    put(&mut bytes, at, &written);
                }
            }
        }
        (self.durable, self.live) = (bytes.clone(), bytes);
    }

    fn unsynced(&self) -> usize {
        let written = self.pending.iter().map(|change| match change {
            DataChange::Write(_, bytes) => bytes.len(),
            DataChange::Length(_) => 0,
        });
        written.sum()
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Put(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Take(path) => {
            names.remove(path);
        }
        NameChange::Move(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

impl Platter {
    /// One change is about to be made.
    fn burn(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changes += 1;
        let Some((left, fault)) = &mut self.fuse else { return Ok(()) };
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        let fault = *fault;
        self.fuse = None;
        self.dead = fault == Fault::Power;
        self.alive()?;
        Err(match fault {
            Fault::NoSpace => io::Error::from_raw_os_error(28),
            _ => io::Error::from_raw_os_error(5),
        })
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn change(&mut self, change: NameChange) {
        let (NameChange::Put(path, _) | NameChange::Take(path) | NameChange::Move(path, _)) =
            &change;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        apply(&mut self.live, &change);
        self.pending.entry(folder).or_default().push(change);
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        let is_root = path.as_os_str().is_empty();
        if is_root || self.live.get(path) == Some(&Node::Folder) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct OpenFile {
    files: Files,
    inode: usize,
    at: usize,
}

impl Read for OpenFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let platter = self.files.lock();
        platter.alive()?;
        let mut rest = platter.inodes[self.inode].live.get(self.at..).unwrap_or_default();
        let read = rest.read(out)?;
        self.at += read;
        Ok(read)
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut platter = self.files.lock();
        platter.burn()?;
        let inode = &mut platter.inodes[self.inode];
        put(&mut inode.live, self.at, bytes);
        inode.pending.push(DataChange::Write(self.at, bytes.to_vec()));
        let unsynced = inode.unsynced();
        platter.unsynced_max = platter.unsynced_max.max(unsynced);
        self.at += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for OpenFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.files.lock().inodes[self.inode].live.len();
        self.at = match to {
            SeekFrom::Start(at) => at as usize,
            SeekFrom::End(after) => length.strict_add_signed(after as isize),
            SeekFrom::Current(after) => self.at.strict_add_signed(after as isize),
        };
        Ok(self.at as u64)
    }
}

impl SnapshotFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut platter = self.files.lock();
        platter.burn()?;
        let inode = &mut platter.inodes[self.inode];
        inode.durable = inode.live.clone();
        inode.pending.clear();
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let mut platter = self.files.lock();
        platter.burn()?;
        let inode = &mut platter.inodes[self.inode];
        inode.live.resize(bytes as usize, 0);
        inode.pending.push(DataChange::Length(bytes as usize));
        Ok(())
    }
}

impl SnapshotFiles for Files {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn SnapshotFile>> {
        let mut platter = self.lock();
        platter.alive()?;
        let found = platter.live.get(path).copied();
        let inode = match (found, access) {
            (Some(Node::File(inode)), Access::Read | Access::Edit) => inode,
            (Some(Node::File(inode)), Access::Create) => {
                platter.burn()?;
                platter.inodes[inode].live.clear();
                platter.inodes[inode].pending.push(DataChange::Length(0));
                inode
            }
            (None, Access::Create) => {
                platter.folder(path.parent().unwrap())?;
                platter.burn()?;
                platter.inodes.push(Inode::default());
                let inode = platter.inodes.len() - 1;
                platter.change(NameChange::Put(path.into(), Node::File(inode)));
                inode
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(OpenFile { files: self.clone(), inode, at: 0 }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let platter = self.lock();
        platter.alive()?;
        platter.folder(folder)?;
        let below = platter.live.keys().filter(|path| path.parent() == Some(folder));
        Ok(below.map(|path| path.file_name().unwrap().into()).collect())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.alive()?;
        if platter.folder(folder).is_err() {
            platter.burn()?;
            platter.change(NameChange::Put(folder.into(), Node::Folder));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.burn()?;
        if !platter.live.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        platter.change(NameChange::Move(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.burn()?;
        if !platter.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        platter.change(NameChange::Take(path.into()));
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.burn()?;
        platter.folder(folder)?;
        if platter.live.keys().any(|path| path.parent() == Some(folder)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        platter.change(NameChange::Take(folder.into()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.burn()?;
        platter.folder(folder)?;
        let changes = platter.pending.remove(folder).unwrap_or_default();
        for change in &changes {
            apply(&mut platter.durable, change);
        }
        Ok(())
    }
}
