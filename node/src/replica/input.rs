//! Everything that can happen to a replica, and everything that it asks.

use std::time::Duration;

use meshraft_consensus::{
    ClusterVersion, Config, Entry, Event as CoreEvent, Fate, Index, IndexRange, InstallError, Lane,
    LoadError, LoadId, Member, Message, Moment, NodeId, Position, Restored, SnapshotMeta, Term,
    Write, WriteId,
};
use meshraft_service::{
    Replicated, SnapshotWriter,
    router::{ForwardId, RequestId},
    wire::{Operation, Request, Response},
};

use meshraft_storage::SnapshotError;

use crate::host::{HaltReason, RestoreFailure, SnapshotEvent};

/// One input of a [`super::Replica`].
pub enum Input {
    /// The moment of [`super::Replica::deadline`] has come.
    Timeout,
    /// A group begins: a founder set's, a joined cluster's, or one found on disk. One that goes on
    /// from a snapshot begins when its state is restored.
    Start {
        /// Timing and bounds of its core.
        config: Box<Config>,
        /// What its core goes on from.
        restored: Box<Restored>,
        /// Whether founding has yet to be told the fate of the founder set. The core may know it
        /// already, from its commit hint, when the record does not say so.
        founding: bool,
        /// The members that the core hears beside those of its log, each as of a slot.
        vouched: Vec<(Member, Index)>,
        /// Whether its cluster is on trial: until [`Input::Entered`] nobody is told of its leader.
        trial: bool,
    },
    /// The cluster on trial is on record.
    Entered,
    /// The founder set's group that runs stops for the time of a trial, as it is.
    SetAside,
    /// It goes on, after the group on trial was stopped.
    Resume,
    /// It does not go on any more.
    DropAside,
    /// The group is dead: its founder set was abandoned, or this node joined another cluster.
    Stop,
    /// A message of the group arrived.
    Receive {
        /// The member that sent it.
        from: Member,
        /// What it said.
        message: Message,
    },
    /// The transport has a path to a member of the group.
    PeerUp(Member),
    /// The transport lost its last path to a member of the group.
    PeerDown(Member),
    /// The node of the leader of a group that sleeps lived at this moment, and vouched for it.
    LeaderSeen {
        /// The leader.
        leader: Member,
        /// When.
        at: Moment,
    },
    /// These members are to be heard, each as of the slot of a committed configuration: an
    /// admission named them, or their cards counted.
    Vouch {
        /// The members, each with its slot.
        members: Vec<(Member, Index)>,
    },
    /// Another member disagrees on whether the group sleeps.
    Wake,
    /// What a peer says that it supports; `None` if it can't be reached any more.
    Supports {
        /// The peer, a member of the group or not.
        member: Member,
        /// The newest version of commands that it supports.
        supports: Option<ClusterVersion>,
    },
    /// This write of the group and every earlier one are durable.
    Persisted(WriteId),
    /// The answer to an [`Output::Load`].
    Loaded {
        /// The request.
        id: LoadId,
        /// What was read.
        result: Result<Vec<Entry>, LoadError>,
    },
    /// The fate of the founder set, if this replica leads its group.
    FirstEntry(Fate),
    /// Campaign now.
    Campaign,
    /// The node ends: hand leadership over, if this replica leads.
    HandOver,
    /// A request. Answered by one [`Output::Answer`].
    Submit {
        /// The host's name for it.
        id: RequestId,
        /// How often it was forwarded.
        hops: u8,
        /// When whoever asked stops waiting.
        deadline: Moment,
        /// What is asked.
        operation: Operation,
    },
    /// The answer to an [`Output::Forward`].
    Replied {
        /// The forward.
        forward: ForwardId,
        /// The peer's answer; or whether the request may have been delivered.
        result: Result<Response, meshraft_service::router::ForwardLost>,
    },
    /// A snapshot of the own state is durable, or is not written.
    SnapshotTaken {
        /// What it stands for.
        meta: SnapshotMeta,
        /// How many bytes its file has.
        result: Result<u64, SnapshotError>,
    },
    /// A state that was given away by [`Output::RestoreSnapshot`] is back.
    SnapshotRestored {
        /// What it was to be restored from.
        meta: SnapshotMeta,
        /// The state.
        state: Box<Replicated>,
        /// Whether it was.
        result: Result<(), RestoreFailure>,
    },
    /// The answer to an [`Output::FetchSnapshot`].
    SnapshotFetched {
        /// Which.
        position: Position,
        /// Whether it is there, durable and checked.
        result: Result<(), InstallError>,
    },
    /// Bytes of a snapshot came from `peer`, or went there.
    SnapshotProgress {
        /// The other end.
        peer: Member,
        /// The term of the member that they left.
        term: Term,
        /// Where they end.
        offset: u64,
    },
    /// A snapshot was served to a member to its end, or can't be.
    SnapshotSent {
        /// The receiver.
        peer: Member,
        /// Whether all of it left.
        ok: bool,
    },
    /// Nothing more will be durable: the group stops, its requests are answered.
    StoreFailed,
    /// The namespace closes: every request that waits is answered.
    Close,
}

/// One output of a [`super::Replica`].
#[must_use]
pub enum Output {
    /// Send a message to a member of the group.
    Send {
        /// The receiver.
        to: Member,
        /// What it must not wait behind.
        lane: Lane,
        /// What to say.
        message: Message,
    },
    /// Make a write of the group durable.
    Persist(Write),
    /// Read entries of the group.
    Load {
        /// The core's name for the request.
        id: LoadId,
        /// The run of slots.
        range: IndexRange,
        /// Stop before the entry that would exceed this cost.
        bytes_max: u64,
    },
    /// The group's core begins now: it wants to know who can be reached.
    Started,
    /// Write a frozen state to a file and answer [`Input::SnapshotTaken`].
    TakeSnapshot {
        /// What it stands for.
        meta: SnapshotMeta,
        /// The frozen state.
        writer: SnapshotWriter,
    },
    /// Restore a state from a recorded snapshot and answer [`Input::SnapshotRestored`].
    RestoreSnapshot {
        /// Which.
        meta: SnapshotMeta,
        /// The state that it replaces.
        state: Box<Replicated>,
    },
    /// Remove every snapshot of the group but these.
    RetainSnapshots {
        /// What stays.
        positions: Vec<Position>,
    },
    /// Fetch a snapshot, unless that is under way, and answer [`Input::SnapshotFetched`]. It
    /// replaces one that was to be fetched before.
    FetchSnapshot {
        /// The member that offers it.
        from: Member,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// Something about a snapshot that is worth telling.
    Snapshot(SnapshotEvent),
    /// Send a request to a peer and answer [`Input::Replied`].
    Forward {
        /// The router's name for it.
        forward: ForwardId,
        /// The receiver.
        to: NodeId,
        /// What to ask.
        request: Request,
        /// When to give up.
        timeout: Duration,
    },
    /// The answer to a request.
    Answer {
        /// The request.
        id: RequestId,
        /// How it ended.
        response: Response,
    },
    /// This replica leads a founder set's group whose log is empty.
    Led {
        /// The term that it leads.
        term: Term,
    },
    /// It leads that group no more.
    Deposed,
    /// Entry 1 of the group is applied, and says this.
    Decided(Fate),
    /// The leader or the term that this replica knows of changed.
    Leader {
        /// The leader, if one is known.
        leader: Option<Member>,
        /// The term.
        term: Term,
    },
    /// The configuration in force changed.
    Members,
    /// Another version of commands is in force.
    Version(ClusterVersion),
    /// The replica applies no more; its group is stopped.
    Halted(HaltReason),
    /// The group's store went back in time: this incarnation must act no more.
    Amnesia {
        /// What it had acknowledged as durable.
        acknowledged: Index,
    },
    /// A configuration without this member is committed.
    Departed,
    /// A later configuration with this member is committed.
    Returned,
    /// Something that the core observed.
    Observe(CoreEvent),
}
