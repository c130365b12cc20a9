//! Decides when a client asks where the members are, and what it takes from the answers.
//!
//! The addresses that a client is given are enough to begin with; by those that it learns it
//! outlives the members that it began with. Any one connected member is asked: when it connects,
//! when one is lost, and from time to time, as members may come back elsewhere.
//!
//! Invariants:
//! 1. At most one question is under way.
//! 2. What is remembered is bounded; an address is dialled once, its back-off is the transport's.

use std::{collections::BTreeSet, time::Duration};

use meshraft_consensus::{Moment, NodeId};
use meshraft_service::{
    limits,
    wire::{self, Operation, Reply, Request},
};
use meshraft_transport::{Multiaddr, PeerAddress, RequestId, identity::peer_id};

/// The client's own requests have this bit; those of the routing never reach it.
const OWN: u64 = 1 << 63;
/// How often the members are asked although nothing happened.
const EVERY: Duration = Duration::from_secs(5);
/// How soon they are asked when something did: enough for several connections to come up.
const SOON: Duration = Duration::from_millis(20);

/// What a client knows of where members are.
#[derive(Debug)]
pub(super) struct Learning {
    learns: bool,
    up: BTreeSet<NodeId>,
    known: BTreeSet<PeerAddress>,
    /// Who was asked last, so that the next one is another.
    asked: Option<NodeId>,
    next_at: Option<Moment>,
    next_number: u64,
}

impl Learning {
    /// How long an answer is waited for.
    pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

    /// Knows nothing yet; asks only if it `learns`.
    pub(super) const fn new(learns: bool) -> Self {
        Self {
            learns,
            up: BTreeSet::new(),
            known: BTreeSet::new(),
            asked: None,
            next_at: None,
            next_number: 0,
        }
    }

    /// Whether a request is one of these.
    pub(super) const fn is_own(id: RequestId) -> bool {
        id.get() & OWN != 0
    }

    /// A member is connected.
    pub(super) fn up(&mut self, now: Moment, member: NodeId) {
        self.up.insert(member);
        self.soon(now);
    }

    /// A member is connected no longer.
    pub(super) fn down(&mut self, now: Moment, member: NodeId) {
        self.up.remove(&member);
        self.soon(now);
    }

    fn soon(&mut self, now: Moment) {
        let at = now.plus(SOON);
        self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
    }

    /// When [`Learning::due`] has something to ask.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.next_at.filter(|_| self.learns && !self.up.is_empty())
    }

    /// What to ask now, and whom.
    pub(super) fn due(&mut self, now: Moment) -> Option<(RequestId, NodeId, Request)> {
        self.deadline().filter(|at| *at <= now)?;
        let after = self.asked.and_then(|asked| self.up.range(asked..).find(|node| **node > asked));
        let to = *after.or_else(|| self.up.first())?;
        self.asked = Some(to);
        self.next_at = Some(now.plus(EVERY));
        let id = RequestId::new(OWN | self.next_number);
        self.next_number += 1;
        let deadline_ms = u32::try_from(Self::TIMEOUT.as_millis()).unwrap_or(limits::TIMEOUT_MS.1);
        Some((id, to, Request { deadline_ms, hops: 0, operation: Operation::Addresses }))
    }

    /// The addresses of an answer that are new, each with its peer id. Anything else is dropped.
    pub(super) fn learned(&mut self, payload: &[u8]) -> Vec<PeerAddress> {
        let Ok(Ok(Reply::Addresses(told))) = wire::decode_response(payload) else {
            return Vec::new();
        };
        let mut new = Vec::new();
        for (node, bytes) in told {
            let Ok(address) = Multiaddr::try_from(bytes.to_vec()) else { continue };
            let Ok(address) = address.with_p2p(peer_id(node)) else { continue };
            let Ok(address) = PeerAddress::try_from(address) else { continue };
            // Names are looked up where a person gave them, not on the word of a peer.
            if !address.is_name() && self.take(&address) {
                new.push(address);
            }
        }
        new
    }

    /// Whether an address is new and there is room for it.
    pub(super) fn take(&mut self, address: &PeerAddress) -> bool {
        self.known.len() < limits::ADDRESSES_MAX && self.known.insert(address.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const fn node(number: u8) -> NodeId {
        NodeId::new([number; 32])
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn members_are_asked_in_turn_when_something_happened_and_from_time_to_time() {
        let mut learning = Learning::new(true);
        assert_eq!(learning.deadline(), None);
        learning.up(at(0), node(1));
        learning.up(at(5), node(2));
        assert!(learning.due(at(19)).is_none());
        let (id, to, request) = learning.due(at(20)).unwrap();
        assert!(Learning::is_own(id) && !Learning::is_own(RequestId::new(0)));
        assert_eq!((to, request.operation), (node(1), Operation::Addresses));
        assert_eq!(learning.deadline(), Some(at(5_020)));
        assert_eq!(learning.due(at(5_020)).unwrap().1, node(2));
        learning.down(at(5_030), node(2));
        assert_eq!(learning.due(at(5_050)).unwrap().1, node(1));
        learning.down(at(5_060), node(1));
        assert_eq!(learning.deadline(), None);
    }

    #[test]
    fn who_does_not_learn_does_not_ask() {
        let mut learning = Learning::new(false);
        learning.up(at(0), node(1));
        assert_eq!(learning.deadline(), None);
        assert!(learning.due(at(60_000)).is_none());
    }

    #[test]
    fn only_new_addresses_are_taken_and_strange_answers_none() {
        let mut learning = Learning::new(true);
        let identity = meshraft_transport::identity::Identity::ephemeral().unwrap();
        let of = |text: &str| text.parse::<Multiaddr>().unwrap();
        let address = of("/ip4/127.0.0.1/tcp/4001");
        let told = vec![
            (identity.node_id(), Bytes::from(address.to_vec())),
            (identity.node_id(), Bytes::from_static(b"no address")),
            (identity.node_id(), Bytes::from(of("/dns4/localhost/tcp/4001").to_vec())),
            (identity.node_id(), Bytes::from(of("/ip4/127.0.0.1/udp/4001/quic-v1").to_vec())),
        ];
        let answer = wire::encode_response(&Ok(Reply::Addresses(told)));
        let full = address.with_p2p(peer_id(identity.node_id())).unwrap();
        assert_eq!(learning.learned(&answer), [full.try_into().unwrap()]);
        assert_eq!(learning.learned(&answer), []);
        assert_eq!(learning.learned(b"strange"), []);
        assert_eq!(learning.learned(&wire::encode_response(&Ok(Reply::Members(vec![])))), []);
    }
}
