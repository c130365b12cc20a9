//! The time between an admission and the first entry: bound in memory, not yet on record.
//!
//! In an open namespace nobody proves that a cluster speaks through the peer that says `Admitted`.
//! So the node starts a core for that cluster and writes nothing of it into its record. The
//! cluster is written in one write with the first entry, or the first snapshot, that comes from
//! there. A peer whose cluster sends nothing is passed over by itself, and the node goes on as if
//! it had not been admitted. After a crash in between the node is as free as before.
//!
//! Invariants:
//! 1. On trial a node acts in no founder set's group: the core of a promise that it holds is set
//!    aside, and goes on if the trial fails.
//! 2. A promise stays on record throughout, and is spoken of as before: it is true.
//! 3. The group on trial is dropped by the write that ends the trial, or becomes that of the
//!    cluster on record by the write that ends it well.

use core::time::Duration;

use meshraft_consensus::{ClusterId, Member, Moment, NodeId};

use super::{
    Admission, Doubt, DropReason, Event, Founding, FoundingConfig, Output, RecordId, Stage,
    ledger::Groups,
};
use crate::record::Record;

/// How many upper election time-outs a cluster has to send its first entry.
const ELECTIONS: u32 = 10;

/// Bound in memory to a cluster that is said to have admitted this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trial {
    pub(super) cluster: ClusterId,
    /// The peer that said so.
    pub(super) by: NodeId,
    /// The write that creates the group; its core runs once that is durable.
    write: RecordId,
    /// When it is over if nothing came; unset until the core runs.
    pub(super) until: Option<Moment>,
}

impl FoundingConfig {
    /// How long a cluster that admitted this node has to send the first entry.
    pub fn trial_timeout(&self) -> Duration {
        self.election_max.saturating_mul(ELECTIONS).max(Duration::from_millis(1))
    }
}

impl Founding {
    /// Starts a core for the cluster that is said to have admitted this node.
    pub(super) fn begin_trial(&mut self, from: Member, cluster: ClusterId, admission: Admission) {
        // Each answer to a repeated question says the same once more.
        if self.trial.is_some() {
            return;
        }
        let undecided = match &self.stage {
            Stage::Bound(bound) => !self.ledger.is_durable(bound.write),
            Stage::Free(_) | Stage::Member(_) => false,
        };
        if undecided || self.ledger.is_behind() {
            return self.drop_message(from, DropReason::DiskBehind);
        }
        let Admission { index, members, .. } = admission.clone();
        self.ledger.emit(Output::Admitted { cluster, by: from.node, admission });
        let groups = Groups { join: Some(cluster), ..Groups::default() };
        let write = self.ledger.write(self.record().clone(), groups);
        self.ledger.emit_durable(Output::Try { cluster, index, members });
        self.observe(Event::OnTrial { cluster, by: from.node });
        self.trial = Some(Trial { cluster, by: from.node, write, until: None });
        self.join = None;
    }

    /// The first entry or snapshot of this cluster is here: the core's write that holds it waits to
    /// be made durable together with the record.
    pub(super) fn on_arrived(&mut self, cluster: ClusterId) {
        if self.trial.take_if(|trial| trial.cluster == cluster).is_none() {
            return;
        }
        let record = Record { cluster: Some(cluster), ..self.record().clone() };
        self.ledger.write(record, Groups { enter: Some(cluster), ..Groups::default() });
        self.observe(Event::Joined { cluster });
        self.become_member(cluster, Output::Entered { cluster });
    }

    /// Part of the first snapshot of this cluster is here.
    pub(super) fn on_arriving(&mut self, now: Moment, cluster: ClusterId) {
        let until = now.plus(self.config.trial_timeout());
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.cluster == cluster) {
            trial.until = Some(until);
        }
    }

    /// Ends a trial in which nothing came, and begins to count once its core runs.
    pub(super) fn judge_trial(&mut self, now: Moment) {
        let timeout = self.config.trial_timeout();
        let Some(trial) = &mut self.trial else { return };
        if !self.ledger.is_durable(trial.write) {
            return;
        }
        let until = *trial.until.get_or_insert(now.plus(timeout));
        if until > now {
            return;
        }
        let Trial { cluster, by, .. } = trial.clone();
        self.trial = None;
        self.ledger.emit(Output::StopGroup(cluster));
        let groups = Groups { drop: Some(cluster), ..Groups::default() };
        self.ledger.write(self.record().clone(), groups);
        // The promise's group goes on where it was.
        if let Stage::Bound(bound) = &self.stage {
            self.ledger.emit(Output::StartGroup(bound.founders.clone()));
        }
        self.pass_over(now, by, Doubt::NothingCame { cluster });
    }

    /// Passes a peer over for a time, and says so.
    pub(super) fn pass_over(&mut self, now: Moment, peer: NodeId, why: Doubt) {
        // A trial in vain costs more than the time that a peer has to found.
        let unit = match why {
            Doubt::NothingCame { .. } => self.config.trial_timeout(),
            Doubt::NoPromise | Doubt::NotAdmitting { .. } => Duration::ZERO,
        };
        let unit = unit.max(self.config.founding_timeout());
        let passed = self.roster.doubts.pass_over(now, peer, why, unit);
        self.observe(Event::PassedOver { peer: passed.peer, why: passed.why, until: passed.until });
    }
}
