//! What hostile actors say, apart from what was on the wire.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::{Card, ClusterId, Incarnation, Index, Member, NodeId};
use meshraft_discovery::{
    Ballot, FounderSet,
    peers::{Address, Exchange},
    wire::{Binding, Message, NotAdmitted, Refusal, Standing},
};
use meshraft_service::{
    limits,
    wire::{Level, Operation, Request},
};
use meshraft_transport::{Body, Channel, Scope};

use super::{INVENTED, Speaker};
use crate::{
    lies::Lies,
    world::{
        Seat, World,
        network::{Network, WorldSignatures},
        versions::NEWEST,
    },
};

/// A node that there is not.
const NOBODY: Member = Member::new(NodeId::new([0x7F; 32]), Incarnation::new([1; 16]));
/// The version byte of a bundle of cards.
const BUNDLE: u8 = 1;

impl World {
    /// A message of consensus, with fields that matter to its receiver.
    pub(super) fn make_up(&mut self, speaker: &Speaker) -> Option<(Scope, Channel, Body)> {
        let status = self.status(speaker.to, &speaker.namespace)?;
        let message = Lies(&mut self.hostiles.random).message(speaker.me, &status);
        let channel = [Channel::Control, Channel::Entries][self.hostiles.random.place(2)];
        Some((Scope::Cluster(speaker.cluster), channel, Body::Consensus(message)))
    }

    /// Cards that must not count: forged ones, those of others, and those of elsewhere. A removed
    /// member shows its own, too.
    pub(super) fn cards(&mut self, speaker: &Speaker) -> Vec<Card> {
        let (me, cluster) = (speaker.me, speaker.cluster);
        let mut cards = self.cards_of(speaker.from, speaker);
        let other = Seat(self.hostiles.random.place(self.nodes.len()));
        let signer = self.node(other).id;
        let status = self.status(speaker.to, &speaker.namespace);
        let last = status.map_or(Index::ZERO, |status| status.last.index);
        let beyond = last.plus(1 + self.hostiles.random.below(1 << 20));
        let named = [me, speaker.receiver][self.hostiles.random.place(2)];
        let sign = |key: NodeId, of: (Index, Member), cluster: ClusterId| {
            Card::sign(&WorldSignatures(key), &speaker.namespace, cluster, of, signer)
        };
        match self.hostiles.random.below(6) {
            // In the name of a member, with the own key.
            0 => cards.push(sign(me.node, (beyond, named), cluster)),
            // By itself.
            1 => {
                let card = sign(me.node, (beyond, me), cluster);
                cards.push(Card { signer: me.node, ..card });
            }
            // What the member signed in another cluster, as it is, and as one of this cluster.
            2 => cards.push(sign(signer, (beyond, named), INVENTED)),
            3 => cards.push(Card { cluster, ..sign(signer, (beyond, named), INVENTED) }),
            // Genuine cards with another name, or a later slot.
            4 => {
                let genuine = self.cards_of(other, speaker);
                cards.extend(genuine.into_iter().map(|card| Card { member: me, ..card }));
            }
            _ => {
                let later: Vec<Card> =
                    cards.iter().map(|card| Card { index: beyond, ..*card }).collect();
                cards.extend(later);
            }
        }
        cards.truncate(Card::KEPT_MAX);
        cards
    }

    /// The cards that a node of the world shows its transport.
    fn cards_of(&self, seat: Seat, speaker: &Speaker) -> Vec<Card> {
        let scope = Scope::Cluster(speaker.cluster);
        let known = self.network.known(seat, &speaker.namespace, scope);
        known.map(|known| known.cards.clone()).unwrap_or_default()
    }

    /// A bundle of such cards.
    pub(super) fn bundle(&mut self, speaker: &Speaker) -> Body {
        let cards = self.cards(speaker);
        Body::Bytes(postcard::to_extend(&cards, vec![BUNDLE]).unwrap_or_default().into())
    }

    /// Wrong addresses, of the actor and of everybody else: bystanders, loopback, other members.
    pub(super) fn poison(&mut self, speaker: &Speaker) -> Body {
        let seats = self.nodes.len();
        let random = &mut self.hostiles.random;
        let mut address = || match random.below(3) {
            0 => Network::address(Seat(random.place(seats))),
            _ => Address::new(random.bytes::<12>().to_vec()).expect("twelve bytes are an address"),
        };
        let own: BTreeSet<Address> = (0..8).map(|_| address()).collect();
        let mut nodes: BTreeMap<NodeId, BTreeSet<Address>> =
            self.nodes.iter().map(|node| (node.id, [address()].into())).collect();
        let invented = (0..40).map(|_| (NodeId::new(random.bytes()), own.clone()));
        nodes.extend(invented.collect::<Vec<_>>());
        let version = [0, 1, 1 << 20, u64::MAX][random.place(4)];
        let _ = speaker;
        Body::Bytes(Exchange { version, own, nodes }.encode())
    }

    /// A request: what any client may ask, and what only members may.
    pub(super) fn inquire(&mut self, speaker: &Speaker) {
        let random = &mut self.hostiles.random;
        let operation = match random.below(6) {
            0 | 1 => Operation::Admit { member: speaker.me, supports: NEWEST },
            2 => Operation::Describe,
            3 => Operation::Addresses,
            4 => Operation::Barrier,
            _ => Operation::Read { level: Level::Linearizable, query: Bytes::new() },
        };
        let hops = [0, 1, limits::HOPS_MAX][random.place(3)];
        let deadline_ms = limits::TIMEOUT_MS.0 + random.below(20_000) as u32;
        let scopes = [Scope::Free, Scope::Cluster(speaker.cluster)];
        let scope = scopes[random.place(2)];
        let body = Body::Bytes(Request { deadline_ms, hops, operation }.encode());
        self.say(speaker, scope, Channel::Command, body, true);
    }

    /// Bytes that mean nothing, on any channel.
    pub(super) fn babble(&mut self, speaker: &Speaker) {
        let random = &mut self.hostiles.random;
        let bytes = random.bytes::<40>().to_vec();
        let asks = random.below(2) == 0;
        let channel = match asks {
            true => [Channel::Command, Channel::Snapshot][random.place(2)],
            false => [Channel::Control, Channel::Peers][random.place(2)],
        };
        let scopes = [Scope::Free, Scope::Cluster(speaker.cluster)];
        let scope = scopes[random.place(2)];
        self.say(speaker, scope, channel, Body::Bytes(bytes.into()), asks);
    }

    /// What an actor says of founding: one message, or a claim and an admission that rests on it.
    pub(super) fn founding_lies(&mut self, speaker: &Speaker) -> Vec<Message> {
        let standing = self.standing_of_liar(speaker);
        let random = &mut self.hostiles.random;
        let cluster = [speaker.cluster, INVENTED][random.place(2)];
        let index = Index::new([1, 1 << 10, u64::MAX / 2][random.place(3)]);
        let living = Standing { binding: Binding::Living { cluster }, ..standing };
        match random.below(9) {
            0 => vec![Message::Canvass(standing)],
            1 => vec![Message::CanvassAnswer(standing)],
            2 => vec![Message::Promised { cluster }],
            3 => vec![Message::Refused { cluster, why: Refusal::Dead, standing }],
            4 => self.proposal(speaker).into_iter().map(Message::Propose).collect(),
            5 => {
                let why = [NotAdmitted::NotLiving, NotAdmitted::NoLeader, NotAdmitted::Departed];
                vec![Message::NotAdmitted { cluster, why: why[random.place(3)] }]
            }
            6 => vec![Message::CanvassAnswer(living)],
            _ => {
                let (member, members) = (speaker.receiver, [speaker.me, NOBODY].into());
                let cards = self.cards(speaker);
                let admitted = Message::Admitted { cluster, member, index, members, cards };
                vec![Message::CanvassAnswer(living), admitted]
            }
        }
    }

    fn standing_of_liar(&mut self, speaker: &Speaker) -> Standing {
        let random = &mut self.hostiles.random;
        let counter = [0, 1, 7, 1 << 31, u64::MAX][random.place(5)];
        let coordinator = [speaker.me, speaker.receiver, NOBODY][random.place(3)].node;
        let cluster = [speaker.cluster, INVENTED][random.place(2)];
        let binding = match random.below(3) {
            0 => Binding::Joining,
            1 => Binding::Founding { cluster },
            _ => Binding::Living { cluster },
        };
        let expect = core::num::NonZeroU16::new([0, 3, 100][random.place(3)]);
        Standing { seen: Ballot { counter, coordinator }, expect, binding }
    }

    /// Founders whom the actor is none of: the receiver with one that there is not, or with others.
    fn proposal(&mut self, speaker: &Speaker) -> Option<FounderSet> {
        let random = &mut self.hostiles.random;
        let (invented, receives) = (random.below(2) == 0, random.below(2) == 0);
        let counter = [1, 7, 1 << 31, u64::MAX][random.place(4)];
        let other = Seat(random.place(self.nodes.len()));
        let other = match invented {
            true => NOBODY,
            false => {
                let shares = self.network.shares(other, &speaker.namespace)?;
                Member::new(self.node(other).id, shares.incarnation)
            }
        };
        let coordinator = if receives { speaker.receiver.node } else { other.node };
        FounderSet::new(Ballot { counter, coordinator }, [speaker.receiver, other].into()).ok()
    }
}
