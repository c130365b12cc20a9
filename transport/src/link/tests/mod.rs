//! Two links face to face, without a socket: every byte and every moment is the test's.

mod bounds;
mod disclosure;
mod flow;
mod hello;
mod hostile;
mod membership;
mod sealing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Heartbeat, Incarnation, Index, KnownMembers, Member, Message,
    Moment, Namespace, NodeId, Position, Term,
};

use super::{Inbound, Link, LinkConfig, LinkError, LinkEvent, Outbound, Outgoing, Question};
use crate::{
    budget::{Account, Budgets},
    config::Limits,
    effort::Effort,
    fragment::{self, Header},
    frame::{FrameReader, FrameWriter},
    hello::{Greeting, Hello, NamespaceHash, Space},
    introduction::{Facts, Introduction},
    key::{KeyRing, NamespaceKey},
    roster::Roster,
    sign::NodeSignatures,
    types::{Body, Channel, LocalNamespace, LocalRole, RequestId, Scope, Source},
};

const STALL: Duration = Duration::from_millis(400);

fn jobs() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

fn cluster(byte: u8) -> ClusterId {
    ClusterId::new([byte; 32])
}

fn key(byte: u8) -> KeyRing {
    NamespaceKey::new([byte; 32]).into()
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// The node of this number in this incarnation.
fn life(number: u8, incarnation: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([incarnation; 16]))
}

/// These members, as of a configuration that is committed at this slot.
fn known(committed: u64, members: impl IntoIterator<Item = Member>) -> KnownMembers {
    let (committed, members) = (Index::new(committed), members.into_iter().collect());
    KnownMembers { committed, members, cards: Vec::new() }
}

/// A member in its clusters. In each, nodes 1 and 2 are known, in their first life and in one that
/// is ten higher.
fn member(byte: u8, clusters: impl IntoIterator<Item = u8>) -> LocalRole {
    let both = known(1, [life(1, 1), life(1, 11), life(2, 2), life(2, 12)]);
    member_with(byte, clusters.into_iter().map(|cluster| (cluster, both.clone())))
}

fn member_with(byte: u8, clusters: impl IntoIterator<Item = (u8, KnownMembers)>) -> LocalRole {
    let clusters: BTreeMap<_, _> =
        clusters.into_iter().map(|(byte, known)| (cluster(byte), known)).collect();
    let (incarnation, supports) = (Incarnation::new([byte; 16]), ClusterVersion::BASELINE);
    LocalRole::Member { incarnation, clusters, supports }
}

/// A hello in clear, of a member in its first life.
fn open_hello(byte: u8, scope: Option<ClusterId>, random: u8) -> Greeting {
    let facts = Facts::Member {
        incarnation: Incarnation::new([byte; 16]),
        clusters: scope.into_iter().collect(),
        supports: ClusterVersion::BASELINE,
    };
    let committed = Index::ZERO;
    let introduction = Introduction { scope, facts, committed, cards: Vec::new() };
    let space = Space::Open { namespace: NamespaceHash::of(&jobs()), introduction };
    Greeting::Hello(Hello { oldest: 2, newest: 2, random: [random; 32], space })
}

fn frame(handle: u32, message: u32, bytes: &[u8]) -> Vec<u8> {
    hostile::piece(handle, true, true, message, bytes)
}

fn greet(message: u32, greeting: &Greeting) -> Vec<u8> {
    frame(0, message, &greeting.encode())
}

/// The greetings among these bytes, with their message numbers.
fn greetings(bytes: &[u8]) -> Vec<(u32, Greeting)> {
    let mut reader = FrameReader::default();
    reader.extend(bytes);
    let mut greetings = Vec::new();
    while let Some(mut frame) = reader.next().unwrap() {
        while !frame.is_empty() {
            let fragment = fragment::split(&mut frame).unwrap();
            if fragment.header.handle == 0 {
                let greeting = Greeting::decode(fragment.bytes).unwrap();
                greetings.push((fragment.header.message, greeting));
            }
        }
    }
    greetings
}

fn heartbeat(round: u64) -> Body {
    Body::Consensus(Message::Heartbeat(Heartbeat {
        term: Term::new(1),
        commit: Position::ZERO,
        round,
    }))
}

fn opaque(byte: u8, length: usize) -> Body {
    Body::Bytes(Bytes::from(vec![byte; length]))
}

fn config(channel: Channel, me: u8, peer: u8) -> LinkConfig {
    LinkConfig {
        channel,
        me: NodeId::new([me; 32]),
        peer: NodeId::new([peer; 32]),
        stall: STALL,
        limits: Limits::default(),
        signatures: NodeSignatures::of_byte(me),
        effort: Effort::default(),
        seed: [me; 32],
        account: Account::new(Budgets::new(&Limits::default())),
    }
}

/// One end of a stream, and what it said so far.
struct End {
    link: Link,
    roster: Roster,
    events: Vec<LinkEvent>,
}

impl End {
    fn new(link: Link) -> Self {
        Self { link, roster: Roster::default(), events: Vec::new() }
    }

    fn outbound(&mut self) -> &mut Outbound {
        match &mut self.link {
            Link::Outbound(outbound) => outbound,
            Link::Inbound(_) => panic!("the accepting end"),
        }
    }

    fn inbound(&mut self) -> &mut Inbound {
        match &mut self.link {
            Link::Inbound(inbound) => inbound,
            Link::Outbound(_) => panic!("the opening end"),
        }
    }

    fn open(&mut self, now: Moment, keys: KeyRing, role: LocalRole) {
        self.open_as(now, jobs(), keys, role);
    }

    fn open_as(&mut self, now: Moment, namespace: Namespace, keys: KeyRing, role: LocalRole) {
        self.roster.open(LocalNamespace { namespace: namespace.clone(), keys, role });
        self.link.refresh(now, &self.roster, &namespace);
        self.collect();
    }

    fn close(&mut self, now: Moment) {
        self.roster.close(&jobs());
        self.link.refresh(now, &self.roster, &jobs());
        self.collect();
    }

    fn receive(&mut self, now: Moment, bytes: &[u8]) -> Result<(), LinkError> {
        let result = self.link.receive(now, &self.roster, bytes);
        self.collect();
        result
    }

    fn tick(&mut self, now: Moment) -> Result<(), LinkError> {
        let result = self.link.tick(now, &self.roster);
        self.collect();
        result
    }

    fn transmit(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.link.transmit(&mut out);
        self.collect();
        out
    }

    fn collect(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.link.poll()));
    }

    fn take(&mut self) -> Vec<LinkEvent> {
        core::mem::take(&mut self.events)
    }

    /// The bodies that arrived, in order.
    fn bodies(&mut self) -> Vec<Body> {
        let body = |event| match event {
            LinkEvent::Received { body, .. } => Some(body),
            _ => None,
        };
        self.take().into_iter().filter_map(body).collect()
    }
}

/// A stream from node 1 to node 2.
struct Pair {
    now: Moment,
    opener: End,
    acceptor: End,
}

impl Pair {
    fn new(channel: Channel) -> Self {
        Self::with(channel, |_| {})
    }

    fn with(channel: Channel, limit: impl Fn(&mut Limits)) -> Self {
        let [mut ours, mut theirs] = [config(channel, 1, 2), config(channel, 2, 1)];
        limit(&mut ours.limits);
        limit(&mut theirs.limits);
        for config in [&mut ours, &mut theirs] {
            config.account = Account::new(Budgets::new(&config.limits));
        }
        let outbound = Outbound::new(ours, at(0), &Roster::default());
        let opener = End::new(Link::Outbound(outbound));
        let acceptor = End::new(Link::Inbound(Inbound::new(theirs, at(0))));
        Self { now: at(0), opener, acceptor }
    }

    /// Both ends are members with these keys and speak for cluster 1.
    fn members(channel: Channel, keys: KeyRing) -> Self {
        let mut pair = Self::new(channel);
        pair.acceptor.open(at(0), keys.clone(), member(2, [1]));
        pair.opener.open(at(0), keys, member(1, [1]));
        pair
    }

    fn send(&mut self, scope: Scope, body: Body) {
        let outgoing = Outgoing { namespace: jobs(), scope, incarnation: None, body };
        let End { link, roster, .. } = &mut self.opener;
        let Link::Outbound(outbound) = link else { panic!("the accepting end") };
        outbound.send(self.now, roster, outgoing).unwrap();
    }

    fn ask(&mut self, id: u64, scope: Scope, payload: &'static [u8]) {
        let question = Question {
            id: RequestId::new(id),
            namespace: jobs(),
            scope,
            payload: Bytes::from_static(payload),
            timeout: Duration::from_secs(1),
        };
        let End { link, roster, .. } = &mut self.opener;
        let Link::Outbound(outbound) = link else { panic!("the accepting end") };
        outbound.request(self.now, roster, question);
        self.opener.collect();
    }

    /// Carries bytes both ways until nobody has any.
    fn pump(&mut self) {
        loop {
            let forward = self.opener.transmit();
            self.acceptor.receive(self.now, &forward).unwrap();
            let back = self.acceptor.transmit();
            self.opener.receive(self.now, &back).unwrap();
            if forward.is_empty() && back.is_empty() {
                break;
            }
        }
    }

    /// Lets the opener do what is due, up to `now`.
    fn pass(&mut self, now: Moment) {
        while let Some(deadline) = self.opener.link.deadline()
            && deadline <= now
        {
            self.now = deadline;
            self.opener.tick(deadline).unwrap();
            self.pump();
        }
        self.now = now;
    }
}

fn source(scope: Scope) -> Source {
    Source {
        node: NodeId::new([1; 32]),
        incarnation: Some(Incarnation::new([1; 16])),
        namespace: jobs(),
        scope,
    }
}
