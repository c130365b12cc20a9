//! What the transport tells its caller.

use bytes::Bytes;
use libp2p::Multiaddr;
use meshraft_consensus::{Card, ClusterId, Index, Member, Namespace, NodeId};

use crate::{
    error::{Refusal, RequestError},
    key::KeyId,
    types::{Body, Channel, PeerFacts, ReplyToken, RequestId, Source},
};

/// One event. Those of one peer, channel and scope keep their order; lifecycle events and replies
/// may overtake messages. What of the lifecycle was not taken yet is joined: only the newest facts
/// of a peer are told, and a connection that came and went meanwhile may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node can be reached here: it listens there, or its swarm says so. The address ends in
    /// `/p2p/` and its own id.
    Listening(Multiaddr),
    /// This node can be reached here no longer.
    ListeningEnded(Multiaddr),
    /// Where a peer was reached at first hand, as a whole, the newest proof first. Told when that
    /// changes; empty when all of it is too old or was withdrawn.
    Proven {
        /// The peer.
        peer: NodeId,
        /// Its addresses, without a `/p2p/` part.
        addresses: Vec<Multiaddr>,
    },
    /// The first connection to this peer is up.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its end of the connection.
        address: Multiaddr,
        /// Whether this node dialled.
        dialled: bool,
    },
    /// The last connection to this peer is gone. Nothing is shared with it any more.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// The peer has this namespace open too. Told again when its facts change.
    Shared {
        /// The peer.
        peer: NodeId,
        /// What both have open.
        namespace: Namespace,
        /// What the peer says of itself.
        facts: PeerFacts,
    },
    /// The peer, or this node, closed the namespace. Not told after `Disconnected`.
    Unshared {
        /// The peer.
        peer: NodeId,
        /// What is no longer shared.
        namespace: Namespace,
    },
    /// A hello was refused, by either end. Told once for each change of the reason, and the same
    /// reason of the same peer and namespace at most once in ten seconds; when many peers are
    /// refused, not all of them are told.
    Refused {
        /// The peer.
        peer: NodeId,
        /// The namespace that the hello was for.
        namespace: Namespace,
        /// Why.
        why: Refusal,
        /// With [`Refusal::KeyMismatch`] the fingerprints of the keys that are held here for the
        /// namespace, the active one first; else none. To be compared by people with those of the
        /// other end.
        keys: Vec<KeyId>,
    },
    /// A peer that is not among the known members of a cluster showed cards that count: it is
    /// heard. To be kept durably, so that it goes on counting.
    Vouched {
        /// The peer in its incarnation.
        member: Member,
        /// The namespace of the cluster.
        namespace: Namespace,
        /// The cluster.
        cluster: ClusterId,
        /// The slot that the peer's own card names.
        at: Index,
        /// The cards that were shown, at most [`Card::KEPT_MAX`]; a chain to the peer is among
        /// them.
        cards: Vec<Card>,
    },
    /// A message.
    Received {
        /// Who sent it, under which binding.
        from: Source,
        /// The channel that it came on.
        channel: Channel,
        /// What it says.
        body: Body,
    },
    /// A request; answer it by [`crate::Transport::reply`]. Its own bytes carry its deadline.
    Request {
        /// Who asks, under which binding.
        from: Source,
        /// The channel that it came on, and that its reply goes back on.
        channel: Channel,
        /// The way back.
        token: ReplyToken,
        /// What is asked.
        payload: Bytes,
    },
    /// How a request of this node ended; exactly once for each.
    Reply {
        /// The caller's name for it.
        id: RequestId,
        /// The answer, or why there is none.
        result: Result<Bytes, RequestError>,
    },
}

impl Event {
    /// Where a message or a request came from.
    pub(crate) const fn source(&self) -> Option<&Source> {
        match self {
            Self::Received { from, .. } | Self::Request { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The peer that a notice is about.
    pub(crate) const fn subject(&self) -> Option<NodeId> {
        match self {
            Self::Connected { peer, .. }
            | Self::Disconnected { peer }
            | Self::Shared { peer, .. }
            | Self::Unshared { peer, .. }
            | Self::Refused { peer, .. } => Some(*peer),
            _ => None,
        }
    }
}
