//! How a group begins and ends: the state that it runs on, and where that is meanwhile.
//!
//! A namespace has one machine. It goes from group to group: into a state that a recorded snapshot
//! is restored into, off this task, then to the group's core, and back when the group stops. What a
//! stopped group applied is taken back by the machine's own snapshot of before.
//!
//! A recorded snapshot whose file is lost took the state along. Only others can help: the group
//! runs without a state, as one that does not know what it acknowledged, until it hears a leader
//! and is told to come back as a new member. Where the other voters are no quorum there can be no
//! leader without this member, and it halts.
//!
//! Invariants:
//! 1. The machine is in one place: here, with the group, or with the driver that restores it.
//! 2. At most one state is with the driver.

use std::{collections::BTreeSet, time::Duration};

use meshraft_consensus::{
    ClusterVersion, Config, Configuration, Core, Index, IndexRange, Input as CoreInput, Member,
    Moment, Restored, SnapshotMeta,
};
use meshraft_service::{
    HaltReason as ApplyHalt, Replicated, StateMachine,
    router::{self, ProposeResult},
};

use super::{
    Replica,
    due::{Due, SnapshotThresholds},
    group::{Group, halted},
    input::Output,
    pristine::Pristine,
    retained::Retained,
};
use crate::host::{HaltReason, RestoreFailure, SnapshotEvent};

/// What a replica runs on.
pub struct ReplicaOptions {
    /// What commands are applied to.
    pub machine: Box<dyn StateMachine>,
    /// When a snapshot is due.
    pub snapshots: SnapshotThresholds,
    /// For how long the file of an offered snapshot is kept after the last sign of its transfer.
    pub pin_time: Duration,
    /// The newest version of commands that this member supports.
    pub supports: ClusterVersion,
}

/// What a core goes on from.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) restored: Restored,
    pub(super) founding: bool,
    pub(super) vouched: Vec<(Member, Index)>,
}

impl Plan {
    /// The core. It knows whom to hear before it says anything.
    fn begin(self, now: Moment) -> Core {
        let mut core = Core::new(self.config, self.restored, now);
        core.handle(now, CoreInput::Vouch { members: self.vouched });
        core
    }
}

/// Where the state is that was given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// With nobody.
    No,
    /// With the driver, for the group that shall begin.
    ForStart,
    /// With the driver, for the group that runs.
    ForGroup,
    /// With the driver, for a group that stopped.
    Forgotten,
}

/// What a group that begins later needs.
pub(super) struct Starting {
    /// The machine, while no group has it.
    machine: Option<Box<dyn StateMachine>>,
    /// What it was like when it was given to this replica.
    pristine: Pristine,
    plan: Option<Plan>,
    /// Whether the group that was set aside goes on as soon as the machine is here.
    resumes: bool,
    away: Away,
    snapshots: SnapshotThresholds,
    pin_time: Duration,
    supports: ClusterVersion,
}

impl Starting {
    pub(super) fn new(options: ReplicaOptions) -> Self {
        let ReplicaOptions { machine, snapshots, pin_time, supports } = options;
        let pristine = Pristine::of(machine.as_ref());
        let (plan, away) = (None, Away::No);
        let (machine, resumes) = (Some(machine), false);
        Self { machine, pristine, plan, resumes, away, snapshots, pin_time, supports }
    }

    /// Whether a group waits for its state.
    pub(super) const fn is_restoring(&self) -> bool {
        self.plan.is_some()
    }
}

impl Replica {
    pub(super) fn start(&mut self, plan: Plan) {
        let idle = self.group.is_none() && self.starting.plan.is_none();
        assert!(idle, "a group starts before the last one stopped");
        // Nothing of this group is applied yet, whatever was of one before it.
        self.router.handle(self.now, router::Input::Applied(Index::ZERO));
        self.starting.plan = Some(plan);
        self.launch();
    }

    /// Begins the planned group, or has its state restored first, if the machine is here.
    fn launch(&mut self) {
        let wanted = self.starting.plan.is_some() || self.starting.resumes;
        let Some(machine) = self.starting.machine.take_if(|_| wanted) else {
            return;
        };
        let state = Box::new(Replicated::new(machine).supporting(self.starting.supports));
        if std::mem::take(&mut self.starting.resumes)
            && let Some(mut group) = self.aside.take()
        {
            group.give_state(state);
            self.group = Some(group);
            return self.outputs.push_back(Output::Started);
        }
        let plan = self.starting.plan.as_ref();
        match plan.and_then(|plan| plan.restored.snapshot.clone()) {
            Some(meta) => {
                self.starting.away = Away::ForStart;
                self.outputs.push_back(Output::RestoreSnapshot { meta, state });
            }
            None => self.begin(state),
        }
    }

    fn begin(&mut self, state: Box<Replicated>) {
        let Some(plan) = self.starting.plan.take() else { return };
        let (founding, recorded) = (plan.founding, plan.restored.snapshot.as_ref());
        let recorded = recorded.map(|meta| meta.position);
        let due = Due::new(self.starting.snapshots);
        let retained = Retained::new(recorded, self.starting.pin_time);
        let applied = state.applied().index;
        let core = plan.begin(self.now);
        let mut group = Group::new(core, Some(state), founding, due, retained);
        let effects = if recorded.is_some() { group.lives() } else { Vec::new() };
        self.group = Some(group);
        self.router.handle(self.now, router::Input::Applied(applied));
        self.outputs.push_back(Output::Started);
        self.act(effects);
    }

    /// The recorded snapshot is lost: waits for a leader, if there can be one.
    fn lost(&mut self, meta: &SnapshotMeta, state: Replicated, why: RestoreFailure) {
        let unreadable = HaltReason::SnapshotUnreadable { at: meta.position, why };
        let mut machine = state.into_machine();
        let Some(mut plan) = self.starting.plan.take() else { return };
        let (founding, restored) = (plan.founding, &mut plan.restored);
        let newest = restored.configurations.last().map(|(_, configuration)| configuration);
        let newest = newest.unwrap_or(&meta.configuration);
        if !decides_without(newest, &restored.me) || !self.starting.pristine.reset(machine.as_mut())
        {
            return self.halt(unreadable);
        }
        self.starting.machine = Some(machine);
        // Nothing of the log may be left behind the snapshot.
        let end = restored.last.index.max(meta.position.index).next();
        let first = restored.damage.map_or(end, |damage| damage.first.min(end));
        restored.damage = Some(IndexRange { first, last: end });
        let due = Due::new(self.starting.snapshots);
        let retained = Retained::new(Some(meta.position), self.starting.pin_time);
        let core = plan.begin(self.now);
        let mut group = Group::new(core, None, founding, due, retained);
        let effects = group.lives();
        self.group = Some(group);
        let lost = SnapshotEvent::Lost { at: meta.position, why };
        self.outputs.extend([Output::Snapshot(lost), Output::Started]);
        self.act(effects);
    }

    /// Stops the founder set's group that runs, as it is: it applied nothing, so that its machine
    /// is what it was.
    pub(super) fn set_aside(&mut self) {
        let Some(mut group) = self.group.take() else { return self.stop() };
        let state = group.take_state();
        self.aside = Some(group);
        if let Some(state) = state {
            self.reclaim(*state);
        }
        self.tell_leader();
    }

    /// The group that was set aside goes on.
    pub(super) fn resume(&mut self) {
        self.starting.resumes = self.aside.is_some();
        self.trial = false;
        self.launch();
    }

    /// A running group gives its state away, to get it back with a snapshot in it.
    pub(super) fn install(&mut self, meta: SnapshotMeta, state: Box<Replicated>) {
        assert_eq!(self.starting.away, Away::No, "one state is away at a time");
        self.starting.away = Away::ForGroup;
        self.outputs.push_back(Output::RestoreSnapshot { meta, state });
    }

    /// A state is back from the driver.
    pub(super) fn snapshot_restored(
        &mut self,
        meta: SnapshotMeta,
        state: Box<Replicated>,
        result: Result<(), RestoreFailure>,
    ) {
        let away = std::mem::replace(&mut self.starting.away, Away::No);
        // Where more is in force than is supported here, a newer release can read it.
        let too_old = state.halted().map(|(_, reason)| reason);
        let too_old = too_old.filter(|why| matches!(why, ApplyHalt::ClusterVersion { .. }));
        match (away, result) {
            (Away::Forgotten, _) => self.reclaim(*state),
            (Away::No, _) => {}
            (Away::ForStart, Ok(())) => self.begin(state),
            (Away::ForStart, Err(why)) if why.is_loss() => self.lost(&meta, *state, why),
            (_, Err(why)) => {
                let unreadable = HaltReason::SnapshotUnreadable { at: meta.position, why };
                self.halt(too_old.map_or(unreadable, halted));
            }
            (Away::ForGroup, Ok(())) => self.installed(meta, state),
        }
    }

    /// Ends the group, and takes its machine back.
    pub(super) fn stop(&mut self) {
        self.starting.plan = None;
        self.starting.resumes = false;
        self.trial = false;
        if self.starting.away != Away::No {
            self.starting.away = Away::Forgotten;
        }
        if let Some(group) = self.group.take() {
            self.fail_pending(&group);
            if let Some(state) = group.into_state() {
                self.reclaim(*state);
            }
        }
        self.tell_leader();
    }

    /// Makes the machine what it was before the group.
    fn reclaim(&mut self, state: Replicated) {
        // A group's first entry is never a command.
        let untouched = state.applied().index <= Index::ZERO.next() && state.halted().is_none();
        let mut machine = state.into_machine();
        if !untouched && !self.starting.pristine.reset(machine.as_mut()) {
            return self.halt(HaltReason::MachineNotReset);
        }
        self.starting.machine = Some(machine);
        self.launch();
    }

    /// Nothing begins any more.
    pub(super) fn forget_start(&mut self) {
        self.starting.plan = None;
        self.starting.machine = None;
    }

    /// Proposals that a group took with it may yet commit; reads may be tried elsewhere.
    pub(super) fn fail_pending(&mut self, group: &Group) {
        for id in group.pending_proposals() {
            let result = ProposeResult::Unknown;
            self.router.handle(self.now, router::Input::Proposed { id, result });
        }
    }
}

/// Whether the others are a quorum of a configuration, of both halves if it is joint.
fn decides_without(configuration: &Configuration, me: &Member) -> bool {
    let of_half = |half: &BTreeSet<Member>| {
        let others = half.iter().filter(|voter| *voter != me).count();
        half.is_empty() || others * 2 > half.len()
    };
    of_half(&configuration.voters) && of_half(&configuration.outgoing)
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, NodeId};

    use super::*;

    fn voters(numbers: &[u8]) -> BTreeSet<Member> {
        let member =
            |number: &u8| Member::new(NodeId::new([*number; 32]), Incarnation::new([1; 16]));
        numbers.iter().map(member).collect()
    }

    #[test]
    fn the_others_decide_where_they_are_a_majority_of_both_halves() {
        let me = *voters(&[1]).first().unwrap();
        for (incoming, outgoing, decides) in [
            (&[1][..], &[][..], false),
            (&[1, 2], &[], false),
            (&[1, 2, 3], &[], true),
            (&[2, 3], &[], true),
            (&[1, 2, 3], &[1, 2], false),
            (&[1, 2, 3], &[1], false),
            (&[1, 2, 3], &[1, 2, 4], true),
        ] {
            let configuration = Configuration {
                voters: voters(incoming),
                outgoing: voters(outgoing),
                learners: BTreeSet::new(),
            };
            assert_eq!(decides_without(&configuration, &me), decides, "{incoming:?} {outgoing:?}");
        }
    }
}
