//! What nodes say of themselves in a namespace, and who heard it.

use std::collections::{BTreeMap, BTreeSet};

use meshraft::host::NetworkInput;
use meshraft_consensus::{ClusterId, ClusterVersion, Incarnation, KnownMembers, Namespace, NodeId};
use meshraft_transport::{PeerFacts, PeerRole};

use super::{End, Network, What};
use crate::world::Seat;

/// What a node says of itself in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) incarnation: Incarnation,
    /// The groups that it speaks for, and the members that it hears in each.
    pub(crate) clusters: BTreeMap<ClusterId, KnownMembers>,
    pub(crate) supports: ClusterVersion,
}

impl End {
    pub(super) const fn new(node: NodeId) -> Self {
        Self {
            node,
            life: 0,
            running: false,
            paused: false,
            actor: false,
            stranger: None,
            knows: BTreeSet::new(),
            shares: BTreeMap::new(),
            heard: BTreeMap::new(),
            refusals: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }
}

impl Network {
    /// A node shares a namespace from now on, or under new facts.
    pub(crate) fn share(&mut self, seat: Seat, namespace: &Namespace, facts: Shares) {
        let told = |shares: &Shares| {
            let clusters: Vec<ClusterId> = shares.clusters.keys().copied().collect();
            (shares.incarnation, clusters, shares.supports)
        };
        let news = told(&facts);
        let old = self.end_mut(seat).shares.insert(namespace.clone(), facts);
        if old.as_ref().map(told) == Some(news) {
            // Whom it hears is its own to know.
            return;
        }
        for peer in self.others(seat) {
            self.end_mut(peer).refusals.remove(&(seat, namespace.clone()));
            self.tell_facts(seat, peer, namespace);
            if old.is_none() {
                self.tell_facts(peer, seat, namespace);
            }
        }
    }

    /// A node shares a namespace no more.
    pub(crate) fn unshare(&mut self, seat: Seat, namespace: &Namespace) {
        if self.end_mut(seat).shares.remove(namespace).is_none() {
            return;
        }
        for peer in self.others(seat) {
            if let Some(epoch) = self.epoch(seat, peer) {
                self.post(seat, peer, Some(epoch), What::Unshared(namespace.clone()));
            }
        }
    }

    /// Who a peer is and what it supports, as it told a node on a connection that the node takes to
    /// be alive.
    pub(crate) fn heard(
        &self,
        at: Seat,
        peer: Seat,
        namespace: &Namespace,
    ) -> Option<(Incarnation, ClusterVersion)> {
        self.end(at).heard.get(&(peer, namespace.clone())).copied()
    }

    /// The facts of `from`, told to `to`; noted, so that messages follow and do not lead.
    pub(super) fn facts(
        &mut self,
        from: Seat,
        to: Seat,
        namespace: &Namespace,
    ) -> Option<NetworkInput> {
        self.end(to).shares.get(namespace)?;
        if let Some(why) = self.estranged(from, to) {
            let (peer, namespace) = (self.end(from).node, namespace.clone());
            return Some(NetworkInput::Refused { peer, namespace, why });
        }
        let Shares { incarnation, clusters, supports } =
            self.end(from).shares.get(namespace)?.clone();
        let facts = PeerFacts {
            role: PeerRole::Member,
            cluster: clusters.first_key_value().map(|(cluster, _)| *cluster),
            clusters: clusters.into_keys().collect(),
            incarnation: Some(incarnation),
            supports: Some(supports),
        };
        let heard = (incarnation, supports);
        self.end_mut(to).heard.insert((from, namespace.clone()), heard);
        self.end_mut(to).told.insert((from, namespace.clone()));
        let (peer, namespace) = (self.end(from).node, namespace.clone());
        Some(NetworkInput::Shared { peer, namespace, facts })
    }

    pub(super) fn tell_facts(&mut self, from: Seat, to: Seat, namespace: &Namespace) {
        let both = [from, to].iter().all(|seat| self.end(*seat).shares.contains_key(namespace));
        if let Some(epoch) = self.epoch(from, to).filter(|_| both) {
            self.post(from, to, Some(epoch), What::Facts(namespace.clone()));
        }
    }
}
