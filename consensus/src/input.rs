//! Everything that can happen to a core.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    entry::{Entry, SnapshotMeta},
    error::{InstallError, LoadError},
    identity::Member,
    membership::Change,
    message::Message,
    types::{Index, LoadId, Moment, Position, ProposalId, ReadId, Term, WriteId},
};

/// One input. Its variants are final; one not yet handled is answered `Unsupported`, or observed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The moment of [`crate::Core::deadline`] has come (an early one does no harm).
    Timeout,
    /// A message arrived on a handle bound to this group and to both incarnations.
    Receive {
        /// The member that sent it.
        from: Member,
        /// What it said.
        message: Message,
    },
    /// Replicate a command. Answered by one [`crate::Output::Resolve`].
    Propose {
        /// The driver's name for it.
        id: ProposalId,
        /// The entry's bytes.
        command: Bytes,
    },
    /// The first entry of a founder set's group; ignored unless this core leads with an empty log.
    FirstEntry(Fate),
    /// Change the configuration. Answered by one [`crate::Output::Resolve`].
    Change {
        /// The driver's name for it.
        id: ProposalId,
        /// What shall change.
        change: Change,
    },
    /// Read. Answered by one [`crate::Output::ReadReady`] or [`crate::Output::ReadFailed`].
    Read {
        /// The driver's name for it.
        id: ReadId,
        /// How fresh.
        level: ReadLevel,
    },
    /// Hand leadership over (thesis 3.10). Answered by one [`crate::Output::Resolve`].
    Transfer {
        /// The driver's name for it.
        id: ProposalId,
        /// The successor; `None` lets the leader choose.
        to: Option<Member>,
    },
    /// Campaign now instead of at the election time-out.
    Campaign,
    /// This write and every earlier one of this core are durable.
    Persisted(WriteId),
    /// The driver applied everything up to `index`.
    Applied {
        /// The last applied entry.
        index: Index,
        /// Bytes handed out by `Apply` and not applied yet.
        backlog_bytes: u64,
    },
    /// The answer to an [`crate::Output::Load`].
    Loaded {
        /// The request.
        id: LoadId,
        /// A non-empty prefix of the asked run, or why there is none.
        result: Result<Vec<Entry>, LoadError>,
    },
    /// A snapshot of this member's own state is durable.
    SnapshotTaken(SnapshotMeta),
    /// Chunks of a snapshot moved, to or from `peer`. On a follower it counts as contact with the
    /// leader of `term` only, on a leader as an answer of the follower.
    SnapshotProgress {
        /// The other end.
        peer: Member,
        /// The leader's term when the chunk left it.
        term: Term,
        /// Bytes that arrived.
        offset: u64,
    },
    /// A snapshot was served to `peer` to its end, or can't be.
    SnapshotSent {
        /// The receiver.
        peer: Member,
        /// Whether all of it left.
        ok: bool,
    },
    /// The answer to an [`crate::Output::FetchSnapshot`]: its file is durable and checked, or why
    /// it is not.
    SnapshotFetched {
        /// Which.
        position: Position,
        /// Whether it is there.
        result: Result<(), InstallError>,
    },
    /// The answer to an [`crate::Output::InstallSnapshot`].
    SnapshotInstalled(Result<SnapshotMeta, InstallError>),
    /// The transport lost its last path to a member.
    PeerDown(Member),
    /// The transport has a path to a member again.
    PeerUp(Member),
    /// The node of the leader that this member follows lived at this moment, and took the group to
    /// be asleep in this very term and log. Wakes nobody; it counts as having heard the leader then
    /// for whoever sleeps.
    LeaderSeen {
        /// The leader.
        leader: Member,
        /// When, on this member's clock.
        at: Moment,
    },
    /// These members are to be heard although no own configuration names them: an admission named
    /// them, or their cards counted ([`crate::KnownMembers::judge`]). Each comes with the slot of
    /// the committed configuration that has it, and is heard until that slot is committed here. The
    /// receiver itself may be among them: then it is a member as of that slot. After a start it is
    /// handed in before the first output is taken, so that no departure is told that an admission
    /// contradicts.
    Vouch {
        /// The members, each with its slot.
        members: Vec<(Member, Index)>,
    },
    /// Members disagree on whether the group sleeps: whoever does wakes.
    Wake,
}

/// The fate of a founder set, decided as entry 1 of its own group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Every founder was heard: the cluster lives.
    Found,
    /// The set shall never live.
    Abandon,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadLevel {
    /// After every write acknowledged before the read began (thesis 6.4), on any member.
    Linearizable,
    /// The same on the leader's lease, without a round (thesis 6.4.1).
    Lease,
}
