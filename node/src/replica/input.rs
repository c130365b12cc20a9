//! Everything that can happen to a replica, and everything that it asks.

use std::time::Duration;

use meshraft_consensus::{
    Core, Entry, Event as CoreEvent, Fate, Index, IndexRange, Lane, LoadError, LoadId, Member,
    Message, Moment, NodeId, Term, Write, WriteId,
};
use meshraft_service::{
    router::{ForwardId, RequestId},
    wire::{Operation, Request, Response},
};

use crate::host::HaltReason;

/// One input of a [`super::Replica`].
pub enum Input {
    /// The moment of [`super::Replica::deadline`] has come.
    Timeout,
    /// A group begins: a founder set's, a joined cluster's, or one found on disk.
    Start {
        /// Its core.
        core: Box<Core>,
        /// Whether founding has yet to be told the fate of the founder set. The core may know it
        /// already, from its commit hint, when the record does not say so.
        founding: bool,
    },
    /// The group is dead: its founder set was abandoned, or this node joined another cluster.
    Stop,
    /// The group belongs to a store that went back in time: what follows begins anew, and what was
    /// applied here counts no more.
    Renew,
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
    /// Nothing more will be durable: the group stops, its requests are answered.
    StoreFailed,
    /// The namespace closes: every request that waits is answered.
    Close,
}

/// One output of a [`super::Replica`].
#[derive(Debug)]
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
