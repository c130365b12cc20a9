//! A peer that nobody invited, and what its words make real nodes do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use meshraft::{NamespaceHandle, Node, Timing};
use meshraft_consensus::{ClusterVersion, Incarnation, Namespace, NodeId};
use meshraft_discovery::peers::{Address, Exchange};
use meshraft_transport::{
    AddressSource, Body, Channel, Event, KeyRing, LocalNamespace, LocalRole, Multiaddr, Scope,
    Transport, TransportConfig, identity::Identity,
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What a bystander may be bothered with, all nodes together.
const CONNECTIONS_MAX: usize = 16;

/// Counts the connections that are made to it, and ends each at once.
async fn bystander() -> (Multiaddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            drop(socket);
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap(), count)
}

/// A stranger that knows the namespace's name; connected to all nodes.
async fn stranger(nodes: &[Node], name: &Namespace) -> (Transport, BTreeSet<NodeId>) {
    let config = TransportConfig::new(Identity::ephemeral().unwrap(), Vec::new());
    let (transport, mut events) = Transport::start(config).await.unwrap();
    transport.open(LocalNamespace {
        namespace: name.clone(),
        keys: KeyRing::open(),
        role: LocalRole::Member {
            incarnation: Incarnation::new([66; 16]),
            clusters: BTreeMap::new(),
            supports: ClusterVersion::BASELINE,
        },
    });
    for address in nodes.iter().flat_map(Node::addresses) {
        let address = address.try_into().unwrap();
        transport.add_address(None, address, AddressSource::Configured);
    }
    let mut peers = BTreeSet::new();
    let all = async {
        while peers.len() < nodes.len() {
            if let Some(Event::Shared { peer, .. }) = events.recv().await {
                peers.insert(peer);
            }
        }
    };
    timeout(PATIENCE, all).await.expect("the stranger shares the namespace with all");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    (transport, peers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_words_make_no_flood_on_a_bystander() {
    let folder = tempfile::tempdir().unwrap();
    let (mut nodes, mut members) = (Vec::<Node>::new(), Vec::<NamespaceHandle>::new());
    for name in ["a", "b", "c"] {
        let peers = nodes.last().map(Node::addresses).unwrap_or_default();
        let builder = Node::builder().data_dir(folder.path().join(name)).mdns(false);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").peers(peers).timing(Timing::Local);
        let node = builder.start().await.unwrap();
        members.push(node.namespace("/victim").expect(3).open().await.unwrap());
        nodes.push(node);
    }
    for member in &members {
        member.ready(PATIENCE).await.unwrap();
    }
    let name = Namespace::new("/victim").unwrap();
    let (transport, peers) = stranger(&nodes, &name).await;
    let (address, count) = bystander().await;
    let told = BTreeSet::from([Address::new(address.to_vec()).unwrap()]);
    let invented = (1..=64).map(|number| (NodeId::new([number; 32]), told.clone()));
    let nodes_told: BTreeMap<_, _> = invented.collect();
    // Of others, and of itself; to all, again and again.
    let begun = Instant::now();
    for version in 1.. {
        let exchange = Exchange { version, own: told.clone(), nodes: nodes_told.clone() };
        for peer in &peers {
            let body = Body::Bytes(exchange.encode());
            transport.send(*peer, &name, Scope::Free, None, Channel::Peers, body);
        }
        wait_out(Duration::from_millis(500)).await;
        if begun.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    let before = count.load(Ordering::Relaxed);
    assert!((1..=CONNECTIONS_MAX).contains(&before), "{before} connections");
    transport.shutdown().await;
    wait_out(Duration::from_secs(3)).await;
    assert_eq!(count.load(Ordering::Relaxed), before, "none after the stranger left");
    members[1].set("still", "here").await.unwrap();
}

/// Lets a time pass in which something must not happen, or is said once more.
async fn wait_out(time: Duration) {
    tokio::time::sleep(time).await;
}
