//! The disk of a simulated node: the storage contract with latency, and a crash at any moment.
//!
//! Invariants:
//! 1. What was acknowledged is there after every crash; what was not may be, as a whole commit or
//!    not at all, in the order of submission.
//! 2. One commit at a time; everything submitted meanwhile goes into the next one.
//! 3. A load sees everything submitted, durable or not.

use meshraft_consensus::{Entry, IndexRange, LoadError};
use meshraft_storage::{GroupId, Job, MemoryStore, Opened, Ticket};

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What survives a crash.
    durable: MemoryStore,
    /// What the running process sees.
    live: MemoryStore,
    writing: Vec<Job>,
    waiting: Vec<Job>,
}

impl Disk {
    /// What a process finds when it starts.
    pub(crate) fn open(&mut self) -> Opened {
        self.live = self.durable.clone();
        self.durable.opened()
    }

    /// Takes the jobs of one drain. Says whether a commit begins.
    #[must_use]
    pub(crate) fn submit(&mut self, jobs: Vec<Job>) -> bool {
        self.live.commit(&jobs);
        self.waiting.extend(jobs);
        self.begin()
    }

    /// The commit in progress is done: what it held is durable, and whether another one begins.
    pub(crate) fn commit(&mut self) -> (Vec<Job>, bool) {
        let jobs = std::mem::take(&mut self.writing);
        self.durable.commit(&jobs);
        let begins = self.begin();
        (jobs, begins)
    }

    /// The process dies. The commit in progress is done as a whole, or not at all.
    pub(crate) fn crash(&mut self, commit_done: bool) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.writing);
        self.waiting.clear();
        if commit_done {
            self.durable.commit(&jobs);
        } else {
            jobs.clear();
        }
        jobs
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        self.live.load(group, range, bytes_max)
    }

    fn begin(&mut self) -> bool {
        if self.writing.is_empty() && !self.waiting.is_empty() {
            self.writing = std::mem::take(&mut self.waiting);
            return true;
        }
        false
    }
}

/// The tickets of jobs that became durable.
pub(crate) fn tickets(jobs: &[Job]) -> Vec<Ticket> {
    jobs.iter().map(Job::ticket).collect()
}
