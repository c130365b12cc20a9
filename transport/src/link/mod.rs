//! One stream as a value: bytes in, bytes out, a deadline. Hello, handles, fragments, sealing and
//! the turns of the namespaces are decided here; sockets, tasks and clocks are elsewhere.
//!
//! Whoever has something to send opens a stream of its own. [`Outbound`] is the opener's end: it
//! says hello and sends. [`Inbound`] is the other end: it answers and receives. Only answers go
//! back, and on [`Channel::Command`] and [`Channel::Snapshot`] the replies.
//!
//! Invariants:
//! 1. A handle is bound to namespace, scope, both incarnations, both ends' clusters and one key; a
//!    change of any of them closes it.
//! 2. A handle in the scope of a cluster is open only while the peer is a known member of it here,
//!    or its cards count; each end judges the other.
//! 3. On a sealed handle, nothing is delivered and nothing is shared before the other end's proof.
//! 4. What a peer sends is never asserted: it is parsed, or refused. A message that can't be
//!    decoded, is too large or is not finished in time closes its handle; only a [`LinkError`]
//!    ends the stream.
//! 5. All that a link holds is bounded by its [`Limits`], and counted in what its peer holds.
//! 6. A request that was taken is answered, or its asker is told why not.

mod admission;
mod answers;
mod fair;
mod heard;
mod hellos;
mod idle;
mod inbound;
mod intake;
mod outbound;
mod outlet;
mod pipe;
mod pulse;
mod queue;
mod replies;
mod requests;
mod sealed;
mod wire;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{Card, ClusterId, Index, Member, Moment, Namespace, NodeId};

pub use self::{
    inbound::Inbound,
    outbound::{Outbound, Outgoing, Question},
};
use crate::{
    budget::{Account, Purse},
    config::Limits,
    effort::Effort,
    error::{Refusal, RequestError},
    fragment::FragmentError,
    frame::FrameError,
    hello::GreetingError,
    roster::Roster,
    seal::SealBroken,
    sign::NodeSignatures,
    status::HandleStatus,
    types::{Body, Channel, PeerFacts, RequestId, Scope, Source},
};

/// What messages of one kind share on one stream.
type Key = (Namespace, Scope);

/// What a link is told at its birth.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The protocol of the stream.
    pub channel: Channel,
    /// This node.
    pub me: NodeId,
    /// The other end, proven by the connection.
    pub peer: NodeId,
    /// How long the path may be silent; also how old a control message may get before it leaves.
    pub stall: Duration,
    /// Bounds.
    pub limits: Limits,
    /// What verifies the cards that the peer shows.
    pub signatures: NodeSignatures,
    /// How much work the peer may cause, on all its streams together.
    pub effort: Effort,
    /// Fresh randomness, never used for another link.
    pub seed: [u8; 32],
    /// What the peer holds on all its streams.
    pub(crate) account: Arc<Account>,
}

/// What a link found out. Take them by `poll` after every call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The peer asked for a handle in a namespace that is open here, whatever came of it. If the
    /// namespace has a key, the peer holds it.
    Helloed {
        /// The namespace.
        namespace: Namespace,
        /// What the peer said of itself.
        facts: PeerFacts,
    },
    /// A handle without a cluster is open, and proven if it is sealed.
    Shared {
        /// The namespace.
        namespace: Namespace,
        /// What the peer is there.
        facts: PeerFacts,
    },
    /// The peer closed the namespace.
    Unshared {
        /// The namespace.
        namespace: Namespace,
    },
    /// A hello or a handle was refused, by either end; also one that is closed for a message that
    /// can't be decoded, is not finished in time, or for which there is no room.
    Refused {
        /// The namespace.
        namespace: Namespace,
        /// What the handle was to be bound to.
        scope: Scope,
        /// Why.
        why: Refusal,
    },
    /// The peer is no known member of the cluster, but showed cards that count: it is heard.
    Vouched {
        /// The peer in its incarnation.
        member: Member,
        /// The namespace of the cluster.
        namespace: Namespace,
        /// The cluster.
        cluster: ClusterId,
        /// The slot that the peer's own card names.
        at: Index,
        /// The cards that were shown, at most [`Card::KEPT_MAX`].
        cards: Vec<Card>,
    },
    /// The peer said hello under a tag that no key held here makes: it holds another key, or means
    /// a namespace that is not open here.
    Unmatched,
    /// A message.
    Received {
        /// Who sent it, under which binding.
        from: Source,
        /// What it says.
        body: Body,
        /// How many bytes it had.
        bytes: usize,
    },
    /// A request, to be answered by [`Inbound::reply`].
    Request {
        /// Who asks.
        from: Source,
        /// The handle that it came on.
        handle: u32,
        /// Its number on that stream.
        request: u64,
        /// What is asked.
        payload: Bytes,
    },
    /// A request of this end is over.
    Reply {
        /// The caller's name for it.
        id: RequestId,
        /// How it ended.
        result: Result<Bytes, RequestError>,
    },
    /// The stream is of no more use: close it once all is written. Told once; what is queued
    /// after that is not sent.
    Idle,
    /// The path is dead; told once.
    Stalled,
}

/// Why a stream is of no more use: the peer broke the protocol, or does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No fragments.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// No greeting.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// A fragment of a proven handle does not open.
    #[error(transparent)]
    Seal(#[from] SealBroken),
    /// A fragment on a handle that was never given.
    #[error("handle {handle} was never given")]
    UnknownHandle {
        /// The handle.
        handle: u32,
    },
    /// A greeting or message that this end of this channel does not take.
    #[error("a greeting or message that does not belong on this end of the stream")]
    Misplaced,
    /// More greetings than a well-behaved peer has outstanding.
    #[error("too many greetings at once")]
    Flood,
    /// A stream was opened and nothing was said on it.
    #[error("nothing was said on a stream that was opened")]
    Silent,
    /// A frame was begun and not finished in time.
    #[error("a frame was not finished in time")]
    CutOff,
    /// A hello is not answered.
    #[error("a hello was not answered in time")]
    Unanswered,
}

/// One end of a stream.
#[derive(Debug)]
pub enum Link {
    /// The end that opened it.
    Outbound(Outbound),
    /// The end that accepted it.
    Inbound(Inbound),
}

impl Link {
    /// Takes what the stream gave.
    ///
    /// # Errors
    /// The peer broke the protocol: close the stream.
    pub fn receive(&mut self, now: Moment, roster: &Roster, bytes: &[u8]) -> Result<(), LinkError> {
        match self {
            Self::Outbound(outbound) => outbound.receive(now, roster, bytes),
            Self::Inbound(inbound) => inbound.receive(now, roster, bytes),
        }
    }

    /// Appends what is to be written now, at most about 128 KiB; nothing if `out` stays empty.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Outbound(outbound) => outbound.transmit(out),
            Self::Inbound(inbound) => inbound.transmit(out),
        }
    }

    /// Whether [`Self::transmit`] has anything to write.
    pub fn wants_to_write(&self) -> bool {
        match self {
            Self::Outbound(outbound) => outbound.wants_to_write(),
            Self::Inbound(inbound) => inbound.wants_to_write(),
        }
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<LinkEvent> {
        match self {
            Self::Outbound(outbound) => outbound.poll(),
            Self::Inbound(inbound) => inbound.poll(),
        }
    }

    /// When to call [`Self::tick`] next.
    pub fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Outbound(outbound) => outbound.deadline(),
            Self::Inbound(inbound) => inbound.deadline(),
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The peer does not answer: close the stream.
    pub fn tick(&mut self, now: Moment, roster: &Roster) -> Result<(), LinkError> {
        match self {
            Self::Outbound(outbound) => outbound.tick(now, roster),
            Self::Inbound(inbound) => inbound.tick(now),
        }
    }

    /// Closes the handle that holds most of a purse; `false` if none holds any.
    pub(crate) fn give_way(&mut self, now: Moment, purse: Purse) -> bool {
        match self {
            Self::Outbound(outbound) => outbound.give_way(now, purse),
            Self::Inbound(inbound) => inbound.give_way(purse),
        }
    }

    /// The roster's facts of a namespace changed.
    pub fn refresh(&mut self, now: Moment, roster: &Roster, namespace: &Namespace) {
        match self {
            Self::Outbound(outbound) => outbound.refresh(now, roster, namespace),
            Self::Inbound(inbound) => inbound.refresh(roster, namespace),
        }
    }

    /// Whether a handle without a cluster is open, and proven if it is sealed.
    pub fn shares(&self, namespace: &Namespace) -> bool {
        match self {
            Self::Outbound(outbound) => outbound.shares(namespace),
            Self::Inbound(inbound) => inbound.shares(namespace),
        }
    }

    /// Every open handle.
    pub fn handles(&self) -> Vec<HandleStatus> {
        match self {
            Self::Outbound(outbound) => outbound.handles(),
            Self::Inbound(inbound) => inbound.handles(),
        }
    }
}
