//! Messages that wait for the caller, in turns of namespaces, and within one of peers.

use std::collections::VecDeque;

use meshraft_consensus::{Namespace, NodeId};
use tokio::sync::OwnedSemaphorePermit;

use super::turns::{Flow, Turns};
use crate::{
    event::Event,
    types::{Scope, Source},
};

/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 256;
/// Room that an empty queue keeps.
const IDLE_MESSAGES: usize = 8;

/// What takes turns first: the members of a namespace, and apart from them its guests.
type Group = (Namespace, bool);

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    event: Event,
    bytes: usize,
    weight: usize,
    /// Room in bytes, given back when the message is taken.
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

/// The messages of one peer in one group.
#[derive(Debug, Default)]
struct OfPeer {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Flow for OfPeer {
    type Item = Waiting;

    fn next_weight(&mut self) -> Option<usize> {
        self.waiting.front().map(|waiting| waiting.weight)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.bytes;
        if self.waiting.is_empty() {
            self.waiting.shrink_to(IDLE_MESSAGES);
        }
        Some(waiting)
    }

    fn pass(&mut self) {}
}

/// The messages of one group.
#[derive(Debug)]
struct OfGroup {
    peers: Turns<NodeId, OfPeer>,
    bytes: usize,
}

impl OfGroup {
    /// Makes an empty group whose peers have turns of so many bytes, or of one message.
    fn with(quantum: usize) -> impl FnOnce() -> Self {
        move || Self { peers: Turns::new(if quantum == 0 { 1 } else { quantum }), bytes: 0 }
    }

    /// Drops the oldest message of the peer that has most; its bytes.
    fn shed(&mut self) -> Option<usize> {
        let bytes = self.peers.largest(|_, peer| peer.bytes)?.pop()?.bytes;
        self.bytes -= bytes;
        Some(bytes)
    }
}

impl Flow for OfGroup {
    type Item = Waiting;

    fn next_weight(&mut self) -> Option<usize> {
        self.peers.next_weight()
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.peers.pop()?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    fn pass(&mut self) {
        self.peers.pass();
    }
}

/// Messages that wait, each namespace and each peer in it with the same share of what is taken.
#[derive(Debug)]
pub(super) struct Lane {
    groups: Turns<Group, OfGroup>,
    quantum: usize,
    /// Bytes of members, and of guests.
    bytes: [usize; 2],
}

impl Lane {
    /// A lane in which a turn is `quantum` bytes, or one message if that is none.
    pub(super) const fn new(quantum: usize) -> Self {
        let turn = if quantum == 0 { 1 } else { quantum };
        Self { groups: Turns::new(turn), quantum, bytes: [0; 2] }
    }

    /// Queues a message for good.
    pub(super) fn push(
        &mut self,
        event: Event,
        bytes: usize,
        permits: Option<[OwnedSemaphorePermit; 2]>,
    ) {
        let Some((key, node)) = place(&event) else { return };
        self.insert(&key, node, event, bytes, permits);
    }

    /// Queues a message, and drops the oldest of the same peer, then of the same namespace, then
    /// of the namespace that has most, beyond what each may have of `bytes_max`. Says how many.
    pub(super) fn push_bounded(&mut self, event: Event, bytes: usize, bytes_max: usize) -> u64 {
        let Some((key, node)) = place(&event) else { return 0 };
        let [of_peer, of_group] = self.insert(&key, node, event, bytes, None);
        let crowded = of_peer > bytes_max / PEER_PART
            || of_group > bytes_max / GROUP_PART
            || self.bytes[usize::from(key.1)] > bytes_max;
        if crowded { self.shed(&key, node, bytes_max) } else { 0 }
    }

    /// Queues a message; what its peer then has, and its group.
    fn insert(
        &mut self,
        key: &Group,
        node: NodeId,
        event: Event,
        bytes: usize,
        permits: Option<[OwnedSemaphorePermit; 2]>,
    ) -> [usize; 2] {
        let bytes = bytes + MESSAGE_BYTES;
        let weight = if self.quantum == 0 { 1 } else { bytes };
        let group = self.groups.flow(key, OfGroup::with(self.quantum));
        let peer = group.peers.flow(&node, OfPeer::default);
        peer.bytes += bytes;
        peer.waiting.push_back(Waiting { event, bytes, weight, _permits: permits });
        group.bytes += bytes;
        self.bytes[usize::from(key.1)] += bytes;
        [peer.bytes, group.bytes]
    }

    /// Drops what is beyond the bounds since a message of this peer was queued.
    fn shed(&mut self, key: &Group, node: NodeId, bytes_max: usize) -> u64 {
        let (mut dropped, mut freed) = (0, 0);
        let group = self.groups.flow(key, OfGroup::with(self.quantum));
        let peer = group.peers.flow(&node, OfPeer::default);
        while peer.bytes > bytes_max / PEER_PART && peer.waiting.len() > 1 {
            freed += peer.pop().map_or(0, |waiting| waiting.bytes);
            dropped += 1;
        }
        group.bytes -= freed;
        while group.bytes > bytes_max / GROUP_PART
            && let Some(bytes) = group.shed()
        {
            freed += bytes;
            dropped += 1;
        }
        let total = &mut self.bytes[usize::from(key.1)];
        *total -= freed;
        while *total > bytes_max {
            let measure =
                |other: &Group, group: &OfGroup| if other.1 == key.1 { group.bytes } else { 0 };
            let Some(bytes) = self.groups.largest(measure).and_then(OfGroup::shed) else { break };
            *total -= bytes;
            dropped += 1;
        }
        dropped
    }

    /// Whose message is next.
    pub(super) fn next_peer(&mut self) -> Option<NodeId> {
        self.groups.next_weight()?;
        let (_, group) = self.groups.first()?;
        group.peers.first().map(|(node, _)| *node)
    }

    /// Takes the next message.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let Waiting { event, bytes, .. } = self.groups.pop()?;
        let guest = event.source().is_some_and(|source| source.scope == Scope::Free);
        self.bytes[usize::from(guest)] -= bytes;
        Some(event)
    }

    /// Gives up the turn of the peer whose message is next.
    pub(super) fn pass(&mut self) {
        self.groups.pass();
    }

    /// Bytes that wait: of members, and of guests.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> [usize; 2] {
        self.bytes
    }
}

/// The group and the peer of a message.
fn place(event: &Event) -> Option<(Group, NodeId)> {
    let Source { node, namespace, scope, .. } = event.source()?;
    Some(((namespace.clone(), *scope == Scope::Free), *node))
}

/// The part of a bound that one namespace may use up.
pub(super) const GROUP_PART: usize = 8;
/// The part of a bound that one peer may use up in one namespace.
pub(super) const PEER_PART: usize = 32;
