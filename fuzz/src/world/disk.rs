//! The disk of a simulated node: the storage contract with latency, and a crash at any moment.
//!
//! Invariants:
//! 1. What was acknowledged is there after every crash; what was not may be, in the order of
//!    submission. The real one keeps a commit as a whole or not at all; a torn one is harder.
//! 2. One commit at a time; everything submitted meanwhile goes into the next one.
//! 3. A load sees everything submitted, durable or not.
//! 4. Once a commit failed, nothing is durable any more in this process.

use meshraft_consensus::{
    Entry, Index, IndexRange, LoadError, LogAfterSnapshot, LogChange, Namespace, Write, WriteId,
};
use meshraft_storage::{GroupId, Job, MemoryStore, Opened, OpenedNamespace, Ticket};

use super::files::Files;
use crate::{mistake::Mistake, random::Random};

/// What a crash leaves of the commit in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// Whole writes from its beginning, and the beginning of the one after them.
    Part,
}

/// What a copy of a disk holds.
#[derive(Clone, Debug)]
pub(crate) struct DiskCopy {
    store: MemoryStore,
    files: Files,
}

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The snapshots; what is done with them is done at once.
    pub(crate) files: Files,
    /// What survives a crash.
    durable: MemoryStore,
    /// What the running process sees.
    live: MemoryStore,
    writing: Vec<Job>,
    waiting: Vec<Job>,
    /// The next commit fails.
    pub(crate) fails_next: bool,
    /// A commit failed since the process started.
    dead: bool,
    /// By mistake, a commit failed and nobody was told.
    silent: bool,
    /// A mistake of disks, if one was planted.
    mistake: Option<Mistake>,
}

impl Disk {
    pub(crate) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, files: Files::new(mistake), ..Self::default() }
    }

    /// How many times slower than an honest one the commit in progress is: long enough for a crash
    /// to find the disk out.
    pub(crate) fn laziness(&self) -> u32 {
        match self.mistake {
            Some(Mistake::LyingDisk) => 100,
            Some(Mistake::EarlyInstalls) if !self.lies_about(&self.writing).is_empty() => 2000,
            _ => 1,
        }
    }

    /// Which of these jobs the disk says at once to be durable.
    pub(crate) fn lies_about(&self, jobs: &[Job]) -> Vec<Ticket> {
        let installs = |job: &&Job| {
            let Some((_, write)) = job.write() else { return false };
            let log = write.snapshot().map(|snapshot| snapshot.log);
            log == Some(LogAfterSnapshot::Replace)
        };
        match self.mistake {
            Some(Mistake::LyingDisk) => tickets(jobs),
            Some(Mistake::EarlyInstalls) => jobs.iter().filter(installs).map(Job::ticket).collect(),
            _ => Vec::new(),
        }
    }

    /// What a process finds when it starts.
    pub(crate) fn open(&mut self) -> Opened {
        (self.dead, self.silent) = (false, false);
        self.live = self.durable.clone();
        let opened = self.durable.opened();
        // Files in memory are swept without a failure.
        let _ = self.files.memory.sweep(&opened);
        opened
    }

    /// What an open would find of a namespace now; nothing while something is not durable.
    pub(crate) fn reopen(&self, namespace: &Namespace) -> Option<OpenedNamespace> {
        let idle = !self.dead && self.writing.is_empty() && self.waiting.is_empty();
        let found = self.durable.opened().namespaces.into_iter();
        found.filter(|_| idle).find(|found| found.namespace == *namespace)
    }

    /// A copy of everything that is durable.
    pub(crate) fn copy(&self) -> DiskCopy {
        DiskCopy { store: self.durable.clone(), files: self.files.clone() }
    }

    /// A copy takes the place of everything, while no process runs.
    pub(crate) fn put_back(&mut self, copy: DiskCopy) {
        self.durable = copy.store;
        self.files = copy.files;
    }

    /// Loses the newest snapshot of every group that has one.
    pub(crate) fn lose_snapshots(&mut self) -> Vec<GroupId> {
        let groups = self.durable.opened().namespaces.into_iter().flat_map(|it| it.groups);
        let recorded = groups.filter_map(|group| Some((group.group, group.snapshot?.position)));
        let recorded: Vec<_> = recorded.collect();
        for (group, at) in &recorded {
            self.files.memory.lose(*group, *at);
        }
        recorded.into_iter().map(|(group, _)| group).collect()
    }

    /// Which slots each log has durably.
    pub(crate) fn slots(&self) -> Vec<(GroupId, IndexRange)> {
        let groups = self.durable.opened().namespaces.into_iter().flat_map(|it| it.groups);
        let slots = groups.filter_map(|group| {
            let first = group.terms.first()?.index;
            Some((group.group, IndexRange { first, last: group.last.index }))
        });
        slots.collect()
    }

    /// An entry can't be read any more; a start finds out if it is `seen`, else a load.
    pub(crate) fn rot(&mut self, group: GroupId, index: Index, seen: bool) -> bool {
        self.live.rot(group, index, seen);
        self.durable.rot(group, index, seen)
    }

    /// Whether anything can't be read.
    pub(crate) fn rots(&self) -> bool {
        self.durable.rots()
    }

    /// Whether a commit failed since the process started.
    pub(crate) const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Takes the jobs of one drain. Says whether a commit begins.
    #[must_use]
    pub(crate) fn submit(&mut self, jobs: Vec<Job>) -> bool {
        self.live.commit(&jobs);
        if self.dead {
            // The process goes by it until it hears of the failure.
            return false;
        }
        self.waiting.extend(jobs);
        self.begin()
    }

    /// The commit in progress is done: what it held, whether that is durable, and whether another
    /// one begins.
    pub(crate) fn commit(&mut self) -> (Vec<Job>, bool, bool) {
        let jobs = std::mem::take(&mut self.writing);
        if !self.silent {
            self.keep(&jobs);
        }
        let begins = self.begin();
        (jobs, !self.silent, begins)
    }

    /// The commit in progress fails, if one is to. Nobody knows whether it is durable: it is if
    /// `kept`. Returns what became so.
    pub(crate) fn fail(&mut self, kept: bool) -> Option<Vec<Job>> {
        let full = self.files.full;
        if !full && !std::mem::take(&mut self.fails_next) {
            return None;
        }
        if self.mistake == Some(Mistake::SwallowedFailure) {
            self.silent = true;
            return None;
        }
        self.dead = true;
        self.waiting.clear();
        let jobs = std::mem::take(&mut self.writing);
        // A full disk has no room for it.
        if full || !kept {
            return Some(Vec::new());
        }
        self.keep(&jobs);
        Some(jobs)
    }

    /// The process dies. Returns what is durable of the commit in progress.
    pub(crate) fn crash(&mut self, kept: Kept, random: &mut Random) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.writing);
        self.waiting.clear();
        self.fails_next = false;
        match kept {
            Kept::All if !self.silent => {}
            Kept::All | Kept::Nothing => jobs.clear(),
            Kept::Part => tear(&mut jobs, random),
        }
        self.keep(&jobs);
        if self.mistake == Some(Mistake::ForgottenTail) {
            self.forget_tails();
        }
        jobs
    }

    /// Everything is gone; or by mistake all but the records, so that the node takes itself for
    /// what it was. Returns what made them.
    pub(crate) fn wipe(&mut self) -> Vec<Job> {
        let opened = self.durable.opened();
        *self = Self::new(self.mistake);
        if self.mistake != Some(Mistake::KeptIncarnation) {
            return Vec::new();
        }
        let ticket = Ticket::new(0);
        let mut jobs: Vec<Job> = Vec::new();
        for OpenedNamespace { namespace, record, groups } in opened.namespaces {
            let created = groups.into_iter().map(|group| Some((group.group, group.cluster)));
            for create in std::iter::once(None).chain(created) {
                let (namespace, record, drop) = (namespace.clone(), record.clone(), Vec::new());
                jobs.push(Job::Record { ticket, namespace, record, create, drop });
            }
        }
        jobs.sort_by_key(|job| match job {
            Job::Record { create, .. } => create.map(|(group, _)| group),
            Job::Log { .. } | Job::Enter { .. } => None,
        });
        self.durable.commit(&jobs);
        jobs
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
            let (Job::Log { write, .. } | Job::Enter { write, .. }) = job else { continue };
            if let Some(hard) = &mut write.hard {
                hard.vote = None;
            }
        }
        self.durable.commit(&jobs);
    }

    /// Drops the last entry of every log.
    fn forget_tails(&mut self) {
        let opened = self.durable.opened();
        for group in opened.namespaces.iter().flat_map(|namespace| &namespace.groups) {
            let truncate_from = Some(group.last.index);
            let change = Some(Box::new(LogChange { truncate_from, ..LogChange::default() }));
            let write = Write { id: WriteId::ZERO, hard: None, change, append: Vec::new() };
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

/// What a torn commit leaves: some jobs, and of the next one's entries some from the beginning.
fn tear(jobs: &mut Vec<Job>, random: &mut Random) {
    let whole = random.place(jobs.len() + 1);
    let torn = jobs.get(whole).cloned();
    jobs.truncate(whole);
    let Some(Job::Log { ticket, group, mut write }) = torn else { return };
    // A snapshot and what it does to the log are one row.
    if write.snapshot().is_none() && !write.append.is_empty() {
        write.append.truncate(random.place(write.append.len()));
        jobs.push(Job::Log { ticket, group, write });
    }
}

/// The tickets of jobs that became durable.
fn tickets(jobs: &[Job]) -> Vec<Ticket> {
    jobs.iter().map(Job::ticket).collect()
}
