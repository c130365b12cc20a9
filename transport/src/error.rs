//! Why a hello is refused, a request fails, or a transport does not start.

use std::io;

use libp2p::Multiaddr;
use meshraft_consensus::{CardError, ClusterId, Incarnation, Index};
use serde::{Deserialize, Serialize};

use crate::{
    address::AddressErrors,
    bounded,
    types::{Channel, LocalRole},
};

/// Why one end does not talk to the other in a namespace. The order of variants and fields is the
/// wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The refusing end has no such namespace open; it may open it later.
    #[error("the peer does not have this namespace open")]
    UnknownNamespace,
    /// The two ends do not hold the same namespace key, or only one of them holds one; or the
    /// refusing end has no such namespace open. Under a key the two are not told apart: a stranger
    /// would learn the names of namespaces.
    #[error("wrong key, or no such namespace")]
    KeyMismatch,
    /// The refusing end does not speak for that cluster.
    #[error("the peer does not speak for cluster {asked}")]
    WrongCluster {
        /// The cluster that the hello named.
        asked: ClusterId,
        /// The clusters that the refusing end speaks for.
        #[serde(deserialize_with = "bounded::list::<{ LocalRole::CLUSTERS_MAX }, _, _>")]
        speaks_for: Vec<ClusterId>,
    },
    /// The peer is not in the life that the sender expected.
    #[error("the peer is in incarnation {found}, not in {expected}")]
    WrongIncarnation {
        /// Whom the sender meant.
        expected: Incarnation,
        /// Whom it reached.
        found: Incarnation,
    },
    /// The two ends have no protocol version in common.
    #[error("the peer speaks protocol versions {oldest} to {newest}")]
    Version {
        /// The oldest version that the refusing end speaks.
        oldest: u16,
        /// The newest version that the refusing end speaks.
        newest: u16,
    },
    /// The refusing end is a client in this namespace: it asks and does not answer.
    #[error("the peer is a client in this namespace")]
    Client,
    /// A client asked for what only members may have.
    #[error("only a member may open this")]
    MembersOnly,
    /// A bound of the refusing end is reached: handles, open requests, or bytes held for this peer.
    #[error("a limit of the peer is reached")]
    Limit,
    /// The hello can't be read, or contradicts itself.
    #[error("the hello can't be read")]
    Malformed,
    /// This node itself does not have the namespace open, or does not speak for the cluster.
    #[error("this node does not speak for that cluster itself")]
    NotOurs,
    /// A message on the handle can't be decoded: another release, or damage. Its handle was closed,
    /// alone.
    #[error("a message can't be decoded")]
    Undecodable,
    /// A message on the handle was begun and not finished in time.
    #[error("a message was not finished in time")]
    Unfinished,
    /// The refused end, in its incarnation, is no member that the refusing end knows, and showed
    /// no card.
    #[error("not a member as of the configuration at {index}")]
    NotAMember {
        /// The slot of the newest configuration that the refusing end knows to be committed.
        index: Index,
    },
    /// The refused end is no member that the refusing end knows, and its cards do not count.
    #[error("not known as a member as of the configuration at {index}: {why}")]
    UnknownMember {
        /// The slot of the newest configuration that the refusing end knows to be committed.
        index: Index,
        /// Why the cards do not count.
        why: CardError,
    },
}

impl Refusal {
    /// Whether the same hello may succeed later although nothing changes on this side.
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::UnknownNamespace
                | Self::WrongCluster { .. }
                | Self::Limit
                | Self::Undecodable
                | Self::Unfinished
                | Self::NotAMember { .. }
                | Self::UnknownMember { .. }
        )
    }
}

/// Why a request surely never reached its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection to that node.
    #[error("not connected")]
    NotConnected,
    /// The queue towards that node is full.
    #[error("the queue to the peer is full")]
    QueueFull,
    /// The namespace is not open on this node, or was closed before the request left.
    #[error("the namespace is not open here")]
    NotOpen,
    /// Requests do not travel on this channel.
    #[error("no requests travel on {channel}")]
    NoRequests {
        /// The channel that was named.
        channel: Channel,
    },
    /// The request is larger than a message may be.
    #[error("a request of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The time-out passed, or the connection was lost, before its first byte left.
    #[error("it never left this node")]
    Unwritten,
    /// The transport is shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It was surely not delivered.
    #[error("the request was not sent: {0}")]
    NotSent(#[source] NotSent),
    /// It may have been delivered, and may yet have its effect.
    #[error("the request may have been delivered, its reply is lost")]
    Lost,
    /// The peer refused the hello, or the request for want of room; surely without effect.
    #[error("refused: {0}")]
    Refused(#[source] Refusal),
    /// The peer took the request, and it may have had its effect, but the peer can't send the
    /// reply.
    #[error("the peer can't send its reply: {0}")]
    NotReplied(#[source] NotReplied),
}

/// Why a peer that took a request does not send the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReplied {
    /// The reply is larger than a message may be.
    #[error("the reply is too large")]
    TooLarge,
    /// More bytes of replies would wait for this node than the peer holds for it.
    #[error("too many bytes of replies wait")]
    NoRoom,
}

/// Why a reply is not sent. Unless whoever asked is gone, that end is told too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The stream or the handle that the request came on is gone; whoever asked knows.
    #[error("the way back is gone")]
    Gone,
    /// No such request is open: it was answered before, or never came.
    #[error("no such request is open")]
    NotOpen,
    /// The reply is larger than a message may be.
    #[error("a reply of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// More bytes of replies would wait than a bound allows: of the handle, the peer or all peers.
    #[error("more than {bytes_max} bytes of replies would wait")]
    NoRoom {
        /// The bound that would be passed.
        bytes_max: usize,
    },
}

/// Why a transport does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address to listen on can't be used.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Addresses to listen on are none that a transport can listen on.
    #[error(transparent)]
    Addresses(AddressErrors),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
    /// The encryption of connections could not be set up from the identity.
    #[error("the identity can't be used to encrypt connections")]
    Noise(#[source] libp2p::noise::Error),
    /// A limit or time in the configuration contradicts another.
    #[error("{field} is out of bounds")]
    Config {
        /// The field that breaks a rule; its documentation names the rule.
        field: &'static str,
    },
}
