//! What a node tells of one namespace: the core's view, or why there is no cluster yet.

use bytes::Bytes;
use meshraft_consensus::{
    ClusterVersion, FollowerState, HeldBack as CoreHeldBack, Index, IndexRange, Member, NodeId,
    Role, Status as CoreStatus, Term,
};
use meshraft_discovery::{founding, wire as founding_wire};
use meshraft_service::{
    Replicated, limits,
    wire::{
        Damaged, Halted, HeldBack, MemberRole, MemberState, MemberStatus, NodeRole, NotAdmitted,
        Status, Waiting, WaitingCode,
    },
};

use super::{event::HaltReason, hosted::Hosted};

impl Hosted {
    /// This namespace as this node sees it. In no cluster, numbers are 0 and nobody is a member.
    pub(super) fn status(&self) -> Status {
        let core = self.replica.status();
        let serving = core.as_ref().filter(|core| !core.founding);
        let mut status = Status {
            namespace: self.namespace.clone(),
            cluster: self.founding.record().cluster,
            node: self.me.node,
            incarnation: self.me.incarnation,
            role: self.idle_role(),
            term: Term::ZERO,
            leader: None,
            commit: Index::ZERO,
            applied: Index::ZERO,
            first: Index::ZERO,
            last: Index::ZERO,
            members: Vec::new(),
            waiting: self.founding.waiting().map(|waiting| told(&waiting)),
            snapshot: self.replica.snapshot().map_or(Index::ZERO, |at| at.index),
            forced: self.founding.record().forced,
            halted: self.halted.map(halted),
            damaged: core.as_ref().and_then(damaged),
            asleep: false,
            supports: self.supports,
            in_force: self.replica.replicated().map(Replicated::version),
        };
        let Some(core) = serving.filter(|_| status.cluster.is_some()) else { return status };
        status.role = self.role_away().unwrap_or_else(|| role(core));
        status.term = core.term;
        status.leader = core.leader.map(|leader| leader.node);
        status.commit = core.commit;
        status.applied = core.applied;
        status.first = core.first;
        status.last = core.last.index;
        status.snapshot = core.snapshot;
        status.members = members(core, |member| self.supported_by(member));
        status.asleep = core.asleep;
        if status.waiting.is_none() && status.leader.is_none() {
            let (have, need) = reachable_and_needed(self, core);
            let code = WaitingCode::Leader;
            status.waiting =
                Some(Waiting { code, have, need, missing: self.missing_voters(core), why: None });
        }
        status
    }

    /// What a member supports, if it is this one or told this one.
    pub(super) fn supported_by(&self, member: Member) -> Option<ClusterVersion> {
        if member == self.me {
            return Some(self.supports);
        }
        let facts = self.shared.get(&member.node)?;
        facts.supports.filter(|_| facts.incarnation == Some(member.incarnation))
    }

    /// Where the members can be reached, as far as this node knows: the newest addresses of each.
    pub(super) fn member_addresses(&self) -> Vec<(NodeId, Bytes)> {
        const EACH_MAX: usize = limits::ADDRESSES_MAX / limits::MEMBERS_MAX;
        let members = self.status().members.into_iter().map(|status| status.member.node);
        let newest = |node| {
            let addresses = self.peers.addresses(node).take(EACH_MAX);
            addresses.map(move |address| (node, Bytes::copy_from_slice(address.as_bytes())))
        };
        members.take(limits::MEMBERS_MAX).flat_map(newest).collect()
    }

    fn idle_role(&self) -> NodeRole {
        let record = self.founding.record();
        // Whoever is out of its cluster is that first, whatever it met on the way.
        let away = self.role_away().filter(|role| *role != NodeRole::Joining);
        if let Some(away) = away {
            away
        } else if self.halted.is_some() {
            NodeRole::Stopped
        } else if record.cluster.is_none() && record.promise.is_some() {
            NodeRole::Founding
        } else if self.replica.is_restoring() {
            // It goes on where it was as soon as its state is there.
            NodeRole::Follower
        } else if record.cluster.is_some() || self.founding.phase() == founding::Phase::Joining {
            NodeRole::Joining
        } else {
            NodeRole::Free
        }
    }

    fn missing_voters(&self, core: &CoreStatus) -> Vec<NodeId> {
        let voters = core.configuration.voters.iter().map(|member| member.node);
        voters.filter(|node| *node != self.me.node && !self.shared.contains_key(node)).collect()
    }
}

fn reachable_and_needed(hosted: &Hosted, core: &CoreStatus) -> (u32, u32) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let here = |voter: &&Member| **voter == hosted.me || hosted.shared.contains_key(&voter.node);
    let halves = [&core.configuration.voters, &core.configuration.outgoing];
    let halves = halves.into_iter().filter(|half| !half.is_empty());
    let counts = halves.map(|half| (half.iter().filter(here).count(), half.len() / 2 + 1));
    // Of the halves of a joint change, the one that lacks more of its quorum.
    let (have, need) =
        counts.min_by_key(|(have, need)| have.saturating_sub(*need)).unwrap_or((0, 1));
    (number(have), number(need))
}

fn role(core: &CoreStatus) -> NodeRole {
    match core.role {
        Role::Leader => NodeRole::Leader,
        Role::Candidate | Role::PreCandidate => NodeRole::Candidate,
        Role::Learner => NodeRole::Learner,
        Role::Follower => NodeRole::Follower,
    }
}

fn members(
    core: &CoreStatus,
    supported_by: impl Fn(Member) -> Option<ClusterVersion>,
) -> Vec<MemberStatus> {
    let configuration = &core.configuration;
    let leads = core.role == Role::Leader;
    configuration
        .members()
        .into_iter()
        .map(|member| {
            let role = if configuration.voters.contains(&member) {
                MemberRole::Voter
            } else if configuration.outgoing.contains(&member) {
                MemberRole::Outgoing
            } else {
                MemberRole::Learner
            };
            let follower = core.followers.iter().find(|follower| follower.member == member);
            let (matched, state) = match follower {
                _ if leads && member == core.me => {
                    (Some(core.last.index), Some(MemberState::Leader))
                }
                Some(follower) if !follower.active => {
                    (Some(follower.matched), Some(MemberState::Unreachable))
                }
                Some(follower) => (Some(follower.matched), Some(sending(follower.state))),
                None => (None, None),
            };
            let held_back = follower.and_then(|follower| follower.held_back.map(held));
            let supports = supported_by(member);
            MemberStatus { member, role, matched, state, held_back, supports }
        })
        .collect()
}

/// What the core can't read, if anything.
fn damaged(core: &CoreStatus) -> Option<Damaged> {
    let IndexRange { first, last } = core.damage?;
    Some(Damaged { first, last, repairable: !core.forgotten })
}

const fn halted(reason: HaltReason) -> Halted {
    match reason {
        HaltReason::UnknownCommand => Halted::UnknownCommand,
        HaltReason::UnknownConfiguration => Halted::UnknownConfiguration,
        HaltReason::WrongResponses { .. } => Halted::WrongResponses,
        HaltReason::Panicked => Halted::Panicked,
        HaltReason::StoreFailed => Halted::StoreFailed,
        HaltReason::SnapshotUnreadable { .. } => Halted::SnapshotUnreadable,
        HaltReason::MachineNotReset => Halted::MachineNotReset,
        HaltReason::TooOftenFenced => Halted::TooOftenFenced,
        HaltReason::ClusterVersion { .. } => Halted::ClusterVersion,
    }
}

fn held(why: CoreHeldBack) -> HeldBack {
    match why {
        CoreHeldBack::Unreachable => HeldBack::Unreachable,
        CoreHeldBack::CatchingUp => HeldBack::CatchingUp,
        CoreHeldBack::EnoughVoters { .. } => HeldBack::VotersTarget,
        _ => HeldBack::NotWanted,
    }
}

fn sending(state: FollowerState) -> MemberState {
    match state {
        FollowerState::Probe => MemberState::Probe,
        FollowerState::Replicate => MemberState::Replicate,
        FollowerState::Snapshot => MemberState::Snapshot,
    }
}

fn told(waiting: &founding::Waiting) -> Waiting {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Waiting {
        code: match waiting.code {
            founding::WaitingCode::Founders => WaitingCode::Founders,
            founding::WaitingCode::Promise => WaitingCode::Promise,
            founding::WaitingCode::Admission => WaitingCode::Admission,
            founding::WaitingCode::PassedOver => WaitingCode::PassedOver,
            founding::WaitingCode::Peers => WaitingCode::Peers,
            founding::WaitingCode::Departure => WaitingCode::Departure,
            founding::WaitingCode::Left => WaitingCode::Left,
            founding::WaitingCode::Removed => WaitingCode::Removed,
            _ => WaitingCode::Leader,
        },
        have: number(waiting.have),
        need: number(waiting.need),
        missing: waiting.missing.clone(),
        why: waiting.why.map(not_admitted),
    }
}

const fn not_admitted(why: founding_wire::NotAdmitted) -> NotAdmitted {
    match why {
        founding_wire::NotAdmitted::NotLiving => NotAdmitted::NotLiving,
        founding_wire::NotAdmitted::OtherCluster { .. } => NotAdmitted::OtherCluster,
        founding_wire::NotAdmitted::Busy => NotAdmitted::Busy,
        founding_wire::NotAdmitted::Denied => NotAdmitted::Denied,
        founding_wire::NotAdmitted::Departed => NotAdmitted::Departed,
        founding_wire::NotAdmitted::TooOld { supports, in_force } => {
            NotAdmitted::TooOld { supports, in_force }
        }
        _ => NotAdmitted::NoLeader,
    }
}
