//! What a member tells of itself in one namespace, as plain data.
//!
//! The first version's encoding is frozen: fields that came later are left out of it and default.
//! [`extended`] carries them behind it, in a form to which fields can be appended for good: a
//! reader passes over what it does not know, and defaults what an older writer left out.

use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, Index, Member, Namespace, NodeId, Term,
};
use serde::{Deserialize, Serialize};

/// One member's view of one namespace. In no cluster, all numbers are 0 and `members` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The namespace.
    pub namespace: Namespace,
    /// The living cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// Who tells.
    pub node: NodeId,
    /// The life of its store.
    pub incarnation: Incarnation,
    /// What it does.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Known to be committed.
    pub commit: Index,
    /// Applied.
    pub applied: Index,
    /// The first entry that its log still holds.
    pub first: Index,
    /// The last entry of its log.
    pub last: Index,
    /// Who takes part.
    pub members: Vec<MemberStatus>,
    /// What it waits for before it can serve.
    pub waiting: Option<Waiting>,
    /// The last entry that its newest durable snapshot covers; 0 is none.
    #[serde(skip)]
    pub snapshot: Index,
    /// Whether it founded its cluster alone because it was told to.
    #[serde(skip)]
    pub forced: bool,
    /// Why it takes no part until it is started again.
    #[serde(skip)]
    pub halted: Option<Halted>,
    /// What it can't read of its own log: it neither votes nor leads until that is repaired.
    #[serde(skip)]
    pub damaged: Option<Damaged>,
    /// Whether its group is idle and sleeps: nothing is sent for it until it is asked again.
    #[serde(skip)]
    pub asleep: bool,
    /// The newest version of commands that it supports.
    #[serde(skip)]
    pub supports: ClusterVersion,
    /// The version of commands in force as far as it has applied; `None` while it has no state.
    #[serde(skip)]
    pub in_force: Option<ClusterVersion>,
}

/// What a member can't read of its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The first slot that is missing.
    pub first: Index,
    /// The last one.
    pub last: Index,
    /// Whether other members can tell what stood there. If not, nobody can know how the log ended:
    /// once it hears a leader, it comes back as a new member.
    pub repairable: bool,
}

impl Status {
    /// How many more voters may fail before nothing can be committed; only a leader knows. While
    /// voters change it counts the new ones.
    #[must_use]
    pub fn failure_tolerance(&self) -> Option<usize> {
        let voters = self.members.iter().filter(|member| member.role == MemberRole::Voter);
        let states: Vec<MemberState> = voters.map(|voter| voter.state).collect::<Option<_>>()?;
        let majority = states.len() / 2 + 1;
        let live = states.iter().filter(|state| **state != MemberState::Unreachable).count();
        (!states.is_empty()).then(|| live.saturating_sub(majority))
    }

    /// Which members do not let a newer version of commands come into force, though this one
    /// supports it: they support no more than what is in force, or nobody here knows what they do.
    pub fn held_back_by(&self) -> impl Iterator<Item = &MemberStatus> {
        let in_force = self.in_force.filter(|in_force| *in_force < self.supports);
        let members = self.members.iter().filter(move |_| in_force.is_some());
        members.filter(move |member| member.supports <= in_force)
    }

    /// The same in the words of the first version.
    #[must_use]
    pub fn plain(mut self) -> Self {
        if matches!(self.role, NodeRole::Left | NodeRole::Removed) {
            self.role = NodeRole::Stopped;
        }
        self.waiting = self.waiting.filter(|waiting| {
            use WaitingCode::{Admission, Founders, Leader, Promise};
            matches!(waiting.code, Founders | Promise | Admission | Leader)
        });
        self
    }
}

/// What a node does in a namespace. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeRole {
    /// In no cluster and bound by nothing.
    Free,
    /// Bound by a promise.
    Founding,
    /// Being admitted to a living cluster.
    Joining,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote.
    Learner,
    /// Has halted.
    Stopped,
    /// Left its cluster; it asks to come back when it is started again, or told to.
    Left,
    /// Was removed from its cluster; it comes back only when it is told to.
    Removed,
}

/// Why a replica stopped for good in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Halted {
    /// A command that this build does not know.
    UnknownCommand,
    /// A configuration that this build does not know.
    UnknownConfiguration,
    /// The state machine gave another number of responses than it got commands.
    WrongResponses,
    /// The state machine panicked.
    Panicked,
    /// The store failed.
    StoreFailed,
    /// The recorded snapshot can't be restored.
    SnapshotUnreadable,
    /// The store went back in time, and the state machine can't begin anew in this process.
    MachineNotReset,
    /// A version of commands is in force that this build does not support.
    ClusterVersion,
    /// A further verdict of lost acknowledgements came while as many logs are fenced as are kept.
    TooOftenFenced,
    /// Something that this build has no name for.
    Other,
}

impl Halted {
    /// All that have a number on the wire, from 1 on.
    const NUMBERED: [Self; 9] = [
        Self::UnknownCommand,
        Self::UnknownConfiguration,
        Self::WrongResponses,
        Self::Panicked,
        Self::StoreFailed,
        Self::SnapshotUnreadable,
        Self::MachineNotReset,
        Self::ClusterVersion,
        Self::TooOftenFenced,
    ];

    fn number(self) -> u8 {
        let place = Self::NUMBERED.iter().position(|one| *one == self);
        place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(u8::MAX)
    }

    fn of_number(number: u8) -> Option<Self> {
        let place = usize::from(number).checked_sub(1)?;
        Some(Self::NUMBERED.get(place).copied().unwrap_or(Self::Other))
    }
}

/// One member, as the telling one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Which.
    pub member: Member,
    /// What it is in the configuration.
    pub role: MemberRole,
    /// Its log equals the leader's up to here; only a leader knows.
    pub matched: Option<Index>,
    /// How the leader sends to it; only a leader knows.
    pub state: Option<MemberState>,
    /// Why a learner does not vote yet; only a leader knows, and a learner that is described has
    /// asked it.
    #[serde(skip)]
    pub held_back: Option<HeldBack>,
    /// The newest version of commands that it supports, if it told the telling one.
    #[serde(skip)]
    pub supports: Option<ClusterVersion>,
}

/// Why a learner does not vote yet. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HeldBack {
    /// Its log is still behind.
    CatchingUp,
    /// The cluster has as many voters as it wants.
    VotersTarget,
    /// It does not answer its leader.
    Unreachable,
    /// The leader promotes nobody by itself.
    NotWanted,
}

/// What a member is in the configuration. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberRole {
    /// It votes.
    Voter,
    /// It votes until a joint change is over.
    Outgoing,
    /// It receives the log only.
    Learner,
}

/// How a leader sends to a member. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberState {
    /// It is the leader itself.
    Leader,
    /// Looking for where the logs meet.
    Probe,
    /// In a pipeline.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
    /// Not heard for an election time-out.
    Unreachable,
}

/// The encoding to which fields can be appended.
pub(super) mod extended {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use meshraft_consensus::{ClusterVersion, Index, Member};
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _,
    };

    use super::{Damaged, Halted, HeldBack, NotAdmitted, Status};

    /// What came after the first version, in order of coming.
    #[derive(Default, Serialize, Deserialize)]
    struct Second {
        snapshot: Index,
        forced: bool,
        held_back: Vec<(Member, HeldBack)>,
        why: Option<NotAdmitted>,
    }

    /// What came after that.
    #[derive(Default, Serialize, Deserialize)]
    struct Third {
        /// The number of a [`Halted`], from 1; 0 is none, and an unknown one is another.
        halted: u8,
    }

    /// What came after that.
    #[derive(Default, Serialize, Deserialize)]
    struct Fourth {
        damaged: Option<Damaged>,
    }

    /// What came after that.
    #[derive(Default, Serialize, Deserialize)]
    struct Fifth {
        asleep: bool,
    }

    /// And after that.
    #[derive(Default, Serialize, Deserialize)]
    struct Sixth {
        supports: ClusterVersion,
        in_force: Option<ClusterVersion>,
        members: Vec<(Member, ClusterVersion)>,
    }

    /// The next part, or nothing of it if the build that wrote this did not know it.
    fn part<'de, T: Default + Deserialize<'de>, E: serde::de::Error>(
        bytes: &'de [u8],
    ) -> Result<(T, &'de [u8]), E> {
        if bytes.is_empty() {
            return Ok((T::default(), bytes));
        }
        postcard::take_from_bytes(bytes).map_err(E::custom)
    }

    pub(in crate::wire) fn serialize<S: Serializer>(
        status: &Status,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let held = |member: &super::MemberStatus| Some((member.member, member.held_back?));
        let second = Second {
            snapshot: status.snapshot,
            forced: status.forced,
            held_back: status.members.iter().filter_map(held).collect(),
            why: status.waiting.as_ref().and_then(|waiting| waiting.why),
        };
        let third = Third { halted: status.halted.map_or(0, Halted::number) };
        let fourth = Fourth { damaged: status.damaged };
        let fifth = Fifth { asleep: status.asleep };
        let told = |member: &super::MemberStatus| Some((member.member, member.supports?));
        let sixth = Sixth {
            supports: status.supports,
            in_force: status.in_force,
            members: status.members.iter().filter_map(told).collect(),
        };
        let parts = (status, second, third, fourth, fifth, sixth);
        let bytes = postcard::to_allocvec(&parts).map_err(S::Error::custom)?;
        Bytes::from(bytes).serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<Status>, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let (mut status, later): (Box<Status>, _) =
            postcard::take_from_bytes(&bytes).map_err(D::Error::custom)?;
        let (second, later): (Second, _) = part(later)?;
        let (third, later): (Third, _) = part(later)?;
        let (fourth, later): (Fourth, _) = part(later)?;
        let (fifth, later): (Fifth, _) = part(later)?;
        // What follows it comes from a later build.
        let (sixth, _): (Sixth, _) = part(later)?;
        (status.snapshot, status.forced) = (second.snapshot, second.forced);
        status.halted = Halted::of_number(third.halted);
        status.damaged = fourth.damaged;
        status.asleep = fifth.asleep;
        (status.supports, status.in_force) = (sixth.supports, sixth.in_force);
        if let Some(waiting) = &mut status.waiting {
            waiting.why = second.why;
        }
        let held: BTreeMap<_, _> = second.held_back.into_iter().collect();
        let supports: BTreeMap<_, _> = sixth.members.into_iter().collect();
        for member in &mut status.members {
            member.held_back = held.get(&member.member).copied();
            member.supports = supports.get(&member.member).copied();
        }
        Ok(status)
    }
}

/// What a node waits for before it can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What for.
    pub code: WaitingCode,
    /// How many there are, itself included.
    pub have: u32,
    /// How many are needed.
    pub need: u32,
    /// Those that are missing, as far as their ids are known.
    pub missing: Vec<NodeId>,
    /// What the last member answered that did not admit it.
    #[serde(skip)]
    pub why: Option<NotAdmitted>,
}

/// Why a member did not admit a node. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The asked node is in no cluster that lives.
    NotLiving,
    /// The asked node is in another cluster.
    OtherCluster,
    /// No leader answered in time.
    NoLeader,
    /// Too many ask at once.
    Busy,
    /// The cluster's admission rule turned the node down: it is of no use to ask again.
    Denied,
    /// The asked node takes part in its cluster no more.
    Departed,
    /// The node supports less than the version of commands in force.
    TooOld {
        /// What it supports at most.
        supports: ClusterVersion,
        /// What is in force.
        in_force: ClusterVersion,
    },
}

/// What a node waits for. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WaitingCode {
    /// Enough founders.
    Founders,
    /// The fate of a founder set.
    Promise,
    /// Admission to a living cluster.
    Admission,
    /// A leader.
    Leader,
    /// The first answer of the peers that it was given, before it founds without them.
    Peers,
    /// The cluster, to commit that it leaves.
    Departure,
    /// A word of the operator, or its next start: it left.
    Left,
    /// A word of the operator: it was removed.
    Removed,
    /// Peers that it passes over for a time, as they did not do what they said.
    PassedOver,
}
