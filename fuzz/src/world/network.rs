//! The network of a simulated world: what the transport promises, and no more.
//!
//! Invariants:
//! 1. A message arrives only on the connection that it was sent on, between the two lives of the
//!    processes that had it, and only at a peer that shares the namespace and, in the scope of a
//!    cluster, speaks for that cluster in the expected incarnation.
//! 2. A peer is told of a connection, and of what is shared on it, before any message arrives.
//! 3. Every request ends in exactly one reply.
//! 4. Messages are lost, late, repeated and reordered at the rates of the faults, never altered.
//! 5. One fault breaks the first rule on purpose: a copy of a message may come on any later
//!    connection. What guards against it is what it names: cluster, incarnations and term.
//!
//! The network plans; the world's clock says when, and hands what arrives to the host.

mod facts;
mod foreign;
mod hostile;
mod judge;
mod link;
mod request;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft::host::NetworkInput;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, Index, Member, Moment, Namespace, NodeId,
};
use meshraft_discovery::peers::Address;
use meshraft_transport::{Body, Channel, Refusal, RequestId, Scope, Source};

pub(crate) use self::{
    facts::Shares,
    foreign::Stranger,
    hostile::{Lie, Seen},
    judge::WorldSignatures,
};
use self::{
    hostile::{Forged, Wiretap},
    link::Link,
    request::Pending,
};
use super::Seat;
use crate::{
    faults::{Fault, Faults},
    random::Random,
    world::force::Force,
};

/// What a byte of a reply takes: large ones are under way long enough for something to happen.
const NANOS_PER_BYTE: Duration = Duration::from_nanos(300);

/// What the network wants to be woken for.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A dial ends.
    Dial(Seat, Seat),
    /// A silent connection is noticed.
    Stall(Seat, Seat, Epoch),
    /// Something reaches a node.
    Arrive(Arrival),
    /// A request's time is over.
    Expire(u64),
}

/// Tells connections of one pair apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

/// Something on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) to: Seat,
    from: Seat,
    /// The life of the receiver's process.
    life: u64,
    /// The connection that carries it; `None` for what the own side tells, and for what comes
    /// again on any connection, in any life.
    epoch: Option<Epoch>,
    what: What,
}

impl Arrival {
    /// Lives are counted from 1.
    const ANY_LIFE: u64 = 0;
}

#[derive(Clone, Debug)]
enum What {
    Connected,
    Proven(Address),
    Disconnected,
    Facts(Namespace),
    Unshared(Namespace),
    Refused {
        namespace: Namespace,
        why: Refusal,
    },
    /// The cards of the other end count.
    Vouched {
        namespace: Namespace,
        cluster: ClusterId,
        member: Member,
        at: Index,
    },
    Message(Letter),
    Request {
        number: u64,
        letter: Letter,
    },
    Reply {
        number: u64,
        payload: Bytes,
    },
    Failed {
        number: u64,
    },
}

/// A message or request, as it travels.
#[derive(Clone, Debug)]
struct Letter {
    namespace: Namespace,
    scope: Scope,
    author: Option<Incarnation>,
    expected: Option<Incarnation>,
    channel: Channel,
    /// Whether the bytes are a message of consensus.
    consensus: bool,
    bytes: Bytes,
    /// Of a hostile actor.
    forged: Option<Forged>,
}

/// One node, as the network knows it.
#[derive(Debug)]
struct End {
    node: NodeId,
    life: u64,
    running: bool,
    paused: bool,
    /// Whether a hostile actor has this seat.
    actor: bool,
    stranger: Option<Stranger>,
    knows: BTreeSet<Seat>,
    shares: BTreeMap<Namespace, Shares>,
    /// Who each peer is and what it supports, as it told this node's process.
    heard: BTreeMap<(Seat, Namespace), (Incarnation, ClusterVersion)>,
    refusals: BTreeMap<(Seat, Namespace), (Refusal, Moment)>,
    told: BTreeSet<(Seat, Namespace)>,
}

/// All links and what is on them.
#[derive(Debug)]
pub(crate) struct Network {
    random: Random,
    pub(crate) force: Force,
    ends: Vec<End>,
    links: BTreeMap<(Seat, Seat), Link>,
    /// How many faults silence a direction.
    cuts: BTreeMap<(Seat, Seat), u32>,
    arrivals: BTreeMap<(Seat, Seat, Channel), Moment>,
    requests: BTreeMap<u64, Pending>,
    last_request: u64,
    plans: Vec<(Moment, Wake)>,
    now: Moment,
    /// What hostile actors see of the wire.
    wiretap: Option<Wiretap>,
}

impl Network {
    pub(crate) fn new(nodes: &[NodeId], random: Random) -> Self {
        Self {
            random,
            force: Force::default(),
            ends: nodes.iter().copied().map(End::new).collect(),
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_request: 0,
            plans: Vec::new(),
            now: Moment::ZERO,
            wiretap: None,
        }
    }

    /// What the network wants to be woken for since it was last asked.
    pub(crate) fn plans(&mut self, now: Moment) -> Vec<(Moment, Wake)> {
        self.now = now;
        std::mem::take(&mut self.plans)
    }

    /// Every call comes with the time.
    pub(crate) const fn at(&mut self, now: Moment) -> &mut Self {
        self.now = now;
        self
    }

    pub(crate) fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.ends.iter().position(|end| end.node == node).map(Seat)
    }

    /// The address at which a node listens.
    pub(crate) fn address(seat: Seat) -> Address {
        let number = u8::try_from(seat.0).expect("a world has few nodes");
        Address::new(vec![b's', b'i', b'm', number]).expect("four bytes are an address")
    }

    fn seat_at(&self, address: &Address) -> Option<Seat> {
        (0..self.ends.len()).map(Seat).find(|seat| Self::address(*seat) == *address)
    }

    /// A node says where another one listens. One that is connected already is dialled once, which
    /// proves the address.
    pub(crate) fn learn(&mut self, seat: Seat, address: &Address) {
        if let Some(peer) = self.seat_at(address).filter(|peer| *peer != seat)
            && self.end_mut(seat).knows.insert(peer)
        {
            if let Some(epoch) = self.epoch(seat, peer) {
                let proven = What::Proven(Self::address(peer));
                self.post(peer, seat, Some(epoch), proven);
            }
            self.redial(seat, peer);
        }
    }

    /// A process starts; it has forgotten the addresses that it is not given again.
    pub(crate) fn start(&mut self, seat: Seat, life: u64, stranger: Option<Stranger>) {
        let end = self.end_mut(seat);
        (end.life, end.stranger) = (life, stranger);
        end.running = true;
        end.paused = false;
        end.knows.clear();
        end.shares.clear();
        end.heard.clear();
        end.refusals.clear();
        for peer in self.others(seat) {
            self.redial(seat, peer);
        }
    }

    /// A process dies: its connections break, its requests are nobody's.
    pub(crate) fn stop(&mut self, seat: Seat) {
        self.end_mut(seat).running = false;
        self.requests.retain(|_, pending| pending.from != seat);
        for peer in self.others(seat) {
            self.break_link(seat, peer);
        }
    }

    /// A process stands still, or goes on.
    pub(crate) fn pause(&mut self, seat: Seat, paused: bool) {
        self.end_mut(seat).paused = paused;
        for peer in self.others(seat) {
            self.quiet(seat, peer);
            self.redial(seat, peer);
        }
    }

    /// A node sends a message.
    #[expect(clippy::too_many_arguments, reason = "the fields of one output, taken apart once")]
    pub(crate) fn send(
        &mut self,
        from: Seat,
        to: NodeId,
        namespace: Namespace,
        scope: Scope,
        expected: Option<Incarnation>,
        channel: Channel,
        body: Body,
    ) {
        let Some((to, epoch)) = self.path(from, to) else { return };
        let Some(author) = self.author(from, &namespace, scope) else { return };
        let (consensus, bytes) = Letter::encode(body);
        let (author, forged) = (Some(author), None);
        let letter =
            Letter { namespace, scope, author, expected, channel, consensus, bytes, forged };
        self.overhear(from, &letter);
        if self.hits(Fault::Duplicate) {
            self.travel(from, to, epoch, channel, What::Message(letter.clone()));
        }
        if self.hits(Fault::Stale) {
            self.come_again(from, to, letter.clone());
        }
        self.travel(from, to, epoch, channel, What::Message(letter));
    }

    fn hits(&mut self, fault: Fault) -> bool {
        self.force.hits(fault, &mut self.random)
    }

    /// Who writes: the sender's incarnation, if it may use a handle of this scope at all.
    fn author(&self, from: Seat, namespace: &Namespace, scope: Scope) -> Option<Incarnation> {
        let Shares { incarnation, clusters, .. } = self.end(from).shares.get(namespace)?;
        let ours = scope.cluster().is_none_or(|cluster| clusters.contains_key(&cluster));
        ours.then_some(*incarnation)
    }

    /// What reaches the host, if anything does.
    pub(crate) fn arrive(&mut self, arrival: Arrival) -> Vec<NetworkInput> {
        let Arrival { to, from, life, epoch, what } = arrival;
        let end = self.end(to);
        let again = life == Arrival::ANY_LIFE;
        let stale = match epoch {
            Some(epoch) => self.epoch(from, to) != Some(epoch),
            // That old copies come is a fault, and ends with the others.
            None => again && (self.force.is_over() || self.epoch(from, to).is_none()),
        };
        if !end.running || (end.life != life && !again) || stale {
            return Vec::new();
        }
        let peer = self.end(from).node;
        match what {
            What::Connected => vec![NetworkInput::Connected { peer }],
            What::Proven(address) => {
                vec![NetworkInput::Proven { peer, addresses: vec![address] }]
            }
            What::Disconnected => {
                self.end_mut(to).heard.retain(|(told, _), _| *told != from);
                vec![NetworkInput::Disconnected { peer }]
            }
            What::Facts(namespace) => self.facts(from, to, &namespace).into_iter().collect(),
            What::Unshared(namespace) => {
                self.end_mut(to).heard.remove(&(from, namespace.clone()));
                vec![NetworkInput::Unshared { peer, namespace }]
            }
            What::Refused { namespace, why } => {
                vec![NetworkInput::Refused { peer, namespace, why }]
            }
            What::Vouched { namespace, cluster, member, at } => {
                vec![NetworkInput::Vouched { namespace, cluster, member, at }]
            }
            What::Message(letter) => self.deliver(from, to, letter, None),
            What::Request { number, letter } => self.deliver(from, to, letter, Some(number)),
            What::Reply { number, payload } => self.replied(number, Ok(payload)),
            What::Failed { number } => {
                self.replied(number, Err(meshraft_transport::RequestError::Lost))
            }
        }
    }

    fn deliver(
        &mut self,
        from: Seat,
        to: Seat,
        letter: Letter,
        request: Option<u64>,
    ) -> Vec<NetworkInput> {
        let judged = self.admit(from, to, &letter).and_then(|()| self.judge(from, to, &letter));
        let told = judged.clone().unwrap_or_default();
        if let Err(why) = judged {
            match request {
                Some(number) => self.refuse_request(from, number, why),
                None => self.refuse(from, to, letter.namespace, why),
            }
            return Vec::new();
        }
        let [receiver, sender] = told;
        if let Some(what) = sender {
            self.post(to, from, self.epoch(from, to), what);
        }
        let mut inputs = Vec::new();
        if let Some(What::Vouched { namespace, cluster, member, at }) = receiver {
            inputs.push(NetworkInput::Vouched { namespace, cluster, member, at });
        }
        if !self.end(to).told.contains(&(from, letter.namespace.clone())) {
            inputs.extend(self.facts(from, to, &letter.namespace));
        }
        let body = letter.body();
        let Letter { namespace, scope, author, channel, bytes, .. } = letter;
        let source = Source { node: self.end(from).node, incarnation: author, namespace, scope };
        inputs.push(match request {
            Some(number) => {
                let token = token(to, number);
                NetworkInput::Request { from: source, channel, token, payload: bytes }
            }
            None => NetworkInput::Received { from: source, channel, body },
        });
        inputs
    }

    /// Whether the receiver has a handle for this letter.
    fn admit(&self, from: Seat, to: Seat, letter: &Letter) -> Result<(), Refusal> {
        if let Some(why) = self.estranged(from, to) {
            return Err(why);
        }
        let shares = self.end(to).shares.get(&letter.namespace);
        let Shares { incarnation, clusters, .. } = shares.ok_or(Refusal::UnknownNamespace)?;
        if let Some(asked) = letter.scope.cluster().filter(|asked| !clusters.contains_key(asked)) {
            let speaks_for = clusters.keys().copied().collect();
            return Err(Refusal::WrongCluster { asked, speaks_for });
        }
        match letter.expected {
            Some(expected) if expected != *incarnation => {
                Err(Refusal::WrongIncarnation { expected, found: *incarnation })
            }
            _ => Ok(()),
        }
    }

    /// The same refusal is not told again within this time.
    const QUIET: Duration = Duration::from_secs(1);

    /// Tells the sender why, now and then.
    fn refuse(&mut self, sender: Seat, receiver: Seat, namespace: Namespace, why: Refusal) {
        let key = (receiver, namespace.clone());
        // A handle that is refused is asked for again, and the reason is told again.
        let now = self.now;
        let told = self.end(sender).refusals.get(&key);
        let quiet = |(old, at): &(Refusal, Moment)| *old == why && now < at.plus(Self::QUIET);
        if !told.is_some_and(quiet) {
            self.end_mut(sender).refusals.insert(key, (why.clone(), now));
            let epoch = self.epoch(sender, receiver);
            self.post(receiver, sender, epoch, What::Refused { namespace, why });
        }
    }

    /// The way to a node, if there is a connection.
    fn path(&self, from: Seat, to: NodeId) -> Option<(Seat, Epoch)> {
        let to = self.seat_of(to)?;
        Some((to, self.epoch(from, to)?))
    }

    /// Puts something on its way that may be lost, late or reordered.
    fn travel(&mut self, from: Seat, to: Seat, epoch: Epoch, channel: Channel, what: What) {
        if self.is_cut(from, to) || self.hits(Fault::Loss) {
            return;
        }
        let mut wait = self.latency();
        if let What::Reply { payload, .. } = &what {
            wait += NANOS_PER_BYTE * u32::try_from(payload.len()).unwrap_or(u32::MAX);
        }
        if self.hits(Fault::Delay) {
            wait += self.random.between(Duration::ZERO, Faults::DELAY_MAX);
        }
        let mut at = self.now.plus(wait);
        let overtakes = self.hits(Fault::Reorder);
        let last = self.arrivals.entry((from, to, channel)).or_default();
        if overtakes {
            at = at.plus(self.random.between(Duration::ZERO, Duration::from_millis(20)));
        } else {
            at = at.max(last.plus(Duration::from_nanos(1)));
            *last = at;
        }
        let life = self.end(to).life;
        self.plans.push((at, Wake::Arrive(Arrival { to, from, life, epoch: Some(epoch), what })));
    }

    /// Puts something on its way that surely arrives while the connection lasts.
    fn post(&mut self, from: Seat, to: Seat, epoch: Option<Epoch>, what: What) {
        let at = self.now.plus(self.latency());
        let life = self.end(to).life;
        self.plans.push((at, Wake::Arrive(Arrival { to, from, life, epoch, what })));
    }

    fn latency(&mut self) -> Duration {
        self.random.between(Duration::from_micros(100), Duration::from_micros(700))
    }

    fn end(&self, seat: Seat) -> &End {
        self.ends.get(seat.0).expect("a seat of this world")
    }

    fn end_mut(&mut self, seat: Seat) -> &mut End {
        self.ends.get_mut(seat.0).expect("a seat of this world")
    }

    fn others(&self, seat: Seat) -> impl Iterator<Item = Seat> + use<> {
        (0..self.ends.len()).map(Seat).filter(move |other| *other != seat)
    }
}

/// The way back to whoever asked; the number alone names the request.
const fn token(to: Seat, number: u64) -> meshraft_transport::ReplyToken {
    meshraft_transport::ReplyToken::new(to.0 as u64, 0, number)
}

/// A node asks, with the fields of one output.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) id: RequestId,
    pub(crate) to: NodeId,
    pub(crate) namespace: Namespace,
    pub(crate) scope: Scope,
    pub(crate) channel: Channel,
    pub(crate) payload: Bytes,
    pub(crate) timeout: Duration,
}
