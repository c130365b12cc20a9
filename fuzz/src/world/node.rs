//! One node of a world: its identity, its disk and clock, and its process while it runs.

use std::collections::BTreeMap;

use meshraft::host::Host;
use meshraft_consensus::{ClusterVersion, Moment, Namespace, NodeId};
use meshraft_storage::Job;

use super::{
    Event, clock::LocalClock, disk::Disk, losses::OldCopy, network::Stranger,
    snapshots::SnapshotJobs,
};
use crate::machine::Recording;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) clock: LocalClock,
    pub(super) disk: Disk,
    /// Counts its processes; what was meant for an earlier one never reaches a later one.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) paused_until: Option<Moment>,
    /// Since when its process runs without a pause.
    pub(super) awake_since: Moment,
    /// Whether its process knows that its disk failed.
    pub(super) told_of_failure: bool,
    /// Whether it joins only.
    pub(super) join_only: bool,
    /// What keeps all others from talking to it, from its next start on.
    pub(super) stranger: Option<Stranger>,
    /// The newest version of commands that its release supports, from its next start on.
    pub(super) supports: ClusterVersion,
    /// A copy that was made of its disk.
    pub(super) copy: Option<OldCopy>,
    /// What came while the process stood still, in order.
    pub(super) deferred: Vec<Event>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) host: Host,
    pub(super) recordings: BTreeMap<Namespace, Recording>,
    /// The earliest moment for which a deadline is planned.
    pub(super) deadline: Option<Moment>,
    /// Whether a drain is planned, and until then inputs are gathered.
    pub(super) gathers: bool,
    /// What the drain in progress hands to the disk.
    pub(super) jobs: Vec<Job>,
    /// What is to be done with its snapshots.
    pub(super) snapshots: SnapshotJobs,
}

impl Node {
    pub(super) fn new(
        id: NodeId,
        clock: LocalClock,
        disk: Disk,
        join_only: bool,
        supports: ClusterVersion,
    ) -> Self {
        let (process, paused_until, stranger) = (None, None, None);
        let (life, awake_since, told_of_failure) = (0, Moment::ZERO, false);
        let (copy, deferred) = (None, Vec::new());
        Self {
            id,
            clock,
            disk,
            life,
            process,
            paused_until,
            awake_since,
            told_of_failure,
            join_only,
            stranger,
            supports,
            copy,
            deferred,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The process, if it is still the one that was meant.
    pub(super) fn living(&mut self, life: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.life == life)
    }
}
