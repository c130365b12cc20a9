//! What a hostile actor says to a node, and that nothing comes of it.

use std::collections::BTreeMap;

use meshraft::host::{Input, NetworkInput};
use meshraft_consensus::{
    ClusterId, Configuration, Index, KnownMembers, Member, Message, Namespace, NodeId, Position,
    Role, Status, Term,
};
use meshraft_discovery::{
    peers::Exchange,
    wire::{Binding, Message as Founding},
};
use meshraft_service::wire::{Operation, Request};
use meshraft_transport::{Body, Channel, Scope};

use super::{INVENTED, OTHER_LIFE, Seen, lie_of_founding};
use crate::{
    check::Violation,
    lies::{Lie, lie_of},
    world::{
        Seat, World,
        network::{Arrival, Network, WorldSignatures},
    },
};

/// What no stranger may change of a member.
type Held = (Term, Role, Option<Member>, Index, Position, Configuration, (bool, ClusterId));

impl World {
    /// What an actor says reaches a node.
    pub(in super::super) fn lied_to(&mut self, arrival: Arrival) -> Result<(), Violation> {
        let (now, seat) = (self.clock.now(), arrival.to);
        let asks = arrival.asks();
        let Some((from, said)) = arrival.lie(&self.network) else { return Ok(()) };
        if !self.node(seat).is_running() || self.node(seat).paused_until.is_some() {
            return Ok(());
        }
        // What is under way at the node was there before.
        self.input_now(seat, Input::Timeout)?;
        let believed = self.would_believe(seat, from, &said);
        // Only a removed member may be believed, and only where that is measured.
        let removed = from.incarnation != OTHER_LIFE && !self.network.is_actor(from.node);
        if believed && !(self.plan.lies && removed) {
            return Ok(());
        }
        if !self.node(seat).is_running() {
            return Ok(());
        }
        let (namespace, scope) = (said.namespace.clone(), said.scope);
        self.hostiles.counts.note(if believed { Lie::Believed } else { kind(&said, asks) });
        let mut inputs = self.network.at(now).arrive(arrival);
        if inputs.iter().any(|input| matches!(input, NetworkInput::Vouched { .. })) && !believed {
            let member = self.shared_member(seat, &namespace);
            return Err(Violation::KnowsStranger { member, stranger: from });
        }
        let Some(lie) = inputs.pop() else { return Ok(()) };
        if scope != Scope::Free {
            self.hostiles.counts.note(Lie::Late);
        }
        for facts in inputs {
            self.input_now(seat, Input::Network(facts))?;
        }
        let before = self.held(seat, &namespace);
        self.trace.note(now, format_args!("n{} <- lie {lie:?}", seat.0));
        self.input_now(seat, Input::Network(lie))?;
        // Before a cluster lives, words of founding are weighed, and may cost time.
        let settled = scope != Scope::Free || before.as_ref().is_some_and(|held| !held.6.0);
        if settled && !believed && before != self.held(seat, &namespace) {
            let member = self.shared_member(seat, &namespace);
            return Err(Violation::Moved { member, stranger: from });
        }
        Ok(())
    }

    fn shared_member(&self, seat: Seat, namespace: &Namespace) -> Member {
        let shares = self.network.shares(seat, namespace);
        Member::new(self.node(seat).id, shares.map_or(OTHER_LIFE, |shares| shares.incarnation))
    }

    fn held(&self, seat: Seat, namespace: &Namespace) -> Option<Held> {
        let Status { term, role, leader, commit, last, configuration, .. } =
            self.status(seat, namespace)?;
        let status = self.status(seat, namespace)?;
        // A member that is away may find its way back by what others say.
        let open = status.founding || status.departed;
        Some((term, role, leader, commit, last, configuration, (open, status.cluster)))
    }

    /// Whether a node may believe this by design.
    fn would_believe(&self, seat: Seat, from: Member, said: &Seen) -> bool {
        let Some(known) = self.network.known(seat, &said.namespace, said.scope) else {
            return self.is_trusted(seat, said);
        };
        if from.incarnation == OTHER_LIFE || self.network.is_actor(from.node) {
            // On trial it is one of those that are said to have admitted the node.
            return known.members.contains(&from);
        }
        // A removed member: its own cards are old to those that have learned of the removal.
        let scope = said.scope;
        let own = self.network.seat_of(from.node).and_then(|seat| {
            let cards = &self.network.known(seat, &said.namespace, scope)?.cards;
            cards.iter().filter(|card| card.member == from).map(|card| card.index).max()
        });
        let hands_over = matches!(said.body, Body::Consensus(Message::TimeoutNow(_)));
        let learned = own.is_none_or(|own| own <= known.committed) && known.committed > Index::ZERO;
        hands_over || known.members.contains(&from) || !learned
    }

    /// Whether words of founding or a request from nobody's member may be heeded: what holders of
    /// the key are trusted with, who may be a founder, and who admits a node without a log.
    fn is_trusted(&self, seat: Seat, said: &Seen) -> bool {
        let Body::Bytes(bytes) = &said.body else { return said.scope == Scope::Free };
        if said.scope != Scope::Free || said.channel != Channel::Control {
            return false;
        }
        let Ok(message) = Founding::decode(bytes) else { return false };
        let keyed = self.plan.keyed();
        match message {
            Founding::Canvass(standing)
            | Founding::CanvassAnswer(standing)
            | Founding::Refused { standing, .. } => match standing.binding {
                Binding::Free => true,
                Binding::Living { cluster } => keyed && cluster == INVENTED,
                _ => false,
            },
            Founding::Join { .. } => true,
            Founding::Propose(_) => keyed,
            Founding::Admitted { cluster, .. } => {
                let status = self.status(seat, &said.namespace);
                let returns = status.is_some_and(|status| {
                    status.cluster == cluster && status.last != Position::ZERO && !status.founding
                });
                keyed || (cluster != INVENTED && !returns)
            }
            _ => false,
        }
    }

    /// Whom a node hears, as it tells its transport: no actor, and only cards that were signed.
    pub(in super::super) fn expect_known(
        &self,
        namespace: &Namespace,
        member: Member,
        clusters: &BTreeMap<ClusterId, KnownMembers>,
    ) -> Result<(), Violation> {
        if self.hostiles.actors.is_empty() {
            return Ok(());
        }
        for (cluster, known) in clusters.iter().filter(|(cluster, _)| **cluster != INVENTED) {
            let is_actor =
                |one: &&Member| one.incarnation == OTHER_LIFE || self.network.is_actor(one.node);
            if let Some(stranger) = known.members.iter().find(is_actor) {
                return Err(Violation::KnowsStranger { member, stranger: *stranger });
            }
            let signatures = WorldSignatures(member.node);
            let forged = known
                .cards
                .iter()
                .find(|card| card.cluster != *cluster || !card.is_genuine(&signatures, namespace));
            if let Some(card) = forged {
                return Err(Violation::KnowsStranger { member, stranger: card.member });
            }
        }
        Ok(())
    }

    /// What a node says: to an actor no more of its cluster than that it is unknown, and of
    /// addresses only those at which nodes are.
    pub(in super::super) fn expect_owed(
        &self,
        seat: Seat,
        to: NodeId,
        namespace: &Namespace,
        (scope, channel): (Scope, Channel),
        body: &Body,
    ) -> Result<(), Violation> {
        if self.hostiles.actors.is_empty() {
            return Ok(());
        }
        let invented = scope == Scope::Cluster(INVENTED);
        let refuses = matches!(body, Body::Consensus(Message::Dismissed(message))
            if message.term == Term::ZERO);
        let what = matches!(body, Body::Consensus(_)) && !refuses && !invented;
        if what && self.network.is_actor(to) {
            let (member, stranger) =
                (self.shared_member(seat, namespace), Member::new(to, OTHER_LIFE));
            return Err(Violation::Moved { member, stranger });
        }
        if channel == Channel::Peers
            && scope == Scope::Free
            && let Body::Bytes(bytes) = body
            && let Ok(exchange) = Exchange::decode(bytes)
        {
            let true_of = |node: &NodeId| self.network.seat_of(*node).map(Network::address);
            let hearsay = exchange.nodes.iter().find(|(node, addresses)| {
                addresses.iter().any(|address| Some(address) != true_of(node).as_ref())
            });
            if let Some((node, _)) = hearsay {
                return Err(Violation::Hearsay { node: seat.number(), of: *node });
            }
        }
        Ok(())
    }
}

/// As what something is counted.
fn kind(said: &Seen, asks: bool) -> Lie {
    let bytes = match &said.body {
        Body::Consensus(message) => return lie_of(message),
        Body::Bytes(bytes) => bytes,
    };
    match (said.channel, said.scope) {
        (Channel::Command, _) if asks => match Request::decode(bytes).map(|it| it.operation) {
            Ok(Operation::Admit { .. }) => Lie::Admit,
            Ok(_) => Lie::Request,
            Err(_) => Lie::Noise,
        },
        (Channel::Control, Scope::Free) => {
            Founding::decode(bytes).map_or(Lie::Noise, |message| lie_of_founding(&message))
        }
        (Channel::Peers, Scope::Free) => {
            Exchange::decode(bytes).map_or(Lie::Noise, |_| Lie::Exchange)
        }
        (Channel::Peers, Scope::Cluster(_)) => Lie::Cards,
        _ => Lie::Noise,
    }
}
