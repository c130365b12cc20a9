//! The disk of a simulated node: the storage contract with latency, and a crash at any moment.
//!
//! Invariants:
//! 1. What was acknowledged is there after every crash; what was not may be, as a whole commit or
//!    not at all, in the order of submission.
//! 2. One commit at a time; everything submitted meanwhile goes into the next one.
//! 3. A load sees everything submitted, durable or not.

use meshraft_consensus::{Entry, Index, IndexRange, LoadError, Write, WriteId};
use meshraft_storage::{GroupId, Job, MemoryStore, Opened, Ticket};

use crate::mistake::Mistake;

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What survives a crash.
    durable: MemoryStore,
    /// What the running process sees.
    live: MemoryStore,
    writing: Vec<Job>,
    waiting: Vec<Job>,
    /// A mistake of disks, if one was planted.
    mistake: Option<Mistake>,
}

impl Disk {
    pub(crate) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    /// Whether this disk says at once that what it got is durable.
    pub(crate) fn lies(&self) -> bool {
        self.mistake == Some(Mistake::LyingDisk)
    }

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
        self.keep(&jobs);
        let begins = self.begin();
        (jobs, begins)
    }

    /// The process dies. The commit in progress is done as a whole, or not at all.
    pub(crate) fn crash(&mut self, commit_done: bool) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.writing);
        self.waiting.clear();
        if commit_done {
            self.keep(&jobs);
        } else {
            jobs.clear();
        }
        if self.mistake == Some(Mistake::ForgottenTail) {
            self.forget_tails();
        }
        jobs
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Self::new(self.mistake);
    }

    pub(crate) fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        self.live.load(group, range, bytes_max)
    }

    /// Makes jobs durable, or what a planted mistake leaves of them.
    fn keep(&mut self, jobs: &[Job]) {
        if self.mistake != Some(Mistake::ForgottenVotes) {
            self.durable.commit(jobs);
            return;
        }
        let mut jobs = jobs.to_vec();
        for job in &mut jobs {
            if let Job::Log { write: Write { hard: Some(hard), .. }, .. } = job {
                hard.vote = None;
            }
        }
        self.durable.commit(&jobs);
    }

    /// Drops the last entry of every log.
    fn forget_tails(&mut self) {
        let opened = self.durable.opened();
        for group in opened.namespaces.iter().flat_map(|namespace| &namespace.groups) {
            let write = Write {
                id: WriteId::ZERO,
                snapshot: None,
                hard: None,
                truncate_from: Some(group.last.index),
                append: Vec::new(),
            };
            if group.last.index > Index::ZERO {
                let (ticket, group) = (Ticket::new(0), group.group);
                self.durable.commit(&[Job::Log { ticket, group, write }]);
            }
        }
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
