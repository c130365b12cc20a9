//! Carries out the jobs on a node's snapshots: with latency, in order within a group, reads beside.
//!
//! Invariants:
//! 1. The process goes on while a job is under way, and hears of it later.
//! 2. A crash loses jobs that are not done: a snapshot that was being taken is not there, and of a
//!    file that was being fetched some bytes from its beginning may be left.
//! 3. What a snapshot holds is compared with what was applied, when it is written and when it is
//!    restored.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use meshraft::host::{Done, Input, SnapshotDone, SnapshotJob, SnapshotWork};
use meshraft_consensus::{ClusterId, SnapshotMeta};
use meshraft_service::{
    Replicated,
    kv::{Found, KvQuery},
};
use meshraft_storage::GroupId;

use super::{Event, Seat, World, versions::NEWEST};
use crate::{
    check::{Held, Violation},
    counts::Rare,
    faults::{Fault, Faults},
    machine::{Recorder, Recording},
    workload::{key_bytes, value_number},
};

/// The jobs that wait, group by group; the first of each is under way.
pub(super) type SnapshotJobs = BTreeMap<GroupId, VecDeque<SnapshotJob>>;

impl World {
    /// A host asks for something to be done with snapshots.
    pub(super) fn snapshot(&mut self, seat: Seat, job: SnapshotJob) {
        let now = self.clock.now();
        self.trace.note(now, format_args!("n{} {} {:?}", seat.0, job.group, job.work));
        let life = self.node(seat).life;
        let wait = self.snapshot_latency();
        if job.work.is_read() {
            let job = Box::new(job);
            self.clock.after(wait, Event::SnapshotRead { seat, life, job });
            return;
        }
        let group = job.group;
        let Some(process) = &mut self.node_mut(seat).process else { return };
        let queue = process.snapshots.entry(group).or_default();
        queue.push_back(job);
        if queue.len() == 1 {
            self.clock.after(wait, Event::SnapshotJob { seat, life, group });
        }
    }

    /// Mostly quick; sometimes longer than a crash or an election is away.
    fn snapshot_latency(&mut self) -> Duration {
        let longest = Duration::from_millis(1 << self.random.below(8));
        let wait = self.random.between(Duration::from_micros(50), longest);
        let stalls = self.force.hits(Fault::Stall, &mut self.random);
        if stalls { wait + Faults::STALL_MAX } else { wait }
    }

    pub(super) fn snapshot_read(
        &mut self,
        seat: Seat,
        life: u64,
        job: SnapshotJob,
    ) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let fails = self.force.hits(Fault::ReadError, &mut self.random);
        let files = &mut self.node_mut(seat).disk.files;
        files.fails_next = fails;
        match job.run(files) {
            Some(done) => self.input(seat, Input::Snapshot(done)),
            None => Ok(()),
        }
    }

    /// The first job of a group is done; the next one begins.
    pub(super) fn snapshot_job(
        &mut self,
        seat: Seat,
        life: u64,
        group: GroupId,
    ) -> Result<(), Violation> {
        let wait = self.snapshot_latency();
        let Some(process) = self.node_mut(seat).living(life) else { return Ok(()) };
        let Some(queue) = process.snapshots.get_mut(&group) else { return Ok(()) };
        let job = queue.pop_front();
        if queue.is_empty() {
            process.snapshots.remove(&group);
        } else {
            self.clock.after(wait, Event::SnapshotJob { seat, life, group });
        }
        let done = job.and_then(|job| job.run(&mut self.node_mut(seat).disk.files));
        let Some(done) = done else { return Ok(()) };
        self.trace.note(self.clock.now(), format_args!("n{} {group} {:?}", seat.0, done.done));
        self.look_at(seat, &done)?;
        self.input(seat, Input::Snapshot(done))
    }

    /// A crash while a job is under way: it may be done although nobody hears of it.
    pub(super) fn crash_snapshots(
        &mut self,
        seat: Seat,
        jobs: SnapshotJobs,
    ) -> Result<(), Violation> {
        for mut queue in jobs.into_values() {
            let Some(job) = queue.pop_front().filter(|_| self.random.below(2) == 0) else {
                continue;
            };
            if let SnapshotWork::Restore { .. } = job.work {
                continue;
            }
            if let Some(done) = job.run(&mut self.node_mut(seat).disk.files) {
                self.look_at(seat, &done)?;
            }
        }
        self.node_mut(seat).disk.files.memory.crash();
        Ok(())
    }

    /// Counts and checks what was done.
    fn look_at(&mut self, seat: Seat, done: &SnapshotDone) -> Result<(), Violation> {
        let SnapshotDone { group, ref done, .. } = *done;
        let counts = &mut self.checks.counts;
        match done {
            Done::Taken { meta, result: Ok(_) } => {
                counts.note(Rare::SnapshotTaken);
                self.check_file(seat, group, meta)?;
            }
            Done::Finished { meta, result: Ok(()) } => {
                counts.note(Rare::SnapshotFetched);
                self.check_file(seat, group, meta)?;
            }
            Done::Finished { .. } | Done::Appended { result: Err(_), .. } => {
                counts.note(Rare::FetchFailed);
            }
            Done::Resumed { result: Ok(Some(_)), .. } => counts.note(Rare::FetchResumed),
            Done::Restored { meta, state, result: Ok(()) } => {
                let (index, hash) = (meta.position.index, state.state_hash());
                if let Some(cluster) = self.checks.cluster_of(seat, group) {
                    self.checks.hashed(cluster, index, hash)?;
                    let runs = self.checks.has_run(seat, cluster);
                    let what = if runs { Rare::SnapshotInstalled } else { Rare::RestoredAtStart };
                    self.checks.counts.note(what);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a snapshot back into a machine of its own, and compares it with what was applied.
    fn check_file(
        &mut self,
        seat: Seat,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<(), Violation> {
        let Some(cluster) = self.checks.cluster_of(seat, group) else { return Ok(()) };
        match self.read_back(seat, group, meta) {
            Some(held) => self.checks.holds(cluster, &held),
            None => Err(unreadable(cluster, meta)),
        }
    }

    fn read_back(&self, seat: Seat, group: GroupId, meta: &SnapshotMeta) -> Option<Held> {
        let files = &self.node(seat).disk.files.memory;
        let machine = Recorder::new(Recording::default(), self.plan.padding_bytes, NEWEST);
        let mut state = Replicated::new(Box::new(machine)).supporting(NEWEST);
        let found = files.restore(group, meta.position, |from| state.restore(from)).ok()?.ok()?;
        let value = |key| {
            let query = KvQuery::Get { key: key_bytes(key) }.encode();
            let answer = state.query(&query).ok()?;
            let Ok(Found::Value(found)) = Found::decode(&answer) else { return None };
            Some((key, found.map(|(value, at)| (value_number(&value).unwrap_or(0), at.get()))))
        };
        let values = (0..self.plan.keys).map(value).collect::<Option<Vec<_>>>()?;
        (found == *meta).then(|| Held { meta: found, hash: state.state_hash(), values })
    }
}

fn unreadable(cluster: ClusterId, meta: &SnapshotMeta) -> Violation {
    Violation::SnapshotContent { cluster, index: meta.position.index, what: "file" }
}
