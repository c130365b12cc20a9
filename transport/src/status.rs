//! What `status --peer` and `doctor` show of the peers of a node.

use libp2p::Multiaddr;
use meshraft_consensus::{Namespace, NodeId};

use crate::{
    error::Refusal,
    types::{Channel, PeerFacts, Scope},
};

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub node: NodeId,
    /// Its end of the connection in use.
    pub address: Multiaddr,
    /// Whether this node dialled it.
    pub dialled: bool,
    /// Live connections; more than one only for a moment after a simultaneous dial.
    pub connections: usize,
    /// What is shared with it or was refused, ordered by name.
    pub namespaces: Vec<PeerNamespace>,
    /// Every open handle, in both directions.
    pub handles: Vec<HandleStatus>,
}

/// One namespace towards one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// What the peer says of itself, if it shares the namespace.
    pub facts: Option<PeerFacts>,
    /// The last hello that either end refused since the last one that succeeded.
    pub refused: Option<Refusal>,
}

/// One open handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandleStatus {
    /// The namespace that it carries.
    pub namespace: Namespace,
    /// The channel that it is on.
    pub channel: Channel,
    /// What it is bound to.
    pub scope: Scope,
    /// Its number on its stream.
    pub handle: u32,
    /// Whether this node opened it.
    pub ours: bool,
    /// Whether a key seals it.
    pub sealed: bool,
}
