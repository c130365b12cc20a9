//! What must hold in every run, one property a file.
//!
//! | file | property |
//! |---|---|
//! | `election` | one leader a term, one vote a term, terms never go back, over restarts too |
//! | `log` | logs that agree on a position agree on everything before it; what is committed stays |
//! | `change` | configurations follow on each other one at a time, through joint ones |
//! | `claims` | a message claims only what is durable |
//! | `completeness` | a leader of a later term holds what was committed |
//! | `core` | what a core hands out is durable, committed, in order, and answered once |
//! | `forgetting` | what a member of a run of cores may forget, and who is known to have |
//! | `founding` | a cluster lives only if all founders promised it; who forgot says nothing more |
//! | `rounds` | after a read began, a quorum has heard the leader that allows it |
//! | `durability` | nothing commits before a quorum has it on disk, without those that forgot it |
//! | `snapshot` | a snapshot holds what was applied up to it, and logs are cut only behind it |
//! | `state` | equal commands and answers at equal index; nothing is applied twice; one cluster |
//! | `version` | what is in force is what all members support, never less than before |
//! | `linearizable` | every key's history of writes and reads has a legal order |
//! | `counter` | every increment takes effect once, however often it is repeated |
//! | `reads` | an answer is the state at the index that it names, as new as its level promises |
//! | `progress` | after the world healed everything works again |
//!
//! The checks see what nodes hand to their disks, what their cores say of themselves, what their
//! machines apply and what clients hear; they trust none of it.

mod change;
mod claims;
mod completeness;
mod core;
mod counter;
mod durability;
mod election;
mod forgetting;
mod founding;
mod linearizable;
mod log;
mod losses;
mod progress;
mod reads;
mod rounds;
mod shadow;
mod snapshot;
mod state;
mod version;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{
    ClusterId, Configuration, Index, LogAfterSnapshot, Member, Message, Namespace, Position, Role,
    Status, Term, Write,
};
use meshraft_storage::{GroupId, Job};

pub(crate) use self::{
    core::{CLUSTER, CoreChecks},
    counter::{Counted, Counters},
    forgetting::{Forgetting, Scene},
    linearizable::{Histories, Operation},
    losses::{Bearing, Copy},
    progress::{Convergence, View, Wanted, check_acknowledged},
    reads::FoundAt,
    snapshot::Held,
    state::{AppliedCommand, States},
    version::Versions,
};
pub use self::{
    counter::Miscount,
    linearizable::Anomaly,
    progress::Stuck,
    violation::{HaltText, HardStateText, Violation},
};
use self::{election::Elections, log::Logs};
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
    pub(crate) counters: Counters,
    pub(crate) counts: Counts,
    pub(crate) versions: Versions,
    seen: BTreeMap<Seat, BTreeMap<ClusterId, Seen>>,
    /// Whom a leader, in its term, found to have forgotten what it acknowledged.
    forgetful: BTreeMap<(ClusterId, Term), BTreeSet<Member>>,
    /// Who knows to have forgotten what it acknowledged.
    over: BTreeSet<Member>,
    /// Who each node was when it was last looked at.
    members: BTreeMap<(Seat, ClusterId), Member>,
    /// Configurations that were appended, and not looked at since.
    appended: Vec<(GroupKey, Position)>,
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
        self.versions.started(seat);
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
        self.versions.reopened(seat, cluster);
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
        let Some((group, write)) = job.write() else {
            return self.logs.submitted(seat, job, &self.elections, &mut self.counts);
        };
        let key = (seat, group);
        self.expect_append_only(key, write)?;
        let before = self.logs.known_configurations();
        self.logs.submitted(seat, job, &self.elections, &mut self.counts)?;
        let Some(cluster) = self.logs.cluster_of(key) else { return Ok(()) };
        if self.logs.known_configurations() > before {
            let new = write.append.iter().map(|entry| entry.position);
            let new = new.filter(|position| self.logs.is_configuration(cluster, *position));
            self.appended.extend(new.map(|position| (key, position)));
        }
        Ok(())
    }

    /// A leader's log only grows while it leads, and loses its beginning to snapshots (thesis
    /// 3.6.3).
    fn expect_append_only(&self, key: GroupKey, write: &Write) -> Result<(), Violation> {
        let (Some(cluster), Some(member)) = (self.logs.cluster_of(key), self.logs.member_of(key))
        else {
            return Ok(());
        };
        let seen = self.seen.get(&key.0).and_then(|groups| groups.get(&cluster));
        let Some(term) = seen.and_then(|seen| seen.led) else { return Ok(()) };
        let known = self.logs.shadows(key).map_or(Term::ZERO, |(believed, _)| believed.hard.term);
        let leads = write.hard.map_or(known, |hard| hard.term) == term;
        let replaced = write.snapshot().map(|it| it.log) == Some(LogAfterSnapshot::Replace);
        if leads && (write.truncate_from().is_some() || replaced) {
            return Err(Violation::LeaderTruncated { member, term });
        }
        Ok(())
    }

    /// A node sends a message of consensus in a cluster.
    pub(crate) fn says(
        &self,
        seat: Seat,
        cluster: ClusterId,
        to: Option<Member>,
        message: &Message,
    ) -> Result<(), Violation> {
        let Some(key) = self.logs.key_of(seat, cluster) else { return Ok(()) };
        let Some(me) = self.logs.member_of(key) else { return Ok(()) };
        self.expect_living(me, message)?;
        self.logs.expect_claim(key, me, message)?;
        to.map_or(Ok(()), |to| self.logs.expect_vote(key, me, to, message))
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

    /// What a core says of itself after an event, and the newest snapshot that is recorded, unless
    /// it is taking the place of the state. Returns whether it leads since then.
    pub(crate) fn observe(
        &mut self,
        seat: Seat,
        namespace: &Namespace,
        status: &Status,
        restored: Option<Index>,
    ) -> Result<bool, Violation> {
        let Status { me, cluster, role, term, commit, ref configuration, .. } = *status;
        let leads_anew = role == Role::Leader && self.elections.leads(cluster, term, me)?;
        if leads_anew {
            self.logs.leads(cluster, term, me)?;
            self.counts.note(Rare::LeaderChanged);
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
        self.logs.check_order(status, restored)?;
        self.logs.expect_in_force(seat, status)?;
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
        let mine = |key: GroupKey| key.0 == seat && self.logs.cluster_of(key) == Some(cluster);
        for (key, position) in self.appended.extract_if(.., |(key, _)| mine(*key)) {
            self.logs.expect_change(key, cluster, position)?;
        }
        Ok(leads_anew)
    }

    /// A cluster's fate is committed: it is the only one, or shares no founder with the other.
    fn lives(&mut self, namespace: &Namespace, second: ClusterId) -> Result<(), Violation> {
        self.expect_promised(second)?;
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
        for _ in new.iter().filter(|it| self.logs.is_configuration(cluster, **it)) {
            self.counts.note(Rare::Changed);
        }
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
