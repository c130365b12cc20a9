//! What the network brings to a node, and what its namespaces answer.
//!
//! Consensus messages reach a group only from a handle that is bound to it; everything else is
//! decoded here, in one place for each channel, and bytes that can't be read are dropped or
//! answered with a typed error.

use std::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{ClusterId, Lane, Member, Message, Moment, NodeId};
use meshraft_discovery::{
    founding,
    peers::{Address, Exchange},
    wire as founding_wire,
};
use meshraft_service::{
    Refusal, ServiceError, limits,
    router::ForwardLost,
    wire::{self, Operation, Request},
};
use meshraft_transport::{
    self as transport, Body, Channel, PeerFacts, PeerRole, ReplyToken, RequestError, Scope, Source,
};

use super::trial::is_for_joiners;
use super::{
    Host, NetworkInput,
    desk::{Asked, Desk},
    event::NodeEvent,
    hosted::{Gossip, Hosted, Origin},
    output::Output,
};
use crate::replica;

impl Host {
    /// Takes what the transport tells.
    pub(super) fn network(&mut self, input: NetworkInput) {
        match input {
            // What is shared on it is told apart.
            NetworkInput::Connected { .. } => {}
            NetworkInput::Proven { peer, addresses } => self.proven(peer, addresses),
            NetworkInput::Disconnected { peer } => self.disconnected(peer),
            NetworkInput::Shared { peer, namespace, facts } => {
                let proven = self.proven.get(&peer).cloned().unwrap_or_default();
                self.with(&namespace, |hosted, desk, now| {
                    hosted.shared(now, peer, facts, proven, desk);
                });
            }
            NetworkInput::Unshared { peer, namespace } => {
                self.with(&namespace, |hosted, _, now| hosted.unshared(now, peer));
            }
            NetworkInput::Refused { peer, namespace, why } => {
                self.with(&namespace, |hosted, desk, now| {
                    hosted.refused(now, peer, why, desk);
                });
            }
            NetworkInput::Vouched { member, namespace, cluster, at } => {
                self.with(&namespace, |hosted, desk, now| {
                    hosted.vouched(now, cluster, (member, at), desk);
                });
            }
            NetworkInput::Received {
                from: from @ Source { scope: Scope::Cluster(_), incarnation: Some(_), .. },
                channel: Channel::Control,
                body: Body::Bytes(bytes),
            } => self.watched(from, &bytes),
            NetworkInput::Received { from, channel, body } => {
                let namespace = from.namespace.clone();
                self.with(&namespace, |hosted, desk, now| {
                    hosted.received(now, &from, channel, body, desk);
                });
            }
            NetworkInput::Request { from, channel: Channel::Command, token, payload } => {
                self.request(&from, token, &payload);
            }
            NetworkInput::Request { from, token, payload, .. } => {
                let namespace = from.namespace.clone();
                self.with(&namespace, |hosted, desk, _| {
                    hosted.part_requested(&from, token, &payload, desk);
                });
            }
            NetworkInput::Reply { id, result } => {
                if let Some((namespace, asked)) = self.desk.replied(id) {
                    self.with(&namespace, |hosted, desk, now| {
                        hosted.replied(now, asked, result, desk);
                    });
                }
            }
        }
    }

    /// Where a peer was reached is worth telling to those who share a namespace with it.
    fn proven(&mut self, peer: NodeId, addresses: Vec<Address>) {
        let namespaces: Vec<_> = self.namespaces.keys().cloned().collect();
        for namespace in &namespaces {
            self.with(namespace, |hosted, desk, _| hosted.proven(peer, &addresses, desk));
        }
        if addresses.is_empty() {
            self.proven.remove(&peer);
        } else {
            self.proven.insert(peer, addresses);
        }
    }

    fn disconnected(&mut self, peer: NodeId) {
        let namespaces: Vec<_> = self.namespaces.keys().cloned().collect();
        for namespace in &namespaces {
            self.with(namespace, |hosted, _, now| hosted.unshared(now, peer));
        }
    }

    fn request(&mut self, from: &Source, token: ReplyToken, payload: &Bytes) {
        let answer = |desk: &mut Desk, error| {
            let payload = wire::encode_response(&Err(error));
            desk.push(Output::Reply { token, payload });
        };
        let request = match Request::decode(payload) {
            Ok(request) => request,
            Err(error) => return answer(&mut self.desk, error),
        };
        if !self.namespaces.contains_key(&from.namespace) {
            return answer(&mut self.desk, ServiceError::Refused(Refusal::UnknownNamespace));
        }
        self.with(&from.namespace, |hosted, desk, now| {
            hosted.requested(now, from, token, request, desk);
        });
    }
}

/// Whether a request that got no answer may have reached its receiver.
fn lost(error: &RequestError) -> ForwardLost {
    ForwardLost { delivered_maybe: matches!(error, RequestError::Lost) }
}

impl Hosted {
    fn replied(
        &mut self,
        now: Moment,
        asked: Asked,
        result: Result<Bytes, RequestError>,
        desk: &mut Desk,
    ) {
        match asked {
            Asked::Forward(forward) => {
                let result = match result {
                    Ok(bytes) => wire::decode_response(&bytes)
                        .map_err(|_| ForwardLost { delivered_maybe: true }),
                    Err(error) => Err(lost(&error)),
                };
                self.replica.handle(now, replica::Input::Replied { forward, result });
            }
            Asked::Removal => {
                let response = result.ok().and_then(|bytes| wire::decode_response(&bytes).ok());
                let response = response.unwrap_or(Err(ServiceError::OutcomeUnknown));
                self.removal_resolved(now, &response, desk);
            }
            Asked::Description(id) => self.leader_described(now, id, result.ok().as_ref(), desk),
            Asked::Part { fetch, ask } => {
                self.fetch_replied(now, fetch, ask, result.ok().as_ref(), desk);
            }
        }
    }

    fn shared(
        &mut self,
        now: Moment,
        peer: NodeId,
        facts: PeerFacts,
        proven: Vec<Address>,
        desk: &mut Desk,
    ) {
        if facts.role == PeerRole::Client {
            return;
        }
        let known = self.shared.get(&peer);
        if known.is_some_and(|known| known.incarnation != facts.incarnation) {
            // Another life behind a connection that replaced the old one: nothing told to that one
            // is known to this one.
            self.unshared(now, peer);
        }
        let before = self.shared.insert(peer, facts.clone());
        self.tell_supports(now, peer, &facts);
        if before.is_none() {
            self.gossip = Gossip::soon(now);
            // An incarnation that is not durable yet says nothing; it meets its peers once it is.
            if self.born {
                self.founding.handle(now, founding::Input::PeerUp(peer));
            }
            if !proven.is_empty() && self.peers.set_proven(peer, proven) {
                self.remember(desk);
            }
            self.tell_peers(desk);
        }
        if let Some(cluster) = self.active.as_ref().map(|active| active.cluster) {
            self.peer_moved(now, peer, cluster, before.as_ref(), Some(&facts));
        }
        if let Some(incarnation) = facts.incarnation {
            self.send_cards(Member::new(peer, incarnation), desk);
        }
    }

    /// A hello was refused, by either end. A known member that does not know this one may say that
    /// it was removed.
    fn refused(&mut self, now: Moment, peer: NodeId, why: transport::Refusal, desk: &mut Desk) {
        use transport::Refusal::{NotAMember, UnknownMember};
        if let NotAMember { index } | UnknownMember { index, .. } = &why {
            self.not_a_member(now, peer, *index);
        }
        self.event(desk, NodeEvent::Refused { peer, why });
    }

    fn unshared(&mut self, now: Moment, peer: NodeId) {
        let Some(before) = self.shared.remove(&peer) else { return };
        self.tell_supports(now, peer, &PeerFacts { supports: None, ..before.clone() });
        self.peers.disconnected(peer);
        self.founding.handle(now, founding::Input::PeerDown(peer));
        if let Some(cluster) = self.active.as_ref().map(|active| active.cluster) {
            self.peer_moved(now, peer, cluster, Some(&before), None);
        }
    }

    /// Tells the replica what a peer supports, if that is told.
    pub(super) fn tell_supports(&mut self, now: Moment, peer: NodeId, facts: &PeerFacts) {
        if let Some(incarnation) = facts.incarnation {
            let (member, supports) = (Member::new(peer, incarnation), facts.supports);
            self.replica.handle(now, replica::Input::Supports { member, supports });
        }
    }

    /// Tells the core which members of its group can be reached.
    fn peer_moved(
        &mut self,
        now: Moment,
        peer: NodeId,
        cluster: ClusterId,
        before: Option<&PeerFacts>,
        after: Option<&PeerFacts>,
    ) {
        let member = |facts: Option<&PeerFacts>| {
            let facts = facts.filter(|facts| facts.clusters.contains(&cluster))?;
            facts.incarnation.map(|incarnation| Member::new(peer, incarnation))
        };
        let (before, after) = (member(before), member(after));
        if before != after {
            self.tell_moved(now, before, after);
        }
    }

    fn received(
        &mut self,
        now: Moment,
        from: &Source,
        channel: Channel,
        body: Body,
        desk: &mut Desk,
    ) {
        let Some(incarnation) = from.incarnation else { return };
        let member = Member::new(from.node, incarnation);
        match (channel, from.scope, body) {
            (
                Channel::Control | Channel::Entries,
                Scope::Cluster(cluster),
                Body::Consensus(message),
            ) => self.consensus(now, cluster, member, message),
            // What a handle brings that an earlier incarnation made is not for the next one.
            (Channel::Control, Scope::Free, Body::Bytes(bytes)) if self.born => {
                if let Ok(message) = founding_wire::Message::decode(&bytes) {
                    let input = founding::Input::Receive { from: member, message };
                    self.founding.handle(now, input);
                }
            }
            (Channel::Peers, Scope::Free, Body::Bytes(bytes)) => {
                self.learn_peers(from.node, &bytes, desk)
            }
            (Channel::Peers, Scope::Cluster(cluster), Body::Bytes(bytes)) => {
                self.take_cards(now, cluster, &bytes, desk);
            }
            _ => {}
        }
    }

    fn consensus(&mut self, now: Moment, cluster: ClusterId, from: Member, message: Message) {
        let Some(active) = self.active.as_ref().filter(|active| active.cluster == cluster) else {
            return;
        };
        if active.trial.is_some() && !is_for_joiners(&message) {
            return;
        }
        if active.founding {
            // Only holders of the promise speak under its id, so each frame proves one.
            self.founding.handle(now, founding::Input::Heard { cluster, member: from });
        }
        self.replica.handle(now, replica::Input::Receive { from, message });
    }

    fn requested(
        &mut self,
        now: Moment,
        from: &Source,
        token: ReplyToken,
        request: Request,
        desk: &mut Desk,
    ) {
        let is_member = from.incarnation.is_some()
            && self
                .active
                .as_ref()
                .is_some_and(|active| from.scope == Scope::Cluster(active.cluster));
        // What a client says of hops is not trusted, and only members admit members.
        let hops = if is_member { request.hops } else { 0 };
        if matches!(request.operation, Operation::Admit { .. }) && !is_member {
            let payload = wire::encode_response(&Err(ServiceError::Refused(Refusal::NotAdmitted)));
            return desk.push(Output::Reply { token, payload });
        }
        let millis = request.deadline_ms.clamp(limits::TIMEOUT_MS.0, limits::TIMEOUT_MS.1);
        let deadline = now.plus(Duration::from_millis(u64::from(millis)));
        self.submit(now, Origin::Peer(token), hops, deadline, request.operation, desk);
    }

    /// Sends a message of the core.
    pub(super) fn send(&self, to: Member, lane: Lane, message: Message, desk: &mut Desk) {
        let Some(active) = &self.active else { return };
        let channel = match lane {
            Lane::Control => Channel::Control,
            Lane::Entries => Channel::Entries,
        };
        desk.push(Output::Send {
            to: to.node,
            namespace: self.namespace.clone(),
            scope: Scope::Cluster(active.cluster),
            incarnation: Some(to.incarnation),
            channel,
            body: Body::Consensus(message),
        });
    }

    /// Tells a peer what it was not told yet of where this node and others listen.
    pub(super) fn tell_peer(&mut self, peer: NodeId, desk: &mut Desk) {
        while let Some(exchange) = self.peers.tell(peer) {
            desk.push(Output::Send {
                to: peer,
                namespace: self.namespace.clone(),
                scope: Scope::Free,
                incarnation: None,
                channel: Channel::Peers,
                body: Body::Bytes(exchange.encode()),
            });
        }
    }

    /// Tells every peer.
    pub(super) fn tell_peers(&mut self, desk: &mut Desk) {
        let peers: Vec<_> = self.shared.keys().copied().collect();
        for peer in peers {
            self.tell_peer(peer, desk);
        }
    }

    /// Takes the addresses at which this node listens.
    pub(super) fn listening(&mut self, addresses: &[Address], desk: &mut Desk) {
        self.peers.set_own(addresses.iter().cloned());
        self.tell_peers(desk);
    }

    fn learn_peers(&mut self, from: NodeId, bytes: &[u8], desk: &mut Desk) {
        let Ok(exchange) = Exchange::decode(bytes) else { return };
        for (peer, addresses) in self.peers.hear(from, &exchange) {
            desk.push(Output::Hear { teller: from, peer, addresses });
        }
    }

    /// Where a peer was reached changed: kept and told if it is of this namespace.
    fn proven(&mut self, peer: NodeId, addresses: &[Address], desk: &mut Desk) {
        let ours = self.shared.contains_key(&peer) || self.peers.knows(peer);
        if ours && self.peers.set_proven(peer, addresses.iter().cloned()) {
            self.remember(desk);
            self.tell_peers(desk);
        }
    }

    /// Tells every peer everything once more, ever more rarely.
    pub(super) fn tell_again(&mut self, now: Moment, desk: &mut Desk) {
        if self.shared.is_empty() || self.gossip.due > now {
            return;
        }
        let pause = (self.gossip.pause * 2).min(Gossip::PAUSE_MAX);
        self.gossip = Gossip { due: now.plus(pause), pause };
        let peers: Vec<_> = self.shared.keys().copied().collect();
        for peer in peers {
            self.peers.tell_again(peer);
        }
        self.tell_peers(desk);
    }
}
