//! libp2p as the transport of Raft: streams, hello and handles, fragments, sealing.
//!
//! A node has one [`Transport`] for all its namespaces. It keeps connections to the peers whose
//! addresses it was told, opens namespaces inside a few long-lived streams, and hands messages and
//! requests over in both directions. Nothing here blocks, and everything is bounded ([`Limits`]).
//!
//! Invariants:
//! 1. No message is delivered but on a handle that both ends bound to its namespace, scope, both
//!    incarnations and both ends' clusters.
//! 2. A handle in the scope of a cluster is open only while each end knows the other, in its
//!    incarnation, as a member of that cluster.
//! 3. Where a namespace has a key, nothing of it leaves unsealed, and nothing is delivered before
//!    the sender has proven that it holds the key. To peers without the key nothing is told: no
//!    name, no hash of it, no key id, no fact.
//! 4. Every request ends in exactly one [`Event::Reply`].
//! 5. Messages may be lost, never altered; those of one peer, channel and scope keep their order.

pub mod address;
mod behaviour;
pub mod book;
mod bounded;
mod budget;
mod codec;
mod config;
mod dial_failure;
mod dice;
mod effort;
mod error;
mod event;
mod fragment;
mod frame;
mod handler;
mod handshakes;
mod hello;
mod hub;
pub mod identity;
mod inbox;
mod introduction;
mod key;
mod lan;
pub mod link;
mod names;
mod orders;
mod own;
mod peer;
mod port;
mod refusals;
mod refused;
mod resolve;
mod roster;
pub mod seal;
mod sign;
mod status;
mod swarm;
mod tag;
mod transport;
mod types;

pub use libp2p::{Multiaddr, PeerId};

pub use address::{AddressError, AddressErrors, AddressProblem, PeerAddress};
pub use behaviour::{Behaviour, Denied};
pub use book::{AddressSource, BookEntry, DialResult};
pub use codec::DecodeError;
pub use config::{Limits, Share, TransportConfig};
pub use dial_failure::{DialFailure, Unreached};
pub use effort::Effort;
pub use error::{NotReplied, NotSent, Refusal, ReplyError, RequestError, StartError};
pub use event::Event;
pub use fragment::FragmentError;
pub use frame::FrameError;
pub use hello::GreetingError;
pub use inbox::Events;
pub use key::{KeyError, KeyId, KeyRing, NamespaceKey};
pub use resolve::NameServers;
pub use roster::Roster;
pub use sign::NodeSignatures;
pub use status::{HandleStatus, PeerNamespace, PeerStatus};
pub use transport::Transport;
pub use types::{
    Body, Channel, LocalNamespace, LocalRole, PeerFacts, PeerRole, ReplyToken, RequestId, Scope,
    Source,
};
