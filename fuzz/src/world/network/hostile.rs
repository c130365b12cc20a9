//! Hostile actors on the network: connected like any peer, and heard like one.
//!
//! An actor sees some of what is on the wire and says what it likes, at a seat of its own or at
//! that of a node whose identity it has. What it says is judged like any letter, but by the cards
//! that it chooses to show.

use bytes::Bytes;
use meshraft_consensus::{Card, Incarnation, KnownMembers, Member, Message, Namespace, NodeId};
use meshraft_transport::{Body, Channel, NotSent, RequestError, RequestId, Scope};

use super::{Arrival, Letter, Network, Stranger, What, request::Pending};
use crate::{random::Random, world::Seat};

/// So many letters of the wire are remembered.
const SEEN_MAX: usize = 64;

/// What an actor sends, with the fields that a node does not choose.
#[derive(Clone, Debug)]
pub(crate) struct Lie {
    pub(crate) namespace: Namespace,
    pub(crate) scope: Scope,
    /// As which incarnation the actor speaks.
    pub(crate) author: Incarnation,
    pub(crate) channel: Channel,
    pub(crate) body: Body,
    /// The cards that the actor shows.
    pub(crate) cards: Vec<Card>,
    /// Whether it comes on a handle that was opened before the receiver knew better: no transport
    /// judges it, and the core has to.
    pub(crate) late: bool,
    /// Whether it is a request.
    pub(crate) asks: bool,
}

/// What a letter of an actor has that one of a node has not.
#[derive(Clone, Debug)]
pub(super) struct Forged {
    pub(super) cards: Vec<Card>,
    pub(super) late: bool,
}

/// A letter that was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) from: Member,
    pub(crate) namespace: Namespace,
    pub(crate) scope: Scope,
    pub(crate) channel: Channel,
    pub(crate) body: Body,
}

/// What actors see of the wire.
#[derive(Debug)]
pub(super) struct Wiretap {
    random: Random,
    seen: Vec<Seen>,
}

impl Network {
    /// An actor takes a seat of its own, from which it dials everybody; keyless, if it has no key
    /// where others have one.
    pub(crate) fn seat_actor(&mut self, node: NodeId, keyless: bool) -> Seat {
        let seat = Seat(self.ends.len());
        let end = super::End { running: true, actor: true, life: 1, ..super::End::new(node) };
        self.ends.push(end);
        self.end_mut(seat).stranger = keyless.then_some(Stranger::NoKey);
        for peer in self.others(seat) {
            self.end_mut(seat).knows.insert(peer);
            self.redial(seat, peer);
        }
        seat
    }

    /// From now on actors see some of what is on the wire.
    pub(crate) fn tap(&mut self, random: Random) {
        self.wiretap = Some(Wiretap { random, seen: Vec::new() });
    }

    pub(super) fn overhear(&mut self, from: Seat, letter: &Letter) {
        let node = self.end(from).node;
        let Some(tap) = &mut self.wiretap else { return };
        let Some(author) = letter.author.filter(|_| tap.random.below(8) == 0) else { return };
        let place = tap.random.place(SEEN_MAX);
        let seen = Seen {
            from: Member::new(node, author),
            namespace: letter.namespace.clone(),
            scope: letter.scope,
            channel: letter.channel,
            body: letter.body(),
        };
        match tap.seen.get_mut(place) {
            Some(old) => *old = seen,
            None => tap.seen.push(seen),
        }
    }

    /// A letter that was on the wire: of `of`, if it is named.
    pub(crate) fn seen(&mut self, of: Option<Member>) -> Option<Seen> {
        let Wiretap { random, seen } = self.wiretap.as_mut()?;
        let fits = |seen: &&Seen| of.is_none_or(|of| seen.from == of);
        let place = random.place(seen.iter().filter(fits).count().max(1));
        seen.iter().filter(fits).nth(place).cloned()
    }

    /// An actor at `from` sends something.
    pub(crate) fn lie(&mut self, from: Seat, to: Seat, lie: Lie) {
        let Some(epoch) = self.epoch(from, to) else { return };
        let (consensus, bytes) = Letter::encode(lie.body);
        let channel = lie.channel;
        let letter = Letter {
            namespace: lie.namespace,
            scope: lie.scope,
            author: Some(lie.author),
            expected: None,
            channel,
            consensus,
            bytes,
            forged: Some(Forged { cards: lie.cards, late: lie.late }),
        };
        if !lie.asks {
            return self.travel(from, to, epoch, channel, What::Message(letter));
        }
        self.last_request += 1;
        let (number, life) = (self.last_request, self.end(from).life);
        let pending = Pending::new(from, to, life, RequestId::new(number), channel);
        self.requests.insert(number, pending);
        self.travel(from, to, epoch, channel, What::Request { number, letter });
    }

    /// Something reaches an actor at a seat of its own: it answers nothing. Nobody has a handle in
    /// the scope of a cluster to one that is no member.
    pub(crate) fn reaches_actor(&mut self, arrival: &Arrival) {
        match &arrival.what {
            What::Request { number, letter } if letter.scope.cluster().is_some() => {
                self.fail(*number, RequestError::NotSent(NotSent::NotOpen));
            }
            What::Reply { number, .. } | What::Failed { number } => {
                self.requests.remove(number);
            }
            _ => {}
        }
    }

    /// Whom a node hears in a cluster, as it told its transport.
    pub(crate) fn known(
        &self,
        seat: Seat,
        namespace: &Namespace,
        scope: Scope,
    ) -> Option<&KnownMembers> {
        let shares = self.end(seat).shares.get(namespace)?;
        shares.clusters.get(&scope.cluster()?)
    }

    /// Whether this is an actor with a seat of its own.
    pub(crate) fn is_actor(&self, node: NodeId) -> bool {
        self.wiretap.is_some() && self.seat_of(node).is_some_and(|seat| self.end(seat).actor)
    }

    /// What a node says of itself in a namespace.
    pub(crate) fn shares(&self, seat: Seat, namespace: &Namespace) -> Option<&super::Shares> {
        self.end(seat).shares.get(namespace)
    }
}

impl Arrival {
    /// What an actor says, and as whom, if this is something of that kind.
    pub(crate) fn lie(&self, network: &Network) -> Option<(Member, Seen)> {
        let (What::Message(letter) | What::Request { letter, .. }) = &self.what else {
            return None;
        };
        letter.forged.as_ref()?;
        let from = Member::new(network.end(self.from).node, letter.author?);
        let Letter { namespace, scope, channel, .. } = letter.clone();
        Some((from, Seen { from, namespace, scope, channel, body: letter.body() }))
    }

    /// Whether an actor says it.
    pub(crate) const fn is_lie(&self) -> bool {
        match &self.what {
            What::Message(letter) | What::Request { letter, .. } => letter.forged.is_some(),
            _ => false,
        }
    }

    /// Whether it is a request.
    pub(crate) const fn asks(&self) -> bool {
        matches!(self.what, What::Request { .. })
    }
}

impl Letter {
    /// The bytes of a body, and whether these are a message of consensus.
    pub(super) fn encode(body: Body) -> (bool, Bytes) {
        match body {
            Body::Consensus(message) => {
                (true, postcard::to_allocvec(&message).expect("a message encodes").into())
            }
            Body::Bytes(bytes) => (false, bytes),
        }
    }

    /// The body that these bytes are.
    pub(super) fn body(&self) -> Body {
        if self.consensus {
            let message: Message =
                postcard::from_bytes(&self.bytes).expect("what was encoded decodes");
            Body::Consensus(message)
        } else {
            Body::Bytes(self.bytes.clone())
        }
    }
}
