//! What a core tells of itself.

use alloc::vec::Vec;

use crate::{
    core::Core,
    event::Role,
    identity::{ClusterId, Member},
    membership::Configuration,
    role::RoleState,
    types::{Index, IndexRange, Position, Term},
};

/// A core at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who it is.
    pub me: Member,
    /// The group it belongs to.
    pub cluster: ClusterId,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader that it knows of, itself included.
    pub leader: Option<Member>,
    /// Whether this leader has committed an entry of its own term.
    pub ready: bool,
    /// Whether the fate of the founder set is still open, or `Abandon`.
    pub founding: bool,
    /// Slots of its log that it can't read: it neither votes nor leads.
    pub damage: Option<IndexRange>,
    /// Whether the end of its log is among what it can't read: it comes back as a new member once
    /// it hears a leader.
    pub forgotten: bool,
    /// Whether it was taken out of the group, and not admitted again.
    pub departed: bool,
    /// Whether the group is idle and it sleeps.
    pub asleep: bool,
    /// Known to be committed.
    pub commit: Index,
    /// Applied by the driver.
    pub applied: Index,
    /// The last slot that the newest snapshot covers; zero if there is none.
    pub snapshot: Index,
    /// The first entry that the log still holds; at most one past the snapshot.
    pub first: Index,
    /// The last entry of the log.
    pub last: Position,
    /// The configuration in force.
    pub configuration: Configuration,
    /// On a leader: every other member and how far it is.
    pub followers: Vec<FollowerStatus>,
}

/// How far a follower is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub member: Member,
    /// Its durable log equals the leader's up to here.
    pub matched: Index,
    /// How the leader sends to it.
    pub state: FollowerState,
    /// Whether it was heard within an election time-out; of a group that sleeps, before it did.
    pub active: bool,
    /// For a learner: why it is not promoted. `None` means that it is a voter, or about to be one.
    pub held_back: Option<HeldBack>,
    /// What it had acknowledged and lost: it counts for nothing until it is a new member.
    pub amnesiac: Option<Index>,
}

/// Why a learner is not promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeldBack {
    /// It does not answer, or has lost what it acknowledged.
    Unreachable,
    /// It has not caught up with the log within a round shorter than an election time-out.
    CatchingUp,
    /// There are as many voters as are wanted; it stands by.
    EnoughVoters {
        /// How many are wanted.
        target: usize,
    },
    /// The leader promotes nobody by itself.
    NotWanted,
}

/// How a leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FollowerState {
    /// One request at a time, until it is known where the logs meet.
    Probe,
    /// Requests in a pipeline.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
}

impl Core {
    /// What this core tells of itself at the moment.
    pub fn status(&self) -> Status {
        Status {
            me: self.me,
            cluster: self.cluster,
            role: self.role(),
            term: self.hard.term,
            leader: self.leader(),
            ready: self.is_ready(),
            founding: self.is_founding(),
            damage: self.damage.as_ref().map(|damage| damage.range),
            forgotten: self.damage.as_ref().is_some_and(|damage| damage.forgotten),
            departed: self.is_departed(),
            asleep: self.is_dormant(),
            commit: self.commit,
            applied: self.apply.applied(),
            snapshot: self.snapshots.newest(),
            first: self.log.base().index.next(),
            last: self.log.last(),
            configuration: self.membership.current().clone(),
            followers: self.follower_statuses(),
        }
    }

    fn follower_statuses(&self) -> Vec<FollowerStatus> {
        let RoleState::Leader(leader) = &self.role else { return Vec::new() };
        let election = self.config.knobs().election;
        let voters = self.membership.current().voters.len();
        let status =
            |(member, progress): (&Member, &crate::replication::Progress)| FollowerStatus {
                member: *member,
                matched: progress.matched,
                state: progress.state(),
                active: leader.asleep || progress.is_active(self.now, election),
                held_back: self.held_back(member, voters),
                amnesiac: progress.amnesiac,
            };
        leader.progress.iter().map(status).collect()
    }
}
