//! What callers say to the transport and hear from it: channels, scopes, bodies, names of requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, KnownMembers, Message, Namespace, NodeId,
};

use crate::key::KeyRing;

/// What a message must not wait behind. Each channel is one protocol of the node, shared by all
/// namespaces, with streams of its own. The order of the variants is their number in sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Heartbeats and votes, and what founding says.
    Control,
    /// Entries and their acknowledgements.
    Entries,
    /// Requests of clients and members, and their replies.
    Command,
    /// Requests for parts of snapshots, and their replies, which are large.
    Snapshot,
    /// Exchange of peer addresses.
    Peers,
}

impl Channel {
    /// Every channel, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Control, Self::Entries, Self::Command, Self::Snapshot, Self::Peers];

    /// The name of its protocol.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Control => "/meshraft/1/control",
            Self::Entries => "/meshraft/1/entries",
            Self::Command => "/meshraft/1/command",
            Self::Snapshot => "/meshraft/1/snapshot",
            Self::Peers => "/meshraft/1/peers",
        }
    }

    /// Its number, from zero.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether it carries requests and their replies, and nothing else.
    pub const fn asks(self) -> bool {
        matches!(self, Self::Command | Self::Snapshot)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol())
    }
}

/// What a handle is bound to besides its namespace, as the sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// No cluster: founding, joining, peer exchange, and every client.
    Free,
    /// One cluster: consensus messages, and commands from member to member.
    Cluster(ClusterId),
}

impl Scope {
    /// The cluster, if there is one.
    pub const fn cluster(self) -> Option<ClusterId> {
        match self {
            Self::Free => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }
}

impl From<Option<ClusterId>> for Scope {
    fn from(cluster: Option<ClusterId>) -> Self {
        cluster.map_or(Self::Free, Self::Cluster)
    }
}

/// A namespace that this node opens to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNamespace {
    /// Its name. Peers without it learn only a hash, and under a key nothing at all.
    pub namespace: Namespace,
    /// The keys that seal it; empty if it is open.
    pub keys: KeyRing,
    /// What this node is in it.
    pub role: LocalRole,
}

/// What this node is in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalRole {
    /// Sends commands, holds nothing, and accepts no hello.
    Client,
    /// Holds a record of the namespace.
    Member {
        /// The life of that record.
        incarnation: Incarnation,
        /// The clusters that this node speaks for now: a founder set's group or the living
        /// cluster. At most [`LocalRole::CLUSTERS_MAX`]; the transport tells no more than that.
        /// With each, the members that are known in it: a handle in the scope of a cluster is
        /// opened to nobody else, and closed when its peer is not known any more.
        clusters: BTreeMap<ClusterId, KnownMembers>,
        /// The newest version of commands that this node supports; peers are told.
        supports: ClusterVersion,
    },
}

impl LocalRole {
    /// How many clusters a member can speak for at one time.
    pub const CLUSTERS_MAX: usize = 8;

    /// The incarnation of a member.
    pub const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Client => None,
            Self::Member { incarnation, .. } => Some(*incarnation),
        }
    }

    /// The clusters of a member, and who is known in each.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (&ClusterId, &KnownMembers)> {
        let clusters = match self {
            Self::Client => None,
            Self::Member { clusters, .. } => Some(clusters),
        };
        clusters.into_iter().flatten()
    }

    /// The members that are known in a cluster that this node speaks for.
    pub(crate) fn known(&self, cluster: ClusterId) -> Option<&KnownMembers> {
        match self {
            Self::Client => None,
            Self::Member { clusters, .. } => clusters.get(&cluster),
        }
    }
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A message of consensus; only in [`Scope::Cluster`], on Control or Entries.
    Consensus(Message),
    /// Opaque bytes; not on Command and Snapshot, which have requests and replies.
    Bytes(Bytes),
}

/// Where a message came from; every field is bound to the handle that carried it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The sender, proven by the connection.
    pub node: NodeId,
    /// Its incarnation; `None` for a client.
    pub incarnation: Option<Incarnation>,
    /// The namespace, proven by the seal if it has a key.
    pub namespace: Namespace,
    /// The cluster that both speak for, or none.
    pub scope: Scope,
}

/// What a peer says of itself in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// What it is there.
    pub role: PeerRole,
    /// The first of `clusters`.
    pub cluster: Option<ClusterId>,
    /// Every cluster that it speaks for, at most [`LocalRole::CLUSTERS_MAX`].
    pub clusters: BTreeSet<ClusterId>,
    /// The life of its record; `None` for a client.
    pub incarnation: Option<Incarnation>,
    /// The newest version of commands that it supports; `None` for a client.
    pub supports: Option<ClusterVersion>,
}

/// What a peer is in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// It sends commands and holds nothing.
    Client,
    /// It holds a record of the namespace.
    Member,
}

/// The caller's name for a request; answered by exactly one [`crate::Event::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The request with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The way back to whoever asked. Using it twice, or after its stream is gone, does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken {
    stream: u64,
    handle: u32,
    request: u64,
}

impl ReplyToken {
    /// The token of a request on a handle of a stream; for transports, real and simulated.
    pub const fn new(stream: u64, handle: u32, request: u64) -> Self {
        Self { stream, handle, request }
    }

    /// The stream's number.
    pub const fn stream(self) -> u64 {
        self.stream
    }

    /// The handle on that stream.
    pub const fn handle(self) -> u32 {
        self.handle
    }

    /// The request's number on that handle.
    pub const fn request(self) -> u64 {
        self.request
    }
}
