//! What one round trip of a small message costs through two transports on the loopback interface.
//!
//! Prints the median and the 99th percentile of rounds on Control (fire and forget, both ways), on
//! Entries, and of a request and its reply on Command, in microseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, Index, KnownMembers, Member, Namespace, NodeId,
};
use meshraft_transport::{
    AddressSource, Body, Channel, Event, Events, KeyRing, LocalNamespace, LocalRole, Multiaddr,
    RequestId, Scope, Transport, TransportConfig, identity::Identity,
};
use tokio::time::Instant;

const ROUNDS: u64 = 40_000;
const WARM_UP: u64 = 2_000;
const BYTES: usize = 100;
const CLUSTER: ClusterId = ClusterId::new([1; 32]);

struct Node {
    transport: Transport,
    events: Events,
}

fn namespace() -> Namespace {
    Namespace::new("/bench").expect("a legal name")
}

async fn start() -> (Node, Multiaddr) {
    let identity = Identity::ephemeral().expect("randomness");
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    let (transport, mut events) =
        Transport::start(TransportConfig::new(identity, listen)).await.expect("it starts");
    open(&transport, BTreeSet::new());
    loop {
        if let Some(Event::Listening(address)) = events.recv().await {
            return (Node { transport, events }, address);
        }
    }
}

/// The incarnation of every node of this bench.
const INCARNATION: Incarnation = Incarnation::new([1; 16]);

/// Opens the namespace, and hears these members.
fn open(transport: &Transport, members: BTreeSet<Member>) {
    let known = KnownMembers { committed: Index::ZERO, members, cards: Vec::new() };
    let role = LocalRole::Member {
        incarnation: INCARNATION,
        clusters: BTreeMap::from([(CLUSTER, known)]),
        supports: ClusterVersion::BASELINE,
    };
    transport.open(LocalNamespace { namespace: namespace(), keys: KeyRing::open(), role });
}

impl Node {
    fn send(&self, to: NodeId, channel: Channel) {
        let (scope, body) = (Scope::Cluster(CLUSTER), Body::Bytes(Bytes::from(vec![7; BYTES])));
        self.transport.send(to, &namespace(), scope, None, channel, body);
    }

    async fn until(&mut self, mut pick: impl FnMut(&Event) -> bool) {
        while let Some(event) = self.events.recv().await {
            if pick(&event) {
                return;
            }
        }
    }
}

/// Sends back whatever comes, on the channel that it came on.
async fn echo(mut node: Node) {
    while let Some(event) = node.events.recv().await {
        match event {
            Event::Received { from, channel, body } => {
                let Node { transport, .. } = &node;
                transport.send(from.node, &from.namespace, from.scope, None, channel, body);
            }
            Event::Request { token, payload, .. } => {
                let _ = node.transport.reply(token, payload);
            }
            _ => {}
        }
    }
}

async fn measure(node: &mut Node, peer: NodeId, channel: Channel) {
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("bounds");
    let timeout = Duration::from_secs(10);
    for round in 0..ROUNDS + WARM_UP {
        let begun = Instant::now();
        if channel.asks() {
            let (id, scope) = (RequestId::new(round), Scope::Cluster(CLUSTER));
            let payload = Bytes::from(vec![7; BYTES]);
            node.transport.request(id, peer, &namespace(), scope, channel, payload, timeout);
            node.until(|event| matches!(event, Event::Reply { .. })).await;
        } else {
            node.send(peer, channel);
            node.until(|event| matches!(event, Event::Received { .. })).await;
        }
        if round >= WARM_UP {
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            times.saturating_record(nanos);
        }
    }
    let micros = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    println!("{channel}: p50 {:.1} us, p99 {:.1} us", micros(0.5), micros(0.99));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (mut one, _) = start().await;
    let (two, address) = start().await;
    let peer = two.transport.node();
    let both = [one.transport.node(), peer].map(|node| Member::new(node, INCARNATION));
    open(&one.transport, both.into());
    open(&two.transport, both.into());
    let address = address.try_into().expect("an address that can be dialled");
    one.transport.add_address(Some(peer), address, AddressSource::Configured);
    tokio::spawn(echo(two));
    one.until(|event| matches!(event, Event::Shared { .. })).await;
    for channel in [Channel::Control, Channel::Entries, Channel::Command] {
        measure(&mut one, peer, channel).await;
    }
}
