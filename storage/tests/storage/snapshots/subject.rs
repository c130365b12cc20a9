//! What the tests drive: snapshots behind one face, whichever they are, and makers of test data.

use std::io::{self, Read, Write};

use meshraft_consensus::{Index, Position, SnapshotMeta};
use meshraft_storage::{
    DataDir, GroupId, MemorySnapshots, Opened, OpenedGroup, OpenedNamespace, SnapshotChunk,
    SnapshotError, SnapshotId, SnapshotOptions, Snapshots,
};
use tempfile::TempDir;

use crate::{script::Random, subject::*};

pub(crate) const GROUP: GroupId = GroupId::new(3);

/// Snapshots of either kind.
pub(crate) trait Subject {
    fn sweep(&mut self, opened: &Opened) -> Result<(), SnapshotError>;
    fn take(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        id: SnapshotId,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError>;
    fn read(
        &self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError>;
    fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError>;
    fn append(
        &mut self,
        group: GroupId,
        position: Position,
        id: SnapshotId,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError>;
    fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError>;
    fn restore<T>(
        &self,
        group: GroupId,
        position: Position,
        read: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, SnapshotError>;
    fn verify(
        &self,
        group: GroupId,
        position: Position,
    ) -> Result<(SnapshotId, SnapshotMeta), SnapshotError>;
    fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError>;
    fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError>;
    fn positions(&self, group: GroupId) -> Result<Vec<Position>, SnapshotError>;
    /// The process ends, however, and another begins.
    fn restart(&mut self);
    /// Flips a bit of a whole file.
    fn rot(&mut self, group: GroupId, position: Position, offset: usize);
}

/// Passes every method on to `$target`.
macro_rules! pass_on {
    ($self:ident => $target:expr) => {
        fn sweep(&mut $self, opened: &Opened) -> Result<(), SnapshotError> {
            $target.sweep(opened)
        }
        fn take(
            &mut $self,
            group: GroupId,
            meta: &SnapshotMeta,
            id: SnapshotId,
            write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        ) -> Result<u64, SnapshotError> {
            $target.take(group, meta, id, write)
        }
        fn read(
            &$self,
            group: GroupId,
            position: Position,
            id: Option<SnapshotId>,
            offset: u64,
            bytes_max: u32,
        ) -> Result<SnapshotChunk, SnapshotError> {
            $target.read(group, position, id, offset, bytes_max)
        }
        fn resume(
            &mut $self,
            group: GroupId,
            position: Position,
        ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
            $target.resume(group, position)
        }
        fn append(
            &mut $self,
            group: GroupId,
            position: Position,
            id: SnapshotId,
            total: u64,
            offset: u64,
            bytes: &[u8],
        ) -> Result<u64, SnapshotError> {
            $target.append(group, position, id, total, offset, bytes)
        }
        fn finish(&mut $self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
            $target.finish(group, meta)
        }
        fn restore<T>(
            &$self,
            group: GroupId,
            position: Position,
            read: impl FnOnce(&mut dyn Read) -> T,
        ) -> Result<T, SnapshotError> {
            $target.restore(group, position, read)
        }
        fn verify(
            &$self,
            group: GroupId,
            position: Position,
        ) -> Result<(SnapshotId, SnapshotMeta), SnapshotError> {
            $target.verify(group, position)
        }
        fn retain(
            &mut $self,
            group: GroupId,
            positions: &[Position],
        ) -> Result<(), SnapshotError> {
            $target.retain(group, positions)
        }
        fn drop_group(&mut $self, group: GroupId) -> Result<(), SnapshotError> {
            $target.drop_group(group)
        }
        fn positions(&$self, group: GroupId) -> Result<Vec<Position>, SnapshotError> {
            $target.positions(group)
        }
    };
}

pub(crate) use pass_on;

/// In memory; the wrapper tells the trait's methods from those of the type.
#[derive(Default)]
pub(crate) struct InMemory(pub(crate) MemorySnapshots);

impl Subject for InMemory {
    pass_on!(self => self.0);

    fn restart(&mut self) {}

    fn rot(&mut self, group: GroupId, position: Position, offset: usize) {
        self.0.rot(group, position, offset);
    }
}

/// In a folder of their own.
pub(crate) struct InFolder {
    pub(crate) folder: TempDir,
    pub(crate) snapshots: Option<Snapshots>,
}

impl InFolder {
    pub(crate) fn new() -> Self {
        let mut new = Self { folder: tempfile::tempdir().unwrap(), snapshots: None };
        new.restart();
        new
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        self.snapshots.as_ref().unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        self.folder.path().join("snapshots").join(below)
    }

    /// Everything below the folder of the snapshots, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(self.path(&folder)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(format!("{name}/"));
                }
                names.push(name);
            }
        }
        names.sort();
        names
    }
}

impl Subject for InFolder {
    pass_on!(self => self.snapshots());

    fn restart(&mut self) {
        self.snapshots = None;
        let dir = DataDir::open(self.folder.path()).unwrap();
        // Paced so that every few blocks are synchronised.
        let options = SnapshotOptions { sync_bytes: 200_000 };
        self.snapshots = Some(Snapshots::open(&dir, options).unwrap());
    }

    fn rot(&mut self, group: GroupId, position: Position, offset: usize) {
        let (term, index) = (position.term.get(), position.index.get());
        let path = self.path(&format!("{}/{term}-{index}.snap", group.get()));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

pub(crate) fn id(number: u8) -> SnapshotId {
    SnapshotId::new([number; 16])
}

pub(crate) fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: position(term, index),
        configuration: configuration(&[1, 2, 3]),
        configuration_index: Index::new(1),
    }
}

/// A state of this many bytes that tells its places apart.
pub(crate) fn state(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

/// Takes a snapshot, writing the state in pieces of many lengths.
pub(crate) fn take(subject: &mut impl Subject, meta: &SnapshotMeta, number: u8, state: &[u8]) {
    let write = |out: &mut dyn Write| {
        let (mut rest, mut random) = (state, Random(7));
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + random.below(90_000) as usize));
            out.write_all(piece)?;
            rest = after;
        }
        Ok(())
    };
    let total = subject.take(GROUP, meta, id(number), write).unwrap();
    assert_eq!(total, file(subject, meta.position).len() as u64);
}

/// The bytes of a file, read in chunks.
pub(crate) fn file(subject: &impl Subject, position: Position) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let offset = bytes.len() as u64;
        let chunk = subject.read(GROUP, position, None, offset, 70_001).unwrap();
        assert_eq!(chunk.offset, offset);
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() as u64 == chunk.total {
            return bytes;
        }
        assert!(!chunk.bytes.is_empty(), "a chunk before the end is empty");
    }
}

/// Reads a state to its end.
pub(crate) fn restored(
    subject: &impl Subject,
    position: Position,
) -> Result<Vec<u8>, SnapshotError> {
    let read = |input: &mut dyn Read| {
        let mut state = Vec::new();
        input.read_to_end(&mut state).map(|_| state)
    };
    Ok(subject.restore(GROUP, position, read)?.unwrap())
}

/// What a store says that knows these groups, with what was recorded of each.
pub(crate) fn opened(groups: &[(u64, Option<SnapshotMeta>)]) -> Opened {
    let namespaces = groups.iter().map(|(number, snapshot)| OpenedNamespace {
        namespace: namespace(&format!("namespace {number}")),
        record: Vec::new().into(),
        groups: vec![OpenedGroup {
            group: GroupId::new(*number),
            cluster: meshraft_consensus::ClusterId::new([1; 32]),
            hard: hard(1, None, 0),
            snapshot: snapshot.clone(),
            terms: Vec::new(),
            configurations: Vec::new(),
            last: snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position),
            damage: None,
        }],
    });
    Opened { next_group: GroupId::new(99), namespaces: namespaces.collect() }
}
