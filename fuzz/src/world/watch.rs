//! Looks at a node after it was drained: what it wrote, applied, and says of itself.

use std::time::Duration;

use meshraft_consensus::{Index, Namespace, Role, Status};
use meshraft_storage::Job;

use super::{Event, Seat, World, options};
use crate::check::{Convergence, View, Violation};

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
            if let Job::Log { group, write, .. } = job {
                let last = write.append.last().map(|entry| entry.position);
                let count = write.append.len();
                self.trace.note(
                    now,
                    format_args!(
                        "n{} {group} {} hard {:?} truncate {:?} append {count} to {last:?}",
                        seat.0, write.id, write.hard, write.truncate_from,
                    ),
                );
            }
            self.checks.submitted(seat, job)?;
        }
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
        if self.random.hits(self.faults.stall) {
            wait += self.random.between(Duration::ZERO, self.faults.stall_max);
        }
        let life = self.node(seat).life;
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
            self.checks.observe(seat, &namespace, &status)?;
            for command in applied {
                self.checks.states.applied(seat, status.cluster, command)?;
            }
        }
        Ok(())
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
                hash: replicated.filter(|_| hashed).map(|state| state.state_hash()),
            }
        });
        let living = self.checks.states.living(namespace);
        let voters_target = self.plan.voters_target;
        let kept_max = options::kept_max(&self.plan);
        Convergence { namespace, living, voters_target, kept_max, views: views.collect() }
    }
}
