//! What the tests drive: a store behind one face, whichever it is, and small makers of test data.

use std::{
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Configuration, Entry, EntryKind, HardState, Incarnation, Index, IndexRange,
    LoadError, LogChange, Member, Namespace, NodeId, Position, SnapshotMeta, SnapshotWrite, Term,
    Write, WriteId,
};
use meshraft_storage::{
    Ack, DataDir, GroupId, Job, LogAfterSnapshot, MemoryStore, Opened, OpenedNamespace, Store,
    StoreOptions, Ticket,
};
use tempfile::TempDir;

/// Longer than any commit takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A store of either kind.
pub(crate) trait Subject {
    /// Makes jobs durable and waits until they are acknowledged.
    fn commit(&mut self, jobs: Vec<Job>);
    /// Closes and opens again; answers what was found.
    fn reopen(&mut self) -> Opened;
    /// What a reopening would find of a namespace.
    fn found(&self, namespace: &Namespace) -> Option<OpenedNamespace>;
    /// Reads entries.
    fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError>;
}

impl Subject for MemoryStore {
    fn commit(&mut self, jobs: Vec<Job>) {
        Self::commit(self, &jobs);
    }

    fn reopen(&mut self) -> Opened {
        self.opened()
    }

    fn found(&self, namespace: &Namespace) -> Option<OpenedNamespace> {
        Self::reopen(self, namespace)
    }

    fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        Self::load(self, group, range, bytes_max)
    }
}

/// The real store in a folder of its own.
pub(crate) struct OnDisk {
    folder: TempDir,
    store: Option<(Store, Receiver<Ack>)>,
}

impl OnDisk {
    pub(crate) fn new() -> Self {
        let mut new = Self { folder: tempfile::tempdir().unwrap(), store: None };
        new.reopen();
        new
    }

    /// Closes the store and keeps the folder.
    pub(crate) fn into_folder(mut self) -> TempDir {
        if let Some((store, _)) = self.store.take() {
            store.close();
        }
        self.folder
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("log.redb")).unwrap().len()
    }

    /// The same folder as the process leaves it that is killed now; not open yet.
    pub(crate) fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["format", "log.redb"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        Self { folder, store: None }
    }

    /// How much of the disk the file takes.
    pub(crate) fn allocated(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(self.folder.path().join("log.redb")).unwrap().blocks() * 512
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    pub(crate) fn acks(&self) -> &Receiver<Ack> {
        &self.store.as_ref().unwrap().1
    }
}

impl Subject for OnDisk {
    fn commit(&mut self, jobs: Vec<Job>) {
        let expected = jobs.iter().map(Job::ticket).collect();
        self.store().submit(jobs);
        assert_eq!(self.acks().recv_timeout(PATIENCE).unwrap(), Ack::Durable(expected));
    }

    fn reopen(&mut self) -> Opened {
        if let Some((store, _)) = self.store.take() {
            store.close();
        }
        let (sender, acks) = mpsc::channel();
        let dir = DataDir::open(self.folder.path()).unwrap();
        let acknowledge = move |ack| sender.send(ack).unwrap();
        let (store, opened) = Store::open(&dir, StoreOptions::default(), acknowledge).unwrap();
        self.store = Some((store, acks));
        opened
    }

    fn found(&self, namespace: &Namespace) -> Option<OpenedNamespace> {
        self.store().reopen(namespace).unwrap()
    }

    fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        self.store().load(group, range, bytes_max)
    }
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

pub(crate) fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

pub(crate) fn hard(term: u64, vote: Option<u8>, commit: u64) -> HardState {
    let vote = vote.map(member);
    HardState { term: Term::new(term), vote, commit_hint: Index::new(commit) }
}

pub(crate) fn position(term: u64, index: u64) -> Position {
    Position::new(Term::new(term), Index::new(index))
}

pub(crate) fn range(first: u64, last: u64) -> IndexRange {
    IndexRange { first: Index::new(first), last: Index::new(last) }
}

pub(crate) fn command(term: u64, index: u64, bytes: impl Into<Bytes>) -> Entry {
    Entry { position: position(term, index), kind: EntryKind::Command, bytes: bytes.into() }
}

pub(crate) fn configuration(voters: &[u8]) -> Configuration {
    Configuration::of_voters(voters.iter().map(|number| member(*number)))
}

pub(crate) fn configuration_entry(term: u64, index: u64, voters: &[u8]) -> Entry {
    let bytes = configuration(voters).encode();
    Entry { position: position(term, index), kind: EntryKind::Configuration, bytes }
}

pub(crate) fn create(name: &str, group: u64) -> Job {
    Job::Record {
        ticket: Ticket::new(group),
        namespace: namespace(name),
        record: Bytes::from(format!("record of {name}")),
        create: Some((GroupId::new(group), ClusterId::new([group as u8; 32]))),
        drop: Vec::new(),
    }
}

pub(crate) fn write(truncate_from: Option<u64>, append: Vec<Entry>) -> Write {
    let change = truncate_from.map(|from| {
        let truncate_from = Some(Index::new(from));
        Box::new(LogChange { truncate_from, ..LogChange::default() })
    });
    Write { id: WriteId::new(1), hard: None, change, append }
}

pub(crate) fn log(ticket: u64, group: u64, write: Write) -> Job {
    Job::Log { ticket: Ticket::new(ticket), group: GroupId::new(group), write }
}

pub(crate) fn append(ticket: u64, group: u64, entries: Vec<Entry>) -> Job {
    log(ticket, group, write(None, entries))
}

pub(crate) fn snapshot(group: u64, covered: Position, log: LogAfterSnapshot) -> Job {
    self::log(0, group, with_snapshot(covered, log, write(None, Vec::new())))
}

pub(crate) fn with_snapshot(covered: Position, log: LogAfterSnapshot, write: Write) -> Write {
    let meta = SnapshotMeta {
        position: covered,
        configuration: configuration(&[1, 2, 3]),
        configuration_index: Index::new(1),
    };
    let snapshot = Some(SnapshotWrite { meta, log });
    let mut write = write;
    write.change.get_or_insert_default().snapshot = snapshot;
    write
}
