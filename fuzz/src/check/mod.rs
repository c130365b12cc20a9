//! What must hold in every run, one property a file.
//!
//! | file | property |
//! |---|---|
//! | `election` | one leader a term, one vote a term, terms never go back, over restarts too |
//! | `log` | logs that agree on a position agree on everything before it; what is committed stays |
//! | `change` | configurations follow on each other one at a time, through joint ones |
//! | `core` | what a core hands out is durable, committed, in order, and answered once |
//! | `forgetting` | what a member of a run of cores may forget, and who is known to have |
//! | `durability` | nothing commits before a quorum has it on disk, without those that forgot it |
//! | `snapshot` | a snapshot holds what was applied up to it, and logs are cut only behind it |
//! | `state` | equal commands and answers at equal index; nothing is applied twice; one cluster |
//! | `linearizable` | every key's history of writes and reads has a legal order |
//! | `progress` | after the world healed everything works again |
//!
//! The checks see what nodes hand to their disks, what their cores say of themselves, what their
//! machines apply and what clients hear; they trust none of it.

mod change;
mod core;
mod durability;
mod election;
mod forgetting;
mod linearizable;
mod log;
mod losses;
mod progress;
mod shadow;
mod snapshot;
mod state;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, Configuration, Index, Member, Namespace, Role, Status, Term};
use meshraft_storage::{GroupId, Job};

pub(crate) use self::{
    core::{CLUSTER, CoreChecks},
    forgetting::{Forgetting, Scene},
    linearizable::{Histories, Operation},
    losses::{Bearing, Copy},
    progress::{Convergence, View, Wanted, check_acknowledged},
    snapshot::Held,
    state::{AppliedCommand, States},
};
use self::{election::Elections, log::Logs};
pub use self::{
    linearizable::Anomaly,
    progress::Stuck,
    violation::{HaltText, HardStateText, Violation},
};
use crate::{
    counts::{Counts, Rare},
    world::Seat,
};

/// Everything that is checked while a world runs.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    elections: Elections,
    logs: Logs,
    pub(crate) states: States,
    pub(crate) histories: Histories,
    pub(crate) counts: Counts,
    seen: BTreeMap<Seat, BTreeMap<ClusterId, Seen>>,
    /// Whom a leader, in its term, found to have forgotten what it acknowledged.
    forgetful: BTreeMap<(ClusterId, Term), BTreeSet<Member>>,
    /// Who each node was when it was last looked at.
    members: BTreeMap<(Seat, ClusterId), Member>,
    /// The hash of each state of which a snapshot was seen.
    hashes: BTreeMap<(ClusterId, Index), u64>,
}

/// What a core said of itself when it was last looked at.
#[derive(Clone, Debug, Default)]
struct Seen {
    commit: Index,
    /// The term that it led.
    led: Option<Term>,
    configuration: Configuration,
    /// Whether that was since its process began, or began anew.
    runs: bool,
}

impl Checks {
    /// A node's process starts on what is on its disk.
    pub(crate) fn started(&mut self, seat: Seat) {
        self.logs.started(seat);
        // What it was configured by is still on its disk.
        for seen in self.seen.get_mut(&seat).into_iter().flat_map(BTreeMap::values_mut) {
            (seen.commit, seen.led, seen.runs) = (Index::ZERO, None, false);
        }
        self.states.started(seat);
    }

    /// A node's disk is empty now.
    pub(crate) fn wiped(&mut self, seat: Seat) {
        self.logs.wiped(seat);
        self.seen.remove(&seat);
        self.members.retain(|(at, _), _| *at != seat);
    }

    /// A node opens a namespace again, on what is on its disk.
    pub(crate) fn reopened(&mut self, seat: Seat, cluster: ClusterId) {
        self.states.reopened(seat, cluster);
        if let Some(seen) = self.seen.get_mut(&seat).and_then(|groups| groups.get_mut(&cluster)) {
            (seen.commit, seen.led, seen.runs) = (Index::ZERO, None, false);
        }
    }

    /// Whether a core runs in this group since the process started.
    pub(crate) fn has_run(&self, seat: Seat, cluster: ClusterId) -> bool {
        let seen = self.seen.get(&seat).and_then(|groups| groups.get(&cluster));
        seen.is_some_and(|seen| seen.runs)
    }

    /// Whose group this is.
    pub(crate) fn cluster_of(&self, seat: Seat, group: GroupId) -> Option<ClusterId> {
        self.logs.cluster_of((seat, group))
    }

    /// A node hands a job to its disk.
    pub(crate) fn submitted(&mut self, seat: Seat, job: &Job) -> Result<(), Violation> {
        self.logs.submitted(seat, job, &self.elections, &mut self.counts)
    }

    /// Jobs of a node are durable.
    pub(crate) fn durable(&mut self, seat: Seat, jobs: &[Job]) -> Result<(), Violation> {
        self.logs.durable(seat, jobs, &mut self.elections)
    }

    /// A leader says in its term that a member forgot what it acknowledged. That is so only where
    /// an old copy took the place of a disk: what was acknowledged is durable.
    pub(crate) fn forgot(
        &mut self,
        cluster: ClusterId,
        term: Term,
        member: Member,
    ) -> Result<(), Violation> {
        if !self.elections.is_set_back(member) {
            return Err(Violation::Forgot { member });
        }
        if self.forgetful.entry((cluster, term)).or_default().insert(member) {
            self.counts.note(Rare::Amnesia);
        }
        Ok(())
    }

    /// A core of this node ran in a group; asked before its jobs are looked at.
    pub(crate) fn bind(&mut self, seat: Seat, status: &Status) {
        self.logs.bind(seat, status.me, status.cluster);
    }

    /// What a core says of itself after an event.
    pub(crate) fn observe(
        &mut self,
        seat: Seat,
        namespace: &Namespace,
        status: &Status,
    ) -> Result<(), Violation> {
        let Status { me, cluster, role, term, commit, ref configuration, .. } = *status;
        if role == Role::Leader && self.elections.leads(cluster, term, me)? {
            self.logs.leads(cluster, term, me)?;
        }
        if self.members.insert((seat, cluster), me).is_some_and(|before| before != me) {
            // It begins anew, as another one.
            self.counts.note(Rare::Renewed);
            self.reopened(seat, cluster);
        }
        let leads = (role == Role::Leader).then_some(term);
        let seen = self.seen.entry(seat).or_default().entry(cluster).or_default();
        let configuration = configuration.clone();
        let now = Seen { commit, led: leads, configuration, runs: true };
        let before = std::mem::replace(seen, now);
        let from = before.commit;
        self.logs.check_order(status)?;
        if commit < from {
            return Err(Violation::CommitWentBack { member: me, from, to: commit });
        }
        if commit > from {
            self.committed(status, from)?;
            if leads.is_some() && leads == before.led {
                self.logs.expect_own_term(me, cluster, commit, term)?;
            }
            if from == Index::ZERO && self.logs.is_founded(cluster) {
                self.lives(namespace, cluster)?;
            }
        }
        Ok(())
    }

    /// A cluster's fate is committed: it is the only one, or shares no founder with the other.
    fn lives(&mut self, namespace: &Namespace, second: ClusterId) -> Result<(), Violation> {
        let first = self.states.lives(namespace, second);
        if first == second {
            return Ok(());
        }
        let founders = |cluster| {
            let found = self.logs.configuration_at(cluster, Index::ZERO.next());
            let members = found.into_iter().flat_map(|(_, told)| told.members());
            members.map(|member| member.node).collect::<BTreeSet<_>>()
        };
        let disjoint = founders(first).is_disjoint(&founders(second));
        let namespace = namespace.clone();
        Err(if disjoint {
            Violation::Split { namespace, first, second }
        } else {
            Violation::TwoClusters { namespace, first, second }
        })
    }

    fn committed(&mut self, status: &Status, from: Index) -> Result<(), Violation> {
        let Status { me, cluster, role, term, commit, ref configuration, .. } = *status;
        let new = self.logs.committed(me, cluster, from, commit, term)?;
        let nobody = BTreeSet::new();
        let forgetful = self.forgetful.get(&(cluster, term)).filter(|_| role == Role::Leader);
        // Commitment is prefix-closed: the last new entry speaks for the others.
        match new.last() {
            Some(at) => {
                let forgetful = forgetful.unwrap_or(&nobody);
                self.logs.expect_durable(me, cluster, *at, configuration, forgetful)
            }
            None => Ok(()),
        }
    }
}

/// Names a group of one store.
pub(crate) type GroupKey = (Seat, GroupId);
