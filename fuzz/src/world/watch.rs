//! Looks at a node after it was drained: what it wrote, applied, and says of itself.

use std::time::Duration;

use meshraft_consensus::{ClusterId, Index, Namespace, Role, Status};

use super::{Event, Seat, World, options};
use crate::{
    check::{Convergence, View, Violation},
    faults::{Fault, Faults},
};

/// How much later than its deadline an answer may come: clocks are slow, and inputs are gathered.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many times as many entries as in quiet times a log may hold in a storm.
const LATE: u64 = 2;
/// How many entries a client may add while a disk is late with a snapshot.
const MEANWHILE: u64 = 60;
/// How long a slow machine takes for a command at most.
const SLOW_APPLY_MAX: Duration = Duration::from_millis(60);

impl World {
    /// Hands the jobs of a drain to the checks and to the disk.
    pub(super) fn submit(&mut self, seat: Seat) -> Result<(), Violation> {
        let Some(process) = &mut self.node_mut(seat).process else { return Ok(()) };
        let jobs = std::mem::take(&mut process.jobs);
        if jobs.is_empty() {
            return Ok(());
        }
        for namespace in self.namespaces.clone() {
            if let Some(status) = self.status(seat, &namespace) {
                self.checks.bind(seat, &status);
            }
        }
        let now = self.clock.now();
        for job in &jobs {
            if let Some((group, write)) = job.write() {
                let last = write.append.last().map(|entry| entry.position);
                let count = write.append.len();
                self.trace.note(
                    now,
                    format_args!(
                        "n{} {group} {} hard {:?} truncate {:?} append {count} to {last:?}",
                        seat.0,
                        write.id,
                        write.hard,
                        write.truncate_from(),
                    ),
                );
            }
            self.checks.submitted(seat, job)?;
        }
        self.expect_supported(seat, &jobs)?;
        let (life, disk) = (self.node(seat).life, &mut self.node_mut(seat).disk);
        let told = disk.lies_about(&jobs);
        if disk.submit(jobs) {
            self.plan_commit(seat);
        }
        if !told.is_empty() {
            self.clock.after(Duration::ZERO, Event::Stored { seat, life, tickets: told });
        }
        // A group that begins with these jobs writes only after they are durable.
        Ok(())
    }

    pub(super) fn plan_commit(&mut self, seat: Seat) {
        let quick = (Duration::from_micros(100), Duration::from_millis(2));
        let mut wait = self.random.between(quick.0, quick.1);
        wait *= self.node(seat).disk.laziness();
        if self.force.hits(Fault::Stall, &mut self.random) {
            wait += self.random.between(Duration::ZERO, Faults::STALL_MAX);
        }
        let life = self.node(seat).life;
        if self.force.hits(Fault::Torn, &mut self.random) {
            let early = self.random.between(Duration::ZERO, wait);
            self.clock.after(early, Event::Tear { seat, life });
        }
        self.clock.after(wait, Event::Committed { seat, life });
    }

    pub(super) fn plan_deadline(&mut self, seat: Seat) {
        let now = self.clock.now();
        let node = self.node_mut(seat);
        let (life, clock) = (node.life, node.clock);
        let Some(process) = &mut node.process else { return };
        let Some(due) = process.host.deadline() else { return };
        let due = clock.world(due).max(now);
        if process.deadline.is_none_or(|planned| due < planned) {
            process.deadline = Some(due);
            self.clock.at(due, Event::Deadline { seat, life });
        }
    }

    /// What the core of a namespace says of itself.
    pub(super) fn status(&self, seat: Seat, namespace: &Namespace) -> Option<Status> {
        let process = self.node(seat).process.as_ref()?;
        process.host.replica(namespace)?.status()
    }

    /// Checks what is new at a node.
    pub(super) fn observe(&mut self, seat: Seat) -> Result<(), Violation> {
        for namespace in self.namespaces.clone() {
            let recording = self.node(seat).process.as_ref();
            let recording = recording.and_then(|process| process.recordings.get(&namespace));
            let applied = recording.map(|recording| recording.take()).unwrap_or_default();
            let process = self.node(seat).process.as_ref();
            if let Some(replica) = process.and_then(|process| process.host.replica(&namespace)) {
                replica.check_invariants();
            }
            self.watch_standing(seat, &namespace);
            let Some(status) = self.status(seat, &namespace) else { continue };
            self.expect_bounds(seat, &namespace, &status)?;
            let restored = self.restored(seat, &namespace);
            if self.checks.observe(seat, &namespace, &status, restored)? {
                self.expect_no_lease(seat, &namespace, &status)?;
            }
            if !applied.is_empty() && self.force.hits(Fault::SlowApply, &mut self.random) {
                let count = u32::try_from(applied.len()).unwrap_or(u32::MAX).min(20);
                let lasts = self.random.between(Duration::ZERO, SLOW_APPLY_MAX) * count;
                self.stand_still(seat, lasts);
            }
            self.expect_version(seat, &namespace, status.cluster)?;
            for command in applied {
                self.checks.states.applied(seat, status.cluster, command)?;
            }
        }
        Ok(())
    }

    /// What is in force at a replica may be.
    fn expect_version(
        &mut self,
        seat: Seat,
        namespace: &Namespace,
        cluster: ClusterId,
    ) -> Result<(), Violation> {
        let node = self.node(seat);
        let replica = node.process.as_ref().and_then(|it| it.host.replica(namespace));
        let Some(state) = replica.and_then(|replica| replica.replicated()) else { return Ok(()) };
        let (at, supports) = ((state.applied().index, state.version()), node.supports);
        self.checks.versions.applied(seat, cluster, at, supports)
    }

    /// What a member keeps of its log is bounded, whatever goes wrong: a snapshot that is late is
    /// taken next.
    fn expect_bounds(
        &self,
        seat: Seat,
        namespace: &Namespace,
        status: &Status,
    ) -> Result<(), Violation> {
        let kept = status.last.index.get() + 1 - status.first.get();
        let most = LATE * options::kept_max(&self.plan) + MEANWHILE * self.plan.clients as u64;
        if kept <= most {
            return Ok(());
        }
        let (node, namespace) = (seat.number(), namespace.clone());
        Err(Violation::Unbounded { node, namespace, kept, most })
    }

    /// The newest snapshot that a node recorded, unless that is taking the place of the state now.
    fn restored(&self, seat: Seat, namespace: &Namespace) -> Option<Index> {
        let replica = self.node(seat).process.as_ref()?.host.replica(namespace)?;
        replica.replicated().and(replica.snapshot()).map(|snapshot| snapshot.index)
    }

    /// Whoever leads in a new term: nobody may still read on the lease of an older one. Founders
    /// who give up a set that never lived may lead it beside the cluster that does.
    fn expect_no_lease(
        &self,
        seat: Seat,
        namespace: &Namespace,
        leader: &Status,
    ) -> Result<(), Violation> {
        let now = self.clock.now();
        for other in self.seats().filter(|other| *other != seat) {
            let node = self.node(other);
            let process = node.process.as_ref();
            let replica = process.and_then(|process| process.host.replica(namespace));
            let older = replica.filter(|replica| replica.term() < leader.term);
            let until = older.and_then(|replica| replica.lease_until());
            if until.is_some_and(|until| node.clock.local(now) < until)
                && let Some(status) = older.and_then(|replica| replica.status())
                && status.cluster == leader.cluster
            {
                let what = "that it may read on its lease, when another leads already";
                return Err(Violation::Claim { member: status.me, what });
            }
        }
        Ok(())
    }

    /// Everything that was asked is answered in time, by a process that runs.
    pub(super) fn expect_answers(&self) -> Result<(), Violation> {
        let awake = |seat: Seat| {
            let node = self.node(seat);
            let runs = node.is_running() && node.paused_until.is_none();
            runs.then_some(node.awake_since)
        };
        match self.workload.overdue(self.clock.now(), PATIENCE, awake) {
            Some(id) => Err(Violation::Promise { id, what: "has no answer in its time" }),
            None => Ok(()),
        }
    }

    /// A leader that found a member to have forgotten something counts it no more, from the event
    /// on that follows.
    pub(super) fn note_raised(&mut self, seat: Seat) -> Result<(), Violation> {
        for (namespace, member) in std::mem::take(&mut self.raised) {
            let status = self.status(seat, &namespace);
            if let Some(status) = status.filter(|status| status.role == Role::Leader) {
                self.checks.forgot(status.cluster, status.term, member)?;
            }
        }
        Ok(())
    }

    /// What all nodes say of a namespace; with hashes of their states, which costs time.
    pub(super) fn convergence<'a>(
        &self,
        namespace: &'a Namespace,
        hashed: bool,
    ) -> Convergence<'a> {
        let views = self.seats().map(|seat| {
            let process = self.node(seat).process.as_ref();
            let replica = process.and_then(|process| process.host.replica(namespace));
            let replicated = replica.and_then(|replica| replica.replicated());
            View {
                seat,
                wanted: self.wanted(seat, namespace),
                departed: self.is_departed(seat, namespace),
                status: self.status(seat, namespace),
                applied: replicated.map_or(Index::ZERO, |state| state.applied().index),
                in_force: replicated.map(|state| state.version()).unwrap_or_default(),
                hash: replicated.filter(|_| hashed).map(|state| state.state_hash()),
            }
        });
        let living = self.checks.states.living(namespace);
        let voters_target = self.plan.voters_target;
        let kept_max = options::kept_max(&self.plan);
        let (in_force, views) = (self.version_at_the_end(), views.collect());
        Convergence { namespace, living, voters_target, kept_max, in_force, views }
    }
}
