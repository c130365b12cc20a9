//! What is told of peers: bounded by what it is about, not by how often it happens.
//!
//! A peer can connect, leave and change what it shares as often as it likes. What the caller has
//! not taken yet is joined: of each peer and namespace the newest facts, each reason of a refusal
//! once; of connections, what the caller has to know to end up right.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::{self, Discriminant},
};

use meshraft_consensus::{Namespace, NodeId};

use crate::{error::Refusal, event::Event};

/// Beyond so many peers with notices, one that came and went untold stays untold.
const PEERS_MAX: usize = 4_096;

/// A notice that waits.
#[derive(Debug)]
struct Notice {
    event: Event,
    /// It is told once so many replies were.
    after: u64,
}

/// What is told next.
#[derive(Debug)]
pub(super) enum Next {
    /// A notice.
    Notice(Event),
    /// A reply, because the next notice is the loss of a connection that ended it.
    Reply,
}

/// Numbers of what waits of one namespace.
#[derive(Debug, Default)]
struct OfNamespace {
    shared: Option<u64>,
    unshared: Option<u64>,
    refused: Vec<(Discriminant<Refusal>, u64)>,
}

/// What waits of one peer, in order.
#[derive(Debug, Default)]
struct OfPeer {
    waiting: BTreeMap<u64, Notice>,
    lives: VecDeque<u64>,
    namespaces: BTreeMap<Namespace, OfNamespace>,
}

impl OfPeer {
    fn push(&mut self, number: u64, event: Event, replies: u64) {
        let ends = matches!(event, Event::Disconnected { .. });
        let after = if ends { replies } else { 0 };
        let Self { waiting, lives, namespaces } = self;
        match &event {
            Event::Connected { .. } | Event::Disconnected { .. } => {
                lives.push_back(number);
                if lives.len() > 3 {
                    // Two that cancel each other out.
                    lives.drain(1..3).for_each(|number| drop(waiting.remove(&number)));
                }
            }
            Event::Shared { namespace, .. } => {
                let of = namespaces.entry(namespace.clone()).or_default();
                of.shared.replace(number).map(|number| waiting.remove(&number));
            }
            Event::Unshared { namespace, .. } => {
                let of = namespaces.entry(namespace.clone()).or_default();
                of.shared.take().map(|number| waiting.remove(&number));
                of.unshared.replace(number).map(|number| waiting.remove(&number));
            }
            Event::Refused { namespace, why, .. } => {
                let reason = mem::discriminant(why);
                let of = namespaces.entry(namespace.clone()).or_default();
                let known = of.refused.iter().find(|(other, _)| *other == reason);
                if let Some(waits) = known.and_then(|(_, number)| waiting.get_mut(number)) {
                    waits.event = event;
                    return;
                }
                of.refused.push((reason, number));
            }
            _ => {}
        }
        waiting.insert(number, Notice { event, after });
    }

    fn pop(&mut self, replies: u64) -> Option<Next> {
        let first = self.waiting.first_entry()?;
        if first.get().after > replies {
            return Some(Next::Reply);
        }
        let (number, Notice { event, .. }) = first.remove_entry();
        self.lives.pop_front_if(|life| *life == number);
        if let Event::Shared { namespace, .. }
        | Event::Unshared { namespace, .. }
        | Event::Refused { namespace, .. } = &event
            && let Some(of) = self.namespaces.get_mut(namespace)
        {
            of.shared.take_if(|other| *other == number);
            of.unshared.take_if(|other| *other == number);
            of.refused.retain(|(_, other)| *other != number);
            if of.shared.is_none() && of.unshared.is_none() && of.refused.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
        Some(Next::Notice(event))
    }

    /// Whether the peer came and went, and the caller knows nothing of it.
    fn is_past(&self) -> bool {
        let ends = [self.lives.front(), self.lives.back()];
        let [Some(Some(first)), Some(Some(last))] =
            ends.map(|number| number.map(|number| self.waiting.get(number)))
        else {
            return false;
        };
        let (first, last) = (&first.event, &last.event);
        matches!((first, last), (Event::Connected { .. }, Event::Disconnected { .. }))
    }
}

/// What waits of all peers, which take turns.
#[derive(Debug, Default)]
pub(super) struct Notices {
    count: u64,
    peers: BTreeMap<NodeId, OfPeer>,
    /// Every peer of `peers`, once.
    ring: VecDeque<NodeId>,
}

impl Notices {
    pub(super) const fn new() -> Self {
        Self { count: 0, peers: BTreeMap::new(), ring: VecDeque::new() }
    }

    /// Queues a notice, which came after so many replies.
    pub(super) fn push(&mut self, node: NodeId, event: Event, replies: u64) {
        self.count += 1;
        let crowded = self.peers.len() >= PEERS_MAX;
        let ring = &mut self.ring;
        let peer = self.peers.entry(node).or_insert_with(|| {
            ring.push_back(node);
            OfPeer::default()
        });
        peer.push(self.count, event, replies);
        if crowded && peer.is_past() {
            self.peers.remove(&node);
            self.ring.retain(|other| *other != node);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The next notice, if so many replies were told.
    pub(super) fn pop(&mut self, replies: u64) -> Option<Next> {
        loop {
            let node = self.ring.pop_front()?;
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let next = peer.pop(replies);
            if peer.waiting.is_empty() {
                self.peers.remove(&node);
            } else {
                self.ring.push_back(node);
            }
            if next.is_some() {
                return next;
            }
        }
    }

    /// The next notice of this peer, if so many replies were told.
    pub(super) fn pop_of(&mut self, node: NodeId, replies: u64) -> Option<Next> {
        // An empty peer leaves with its turn.
        self.peers.get_mut(&node)?.pop(replies)
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.peers.values().map(|peer| peer.waiting.len()).sum()
    }
}
