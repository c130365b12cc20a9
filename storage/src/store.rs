//! The store as its users see it: open, submit, load, close.
//!
//! Everything shared lies behind one lock that is held for look-ups only, never during a
//! transaction or a read of the file.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use meshraft_consensus::{Entry, IndexRange, LoadError, Namespace, Write};
use redb::StorageBackend;

use crate::{
    batch::Queued,
    catalog::Catalog,
    dir::DataDir,
    disk::Disk,
    error::OpenError,
    load,
    rebuild::rebuild,
    reopen,
    types::{Ack, GroupId, Job, Opened, OpenedNamespace},
    writer,
};

/// How a store is run. The defaults suit a node with hundreds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for the pages of the log file, in bytes. Appends need next to none of it.
    pub cache_bytes: usize,
    /// About how many bytes of entries one commit takes at most, so that none takes long; a single
    /// job may exceed it.
    pub commit_bytes_max: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, commit_bytes_max: 8 << 20 }
    }
}

/// How much the log holds, not counting large payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in rows.
    pub stored_bytes: u64,
    /// About how many of them are still needed.
    pub live_bytes: u64,
}

/// The log of every namespace of a node. Clones share it; when the last goes, what was submitted is
/// committed and the log is closed.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What readers, the writer and those who submit have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Signalled when jobs were queued or the store shall close.
    pub(crate) work: Condvar,
    /// Signalled when jobs became durable, and when none will any more.
    pub(crate) settled: Condvar,
    pub(crate) commit_bytes_max: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) queue: VecDeque<Queued>,
    /// Writes submitted and not published, by group and in order.
    pub(crate) pending: BTreeMap<GroupId, VecDeque<Arc<Write>>>,
    /// How many jobs were ever submitted, and how many of them are durable and in the catalog.
    pub(crate) submitted: u64,
    pub(crate) durable: u64,
    /// No job is taken any more.
    pub(crate) closed: bool,
    /// No job becomes durable any more.
    pub(crate) stopped: bool,
    /// `None` once the store is closed.
    pub(crate) disk: Option<Arc<Disk>>,
}

impl Store {
    /// Opens the log in `dir`, or creates it, and starts the writer's thread. Blocks while the log
    /// is read: about a second per gigabyte.
    ///
    /// `acks` is called on the writer's thread, right after each commit; what it does delays the
    /// next one.
    ///
    /// # Errors
    /// Says why the log can't be used. Damage of single logs is no error, see
    /// [`crate::OpenedGroup::damage`].
    pub fn open(
        dir: &DataDir,
        options: StoreOptions,
        acks: impl FnMut(Ack) + Send + 'static,
    ) -> Result<(Self, Opened), OpenError> {
        Self::start(|| Disk::open(dir, options.cache_bytes), options, acks)
    }

    /// The same on any storage, for tests of what a crash leaves behind. The storage is not locked.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        options: StoreOptions,
        acks: impl FnMut(Ack) + Send + 'static,
    ) -> Result<(Self, Opened), OpenError> {
        Self::start(|| Disk::open_on(backend, options.cache_bytes), options, acks)
    }

    fn start(
        disk: impl FnOnce() -> Result<Disk, OpenError>,
        options: StoreOptions,
        acks: impl FnMut(Ack) + Send + 'static,
    ) -> Result<(Self, Opened), OpenError> {
        let disk = Arc::new(Disk::catching(disk)?);
        let (catalog, opened) = rebuild(&disk)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                catalog,
                queue: VecDeque::new(),
                pending: BTreeMap::new(),
                submitted: 0,
                durable: 0,
                closed: false,
                stopped: false,
                disk: Some(Arc::clone(&disk)),
            }),
            work: Condvar::new(),
            settled: Condvar::new(),
            commit_bytes_max: options.commit_bytes_max,
        });
        let writer = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("meshraft-store".into())
                .spawn(move || writer::run(&shared, &disk, acks))
                .map_err(OpenError::Thread)?
        };
        let handle = Handle { shared, writer: Mutex::new(Some(writer)) };
        Ok((Self { handle: Arc::new(handle) }, opened))
    }

    /// Queues jobs for the next commit and returns at once. They are committed together with all
    /// that is queued by then, and acknowledged in the order of submission.
    ///
    /// The queue is bounded by what the cores leave outstanding. After a failure, or after
    /// [`Store::close`], jobs are dropped and never acknowledged.
    pub fn submit(&self, jobs: Vec<Job>) {
        let mut state = self.handle.shared.lock();
        if state.closed || jobs.is_empty() {
            return;
        }
        state.submitted += jobs.len() as u64;
        for job in jobs {
            let job = Queued::from(job);
            if let Some((group, write)) = job.write() {
                state.pending.entry(group).or_default().push_back(Arc::clone(write));
            }
            state.queue.push_back(job);
        }
        drop(state);
        self.handle.shared.work.notify_one();
    }

    /// Reads entries of a group: a prefix of `range`, up to but not including the entry that would
    /// take their cost ([`Entry::cost_bytes`]) over `bytes_max`, but at least one. Blocks while the
    /// file is read, and sees everything that was submitted before.
    ///
    /// # Errors
    /// Says why not even the first entry can be read.
    pub fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        load::load(&self.handle.shared, group, range, bytes_max)
    }

    /// What an open of the store would find of a namespace now, for one that is opened again while
    /// the store stays open; `None` if there is no such namespace. Blocks until all that was
    /// submitted before is durable; nothing may be submitted for the namespace meanwhile. Must not
    /// be called in an acknowledgement, which durability waits for.
    ///
    /// # Errors
    /// [`OpenError::Closed`] once the store is closed or failed, else that it can't be read.
    pub fn reopen(&self, namespace: &Namespace) -> Result<Option<OpenedNamespace>, OpenError> {
        reopen::reopen(&self.handle.shared, namespace)
    }

    /// How much the log holds. Takes time in proportion to the number of rows.
    pub fn usage(&self) -> Usage {
        let (stored_bytes, live_bytes) = self.handle.shared.lock().catalog.rows.bytes();
        Usage { stored_bytes, live_bytes }
    }

    /// Commits what was submitted, acknowledges it, and closes the log. Other clones then load
    /// nothing and drop what they are given.
    pub fn close(self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            // The last clone may go inside an acknowledgement; the thread then ends by itself.
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("store writer panicked");
        }
        let disk = self.shared.lock().disk.take();
        drop(disk);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A panic elsewhere does not make the state wrong: every change of it is made after what can
    /// fail.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no job any more and forgets those that are queued.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.stopped = true;
        state.queue.clear();
        drop(state);
        self.settled.notify_all();
    }
}
