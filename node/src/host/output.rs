//! Everything that a node asks of its driver.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, IndexRange, KnownMembers, LoadId, Namespace, NodeId,
};
use meshraft_discovery::peers::Address;
use meshraft_service::wire::Response;
use meshraft_storage::{GroupId, Job};
use meshraft_transport::{AddressSource, Body, Channel, ReplyToken, RequestId, Scope};

use super::{event::NodeEvent, input::CallId, snapshot_io::SnapshotJob};

/// One output of a [`super::Host`]. Drain them until `None` after every batch of inputs.
#[derive(Debug)]
#[must_use]
pub enum Output {
    /// Share a namespace with peers, under these facts; again whenever they change.
    Share {
        /// The namespace.
        namespace: Namespace,
        /// This node's incarnation in it; durable.
        incarnation: Incarnation,
        /// The groups that this node speaks for, and the members that are heard in each.
        clusters: BTreeMap<ClusterId, KnownMembers>,
        /// The newest version of commands that this node supports in it.
        supports: ClusterVersion,
    },
    /// Share a namespace no more.
    Unshare {
        /// The namespace.
        namespace: Namespace,
    },
    /// Send a message; it may be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// The namespace.
        namespace: Namespace,
        /// What the handle must be bound to.
        scope: Scope,
        /// The receiver's incarnation, where only that one may get it.
        incarnation: Option<Incarnation>,
        /// On which channel.
        channel: Channel,
        /// What to say.
        body: Body,
    },
    /// Send a request and answer [`super::NetworkInput::Reply`], exactly once.
    Request {
        /// The host's name for it.
        id: RequestId,
        /// The receiver.
        to: NodeId,
        /// The namespace.
        namespace: Namespace,
        /// What the handle must be bound to.
        scope: Scope,
        /// On which channel: Command or Snapshot.
        channel: Channel,
        /// What is asked; on Command an encoded [`meshraft_service::wire::Request`].
        payload: Bytes,
        /// When to give up.
        timeout: Duration,
    },
    /// Answer a request.
    Reply {
        /// Where the answer goes.
        token: ReplyToken,
        /// An encoded response.
        payload: Bytes,
    },
    /// Take an address of a peer into the address book.
    AddAddress {
        /// The peer.
        peer: NodeId,
        /// Where it listens.
        address: Address,
        /// Where that is known from.
        source: AddressSource,
    },
    /// Let the address book judge all that one peer says of another, or of itself.
    Hear {
        /// The peer that said it.
        teller: NodeId,
        /// Whom it is about.
        peer: NodeId,
        /// Where that one listens; what was said before and is not said now is withdrawn.
        addresses: BTreeSet<Address>,
    },
    /// Keep the addresses of these nodes: the members of the namespace's cluster, or of the
    /// founder set that this node promised to be in.
    Members {
        /// The namespace.
        namespace: Namespace,
        /// The members, as a whole, without this node.
        members: BTreeSet<NodeId>,
    },
    /// Make a job durable, in order, and answer [`super::Input::Stored`].
    Store(Job),
    /// Read entries and answer [`super::Input::Loaded`].
    Load {
        /// Echoed in the answer.
        load: LoadToken,
        /// The run of slots.
        range: IndexRange,
        /// Stop before the entry that would exceed this cost, but return at least one.
        bytes_max: u64,
    },
    /// Do something with snapshots' files and answer [`super::Input::Snapshot`], where the work
    /// says so. Those of one group in order, one at a time; reads at any time, beside them.
    Snapshot(SnapshotJob),
    /// The answer to a call of the embedding program.
    Answer {
        /// The call.
        id: CallId,
        /// How it ended.
        response: Response,
    },
    /// Something worth telling.
    Event {
        /// Where it happened.
        namespace: Namespace,
        /// What happened.
        event: NodeEvent,
    },
}

/// Names one load: the group, and the core's own name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadToken {
    /// The namespace.
    pub namespace: Namespace,
    /// The group whose log is read.
    pub group: GroupId,
    /// Which opening of the namespace asks, so that an answer finds no later one.
    pub life: u64,
    /// The core's name for the request.
    pub id: LoadId,
}
