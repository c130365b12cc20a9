//! Work on snapshots' files, off the driver: on blocking threads, few at a time, the rest in line.
//!
//! Invariants:
//! 1. The jobs of one group are carried out in order, one at a time; reads beside them.
//! 2. Groups take turns, so that one with much to do delays the others by a job at most.
//! 3. A node that ends waits for the jobs that run, and these break off soon: nothing touches the
//!    folder once it is given back.
//!
//! The lines are bounded by what hosts leave outstanding: a handful of jobs for each group.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use meshraft_consensus::{Position, SnapshotMeta};
use meshraft_service::SnapshotWriter;
use meshraft_storage::{GroupId, SnapshotChunk, SnapshotError, SnapshotId, Snapshots};
use tokio::sync::mpsc;

use crate::host::{SnapshotDone, SnapshotJob, SnapshotStore};

/// Groups worked on at a time: states are encoded and hashed meanwhile, which takes a processor.
const GROUPS_MAX: usize = 2;
/// Reads for other members at a time.
const READS_MAX: usize = 4;

/// What a job came to: its group, if it was in line, and the answer, if there is one.
pub(crate) struct Finished {
    group: Option<GroupId>,
    /// What the host is told.
    pub(crate) done: Option<SnapshotDone>,
}

/// The jobs of a node.
pub(crate) struct SnapshotJobs {
    files: Files,
    lines: BTreeMap<GroupId, VecDeque<SnapshotJob>>,
    /// Groups that have jobs in line and none that runs, in the order of their turns.
    turns: VecDeque<GroupId>,
    reads: VecDeque<SnapshotJob>,
    groups_running: usize,
    reads_running: usize,
    finished: mpsc::Sender<Finished>,
}

impl SnapshotJobs {
    /// Jobs on these files; what they came to comes out of the receiver.
    pub(crate) fn new(snapshots: Snapshots) -> (Self, mpsc::Receiver<Finished>) {
        // Each running job sends one message, so that sending never waits.
        let (finished, receiver) = mpsc::channel(GROUPS_MAX + READS_MAX);
        let jobs = Self {
            files: Files { snapshots, ending: Arc::new(AtomicBool::new(false)) },
            lines: BTreeMap::new(),
            turns: VecDeque::new(),
            reads: VecDeque::new(),
            groups_running: 0,
            reads_running: 0,
            finished,
        };
        (jobs, receiver)
    }

    /// Carries a job out, now or when its turn comes.
    pub(crate) fn want(&mut self, job: SnapshotJob) {
        if job.work.is_read() {
            self.reads.push_back(job);
        } else {
            let group = job.group;
            // A line is there from a group's first job until it has none left, running or waiting.
            let line = self.lines.entry(group).or_insert_with(|| {
                self.turns.push_back(group);
                VecDeque::new()
            });
            line.push_back(job);
        }
        self.start();
    }

    /// Must be called once for each [`Finished`] that was received.
    pub(crate) fn finished(&mut self, finished: &Finished) {
        match finished.group {
            None => self.reads_running -= 1,
            Some(group) => {
                self.groups_running -= 1;
                if self.lines.get(&group).is_some_and(VecDeque::is_empty) {
                    self.lines.remove(&group);
                } else {
                    self.turns.push_back(group);
                }
            }
        }
        self.start();
    }

    /// How many jobs are under way.
    pub(crate) const fn running(&self) -> usize {
        self.groups_running + self.reads_running
    }

    /// Forgets what waits, and has what runs break off.
    pub(crate) fn end(&mut self) {
        self.files.ending.store(true, Ordering::Relaxed);
        self.turns.clear();
        self.reads.clear();
        for line in self.lines.values_mut() {
            line.clear();
        }
    }

    fn start(&mut self) {
        while self.reads_running < READS_MAX
            && let Some(job) = self.reads.pop_front()
        {
            self.reads_running += 1;
            self.spawn(None, job);
        }
        while self.groups_running < GROUPS_MAX
            && let Some(group) = self.turns.pop_front()
        {
            let Some(job) = self.lines.get_mut(&group).and_then(VecDeque::pop_front) else {
                continue;
            };
            self.groups_running += 1;
            self.spawn(Some(group), job);
        }
    }

    fn spawn(&self, group: Option<GroupId>, job: SnapshotJob) {
        let (mut files, finished) = (self.files.clone(), self.finished.clone());
        tokio::task::spawn_blocking(move || {
            let done = job.run(&mut files);
            // Fails only if the driver is gone, and then nobody wants the answer.
            let _ = finished.blocking_send(Finished { group, done });
        });
    }
}

/// The files of a node, as jobs see them: whoever reads or writes a state stops when the node ends.
#[derive(Clone)]
struct Files {
    snapshots: Snapshots,
    ending: Arc<AtomicBool>,
}

/// Passes bytes through until the node ends.
struct Until<'a, T: ?Sized> {
    inner: &'a mut T,
    ending: &'a AtomicBool,
}

impl<T: ?Sized> Until<'_, T> {
    fn check(&self) -> io::Result<()> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        Ok(())
    }
}

impl<T: io::Write + ?Sized> io::Write for Until<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: io::Read + ?Sized> io::Read for Until<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(buffer)
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
        let ending = &*self.ending;
        let write = |inner: &mut dyn io::Write| writer(&mut Until { inner, ending });
        self.snapshots.take(group, meta, id, write)
    }

    fn read(
        &mut self,
        group: GroupId,
        position: Position,
        id: Option<SnapshotId>,
        offset: u64,
        bytes_max: u32,
    ) -> Result<SnapshotChunk, SnapshotError> {
        self.snapshots.read(group, position, id, offset, bytes_max)
    }

    fn resume(
        &mut self,
        group: GroupId,
        position: Position,
    ) -> Result<Option<(SnapshotId, u64)>, SnapshotError> {
        self.snapshots.resume(group, position)
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
        self.snapshots.append(group, position, id, total, offset, bytes)
    }

    fn finish(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        self.snapshots.finish(group, meta)
    }

    fn restore(
        &mut self,
        group: GroupId,
        position: Position,
        read: &mut dyn FnMut(&mut dyn io::Read),
    ) -> Result<(), SnapshotError> {
        let ending = &*self.ending;
        let read = |inner: &mut dyn io::Read| read(&mut Until { inner, ending });
        self.snapshots.restore(group, position, read)
    }

    fn retain(&mut self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError> {
        self.snapshots.retain(group, positions)
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), SnapshotError> {
        self.snapshots.drop_group(group)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use meshraft_consensus::{Configuration, Index, Namespace, Term};
    use meshraft_storage::{DataDir, SnapshotOptions};

    use super::*;
    use crate::host::{Done, SnapshotWork};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn take(group: u64, index: u64, writer: SnapshotWriter) -> SnapshotJob {
        let meta = SnapshotMeta {
            position: Position::new(Term::new(1), Index::new(index)),
            configuration: Configuration::default(),
            configuration_index: Index::ZERO,
        };
        let work = SnapshotWork::Take { meta, id: SnapshotId::new([1; 16]), writer };
        let namespace = Namespace::new("/n").unwrap();
        SnapshotJob { namespace, group: GroupId::new(group), life: 1, work }
    }

    fn jobs() -> (tempfile::TempDir, SnapshotJobs, mpsc::Receiver<Finished>) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        let files = Snapshots::open(&dir, SnapshotOptions::default()).unwrap();
        let (jobs, finished) = SnapshotJobs::new(files);
        (folder, jobs, finished)
    }

    #[tokio::test]
    async fn jobs_of_a_group_keep_their_order_and_few_run_at_once() {
        let (_folder, mut jobs, mut finished) = jobs();
        let running = Arc::new(Mutex::new((0, 0)));
        for index in 1..=5 {
            for group in 1..=4 {
                let running = Arc::clone(&running);
                let writer = Box::new(move |to: &mut dyn io::Write| {
                    let mut counts = running.lock().unwrap();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                    drop(counts);
                    to.write_all(&[7; 1000])?;
                    running.lock().unwrap().0 -= 1;
                    Ok(())
                });
                jobs.want(take(group, index, writer));
            }
        }
        let mut done = BTreeMap::<GroupId, Vec<u64>>::new();
        while jobs.running() > 0 {
            let one = tokio::time::timeout(PATIENCE, finished.recv()).await.unwrap().unwrap();
            jobs.finished(&one);
            let told = one.done.unwrap();
            let Done::Taken { meta, result: Ok(_) } = told.done else { panic!("{told:?}") };
            done.entry(told.group).or_default().push(meta.position.index.get());
        }
        assert_eq!(done.len(), 4);
        assert!(done.values().all(|order| *order == [1, 2, 3, 4, 5]), "{done:?}");
        assert!(running.lock().unwrap().1 <= GROUPS_MAX, "{running:?}");
    }

    #[tokio::test]
    async fn a_node_that_ends_waits_for_no_state_to_be_written() {
        let (_folder, mut jobs, mut finished) = jobs();
        let endless = |to: &mut dyn io::Write| loop {
            to.write_all(&[0; 64])?;
        };
        for index in 1..=3 {
            jobs.want(take(1, index, Box::new(endless)));
        }
        assert_eq!(jobs.running(), 1);
        jobs.end();
        let one = tokio::time::timeout(PATIENCE, finished.recv()).await.unwrap().unwrap();
        jobs.finished(&one);
        let told = one.done.unwrap();
        assert!(matches!(told.done, Done::Taken { result: Err(_), .. }), "{told:?}");
        assert_eq!(jobs.running(), 0, "what waited is forgotten");
    }
}
