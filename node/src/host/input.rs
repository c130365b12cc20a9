//! Everything that can happen to a node.

use std::{num::NonZeroU16, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Config, Entry, Index, LoadError, Member, Namespace, NodeId,
};
use meshraft_discovery::peers::Address;
use meshraft_service::{StateMachine, wire::Operation};
use meshraft_storage::{OpenedNamespace, Ticket};
use meshraft_transport::{
    Body, Channel, PeerFacts, Refusal, ReplyToken, RequestError, RequestId, Source,
};

use super::{output::LoadToken, snapshot_io::SnapshotDone};

/// One input of a [`super::Host`].
pub enum Input {
    /// The moment of [`super::Host::deadline`] has come (an early one does no harm).
    Timeout,
    /// Host a namespace from now on; a second time it is ignored.
    Open {
        /// Its name.
        namespace: Namespace,
        /// How.
        options: NamespaceOptions,
        /// What the store holds of it, for a namespace that this process had open before; else
        /// that is known from when the store was opened.
        found: Option<Box<OpenedNamespace>>,
    },
    /// Stop hosting a namespace; everything that waits in it is answered.
    Close {
        /// Its name.
        namespace: Namespace,
    },
    /// The node is to end: leadership is handed over wherever it leads. Everything goes on
    /// meanwhile; ask [`super::Host::is_handing_over`].
    HandOver,
    /// The addresses on which this node listens, as a whole.
    Listening(Vec<Address>),
    /// Something came from the network.
    Network(NetworkInput),
    /// These jobs of the store are durable.
    Stored(Vec<Ticket>),
    /// The store failed: nothing will be durable in this process any more.
    StoreFailed,
    /// The answer to an [`super::Output::Load`].
    Loaded {
        /// The request.
        load: LoadToken,
        /// A non-empty prefix of the asked run, or why there is none.
        result: Result<Vec<Entry>, LoadError>,
    },
    /// The answer to an [`super::Output::Snapshot`].
    Snapshot(SnapshotDone),
    /// A request of the embedding program. Answered by one [`super::Output::Answer`].
    Call {
        /// The driver's name for it.
        id: CallId,
        /// Whom it concerns.
        namespace: Namespace,
        /// What is asked.
        operation: Operation,
        /// How long the caller waits.
        timeout: Duration,
    },
}

/// How a namespace is hosted.
pub struct NamespaceOptions {
    /// Found a cluster as soon as this many agree, and never with fewer.
    pub expect: Option<NonZeroU16>,
    /// Whether this node may found at all; else it only joins, or goes on where it was.
    pub found: bool,
    /// How long to observe before deciding (DESIGN: the bounded window).
    pub window: Duration,
    /// Within which part of the window founders have to be seen, in percent from 1 to 100.
    pub threshold_percent: u8,
    /// Found alone and at once; ask [`super::Host::check_force`] before.
    pub force: bool,
    /// Learners are promoted while there are fewer voters than this.
    pub voters_target: usize,
    /// Timing and bounds of the core; its seed is replaced by one of the host's.
    pub core: Config,
    /// What the commands are applied to.
    pub machine: Box<dyn StateMachine>,
    /// The newest version of commands that this member supports: what the leader may bring into
    /// force as far as this member is concerned.
    pub supports: ClusterVersion,
    /// A snapshot is due when the entries applied since the newest one cost this many bytes, but
    /// never before they cost half of what the newest one does.
    pub snapshot_bytes: u64,
    /// A snapshot is due, with the same exception, after this many entries.
    pub snapshot_entries: u64,
    /// Ids of peers that the operator named, for `status`.
    pub known: Vec<NodeId>,
    /// Whether peers prove a key of this namespace, so that each of them is entitled to speak for
    /// its cluster.
    pub keyed: bool,
    /// How many peers the operator named, with or without an id.
    pub targets: usize,
}

impl NamespaceOptions {
    /// The usual [`NamespaceOptions::snapshot_bytes`]: a restart replays that much in well under a
    /// second.
    pub const SNAPSHOT_BYTES: u64 = 64 * 1024 * 1024;
    /// The usual [`NamespaceOptions::snapshot_entries`].
    pub const SNAPSHOT_ENTRIES: u64 = 100_000;
}

/// Something that the transport tells.
#[derive(Clone, Debug)]
pub enum NetworkInput {
    /// A connection to a peer exists now.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// Where a peer was reached at first hand changed.
    Proven {
        /// The peer.
        peer: NodeId,
        /// Its addresses, as a whole, the newest proof first.
        addresses: Vec<Address>,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// A hello succeeded: the peer shares the namespace, with these facts.
    Shared {
        /// The peer.
        peer: NodeId,
        /// The namespace.
        namespace: Namespace,
        /// What the peer says of itself.
        facts: PeerFacts,
    },
    /// The peer's last handle of the namespace is gone.
    Unshared {
        /// The peer.
        peer: NodeId,
        /// The namespace.
        namespace: Namespace,
    },
    /// A hello was refused, by the peer or by us.
    Refused {
        /// The peer.
        peer: NodeId,
        /// The namespace.
        namespace: Namespace,
        /// Why.
        why: Refusal,
    },
    /// A peer that the core did not know proved by cards that it is a member of a cluster.
    Vouched {
        /// The peer in its incarnation.
        member: Member,
        /// The namespace of the cluster.
        namespace: Namespace,
        /// The cluster.
        cluster: ClusterId,
        /// The slot of the committed configuration that has it.
        at: Index,
    },
    /// A message arrived.
    Received {
        /// Whom it is from, and what its handle is bound to.
        from: Source,
        /// On which channel.
        channel: Channel,
        /// What it says.
        body: Body,
    },
    /// A request arrived; answer it by one [`super::Output::Reply`].
    Request {
        /// Whom it is from, and what its handle is bound to.
        from: Source,
        /// On which channel: Command or Snapshot.
        channel: Channel,
        /// Where the answer goes.
        token: ReplyToken,
        /// What is asked; on Command an encoded [`meshraft_service::wire::Request`].
        payload: Bytes,
    },
    /// The answer to an [`super::Output::Request`].
    Reply {
        /// The request.
        id: RequestId,
        /// An encoded response, or what became of the request.
        result: Result<Bytes, RequestError>,
    },
}

/// The driver's name for a request of the embedding program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// The call with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}
