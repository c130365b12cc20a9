//! What the book shows of itself.

use std::time::Duration;

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

use super::{AddressSource, Book, DialResult, Target, proven};

/// One address, as the book knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookEntry {
    /// The peer; `None` where the operator named none and nobody has answered yet.
    pub peer: Option<NodeId>,
    /// Where it can be reached.
    pub address: Multiaddr,
    /// The best evidence for it.
    pub source: AddressSource,
    /// How long ago that source named it last.
    pub age: Duration,
    /// What came of the last dial there, and how long ago.
    pub last: Option<(Duration, DialResult)>,
    /// Dials in a row that failed there.
    pub failures: u32,
    /// Whether the peer is a member of a cluster of this node.
    pub member: bool,
    /// Whether the peer is connected.
    pub connected: bool,
}

impl Book {
    /// Every address, ordered by peer.
    pub fn entries(&self, now: Moment) -> impl Iterator<Item = BookEntry> {
        self.records.iter().flat_map(move |(target, indexed)| {
            let peer = match target {
                Target::Peer(peer) => Some(*peer),
                Target::Address(_) => indexed.record.last,
            };
            indexed.record.addresses.iter().map(move |listed| BookEntry {
                peer,
                address: listed.address.clone(),
                source: listed.source(),
                age: now.since(listed.since()),
                last: listed.last.map(|(at, result)| (now.since(at), result)),
                failures: listed.failures,
                member: peer.is_some_and(|peer| self.pinned.contains_key(&peer)),
                connected: peer.is_some_and(|peer| self.presence.has(peer)),
            })
        })
    }

    /// Where a peer was reached at first hand, the newest proof first.
    pub fn proven(&self, peer: NodeId) -> Vec<Multiaddr> {
        let Some(indexed) = self.records.get(&Target::Peer(peer)) else { return Vec::new() };
        let mut listed: Vec<_> = proven(&indexed.record).collect();
        listed.sort_by_key(|listed| std::cmp::Reverse(listed.since()));
        listed.into_iter().map(|listed| listed.address.clone()).collect()
    }

    /// A peer whose proven addresses changed since it was last named here.
    pub fn poll_changed(&mut self) -> Option<NodeId> {
        self.changed.pop_first()
    }

    /// How many targets the book has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the book has no target.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// About how many bytes the book holds.
    pub fn bytes(&self) -> usize {
        let each = size_of::<Target>() + size_of::<super::Indexed>();
        let addresses = self.records.values().flat_map(|indexed| &indexed.record.addresses);
        let listed =
            addresses.map(|listed| size_of::<super::record::Listed>() + listed.address.len());
        self.records.len() * each + listed.sum::<usize>()
    }
}
