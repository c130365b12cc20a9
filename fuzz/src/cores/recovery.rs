//! After the world healed everything works again, within a bounded time: one ready leader, whole
//! members in a configuration that is not joint, equal logs and states, a new entry through, and
//! every promise kept.

use std::time::Duration;

use meshraft_consensus::{Change, ChangeStep, Member, ProposalId};

use super::{
    CoreWorld, Due,
    cluster::Cluster,
    member::Node,
    plan::CoreFaults,
    step::{Step, seat_of},
};
use crate::{check::Violation, faults::Rate, world::Seat};

const NUDGE_EVERY: Duration = Duration::from_millis(50);
/// A cluster that is not well after so many nudges, and then again, is asked to commit something:
/// what a disk has lost is found out by the next entry, and nobody else writes any more.
const NUDGES_A_WRITE: u32 = 20;
/// In a world that healed no message takes longer.
const CALM_LATENCY_MAX: Duration = Duration::from_millis(20);

impl CoreWorld {
    /// Nothing goes wrong any more; waits until everything works.
    pub(super) fn recover(&mut self) -> Result<(), Violation> {
        self.rot_last()?;
        let batch = self.faults.batch;
        self.faults = CoreFaults { batch, ..CoreFaults::NONE };
        self.plan.rot = Rate::NEVER;
        self.links.mend_all(CALM_LATENCY_MAX);
        for seat in self.cluster.seats() {
            if self.plans[seat.0].paused {
                self.resume(seat)?;
            }
            self.start(seat)?;
        }
        self.clock.after(NUDGE_EVERY, Due::Nudge);
        // Who begins anew may have to be sent the whole log, entry by entry.
        let logs = self.cluster.nodes.iter().map(|node| node.disk.last().get());
        let entries = logs.max().and_then(|last| u32::try_from(last).ok()).unwrap_or(u32::MAX);
        let latency_max = self.plan.latency_max.min(CALM_LATENCY_MAX);
        let catching_up = (latency_max * 4 + Duration::from_millis(10)) * entries;
        let end = self.clock.now().plus(self.plan.recovery + catching_up);
        let (mut newest, mut nudges) = (None, 0);
        while let Some(due) = self.clock.next(end) {
            let quiet = match due {
                Due::Client | Due::Strike | Due::Mend { .. } => continue,
                Due::Nudge => true,
                _ => false,
            };
            self.happen(due)?;
            if !quiet {
                continue;
            }
            if self.cluster.converged().is_err() {
                nudges += 1;
                if nudges % NUDGES_A_WRITE == 0 {
                    self.propose_last()?;
                }
                continue;
            }
            // What works takes one more entry, and then still works.
            let committed = self.cluster.checks.committed();
            match newest {
                None => newest = Some((self.propose_last()?, committed)),
                Some((_, before)) if committed > before && self.cluster.checks.is_settled() => {
                    return self.cluster.checks.expect_rejections();
                }
                // It was rejected, as while leadership is handed over.
                Some(_) if self.cluster.checks.is_settled() => newest = None,
                Some((seat, _)) if !self.cluster.leads(seat) => newest = None,
                Some(_) => {}
            }
        }
        let open = Err("something that was asked for has no answer");
        Err(Violation::NoProgress(
            self.cluster.converged().and(open).unwrap_or_else(|why: &str| why),
        ))
    }

    /// Proposes a last command, and says where.
    fn propose_last(&mut self) -> Result<Seat, Violation> {
        let leader = self.cluster.seats().find(|seat| self.cluster.is_ready(*seat));
        let seat = leader.unwrap_or(Seat(0));
        let id = ProposalId::new(self.next_id());
        self.step(Step::Propose { seat, id, bytes: 1 }, false)?;
        Ok(seat)
    }

    /// Brings members that lost their disk back, as a driver would.
    pub(super) fn nudge(&mut self) -> Result<(), Violation> {
        self.clock.after(NUDGE_EVERY, Due::Nudge);
        let Some(seat) = self.cluster.seats().find(|seat| self.cluster.is_ready(*seat)) else {
            return Ok(());
        };
        let Some(step) = self.cluster.next_repair(seat) else { return Ok(()) };
        let id = ProposalId::new(self.next_id());
        let change = Box::new(Change { steps: vec![step] });
        self.step(Step::Change { seat, id, change }, false)
    }
}

impl Cluster {
    /// Whether this core leads and has committed in its term.
    pub(super) fn is_ready(&self, seat: Seat) -> bool {
        self.node(seat).core.as_ref().is_some_and(|core| core.is_ready())
    }

    /// What a leader must change for every member to be whole.
    pub(super) fn next_repair(&self, seat: Seat) -> Option<ChangeStep> {
        let configuration = &self.node(seat).configuration;
        let members = configuration.members();
        let lost = members.iter().find(|member| self.node(seat_of(**member)).me != **member)?;
        let now: Member = self.node(seat_of(*lost)).me;
        Some(if configuration.learners.contains(lost) {
            ChangeStep::Remove(*lost)
        } else if !members.contains(&now) {
            ChangeStep::AddLearner(now)
        } else {
            ChangeStep::Promote(now)
        })
    }

    /// Whether everything works.
    pub(super) fn converged(&self) -> Result<(), &'static str> {
        let ready: Vec<Seat> = self.seats().filter(|seat| self.is_ready(*seat)).collect();
        let newest = ready.iter().max_by_key(|seat| self.node(**seat).led);
        let leader = self.node(*newest.ok_or("nobody leads")?);
        if leader.configuration.is_joint() {
            return Err("the configuration is joint");
        }
        for member in leader.configuration.members() {
            let node = self.node(seat_of(member));
            if node.me != member {
                return Err("a member is lost");
            }
            if node.commit != leader.commit || node.configuration != leader.configuration {
                return Err("a member does not know what is committed");
            }
            let machine = &node.machine;
            let same = machine.applied == leader.machine.applied;
            if !same || machine.applied.index != leader.commit {
                return Err("a member has not applied what is committed");
            }
            if machine.state != leader.machine.state {
                return Err("members are in different states");
            }
        }
        match self.nodes.iter().any(|node| self.owes_departure(node, leader)) {
            true => Err("a member that is out does not know it"),
            false => Ok(()),
        }
    }

    /// Whether a member that is out takes itself for a member, though it hears one that has
    /// committed a later configuration than each by which it knows itself to be one.
    fn owes_departure(&self, node: &Node, leader: &Node) -> bool {
        let Some(core) = node.core.as_ref() else { return false };
        let out = !leader.configuration.contains(&node.me);
        if !out || !core.configuration().contains(&node.me) || core.status().departed {
            return false;
        }
        let listed = node.listed();
        self.nodes.iter().filter_map(|other| other.core.as_ref()).any(|other| {
            let (at, committed) = other.committed_configuration();
            let later = Some(at) > listed && !committed.contains(&node.me);
            later && core.knows(&other.me()) && !other.knows(&node.me)
        })
    }
}
