//! What peers say of addresses, and what this node makes of it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use meshraft_consensus::NodeId;
use meshraft_transport::{AddressSource, Event, KeyRing, Multiaddr, identity::Identity};
use tokio::{net::TcpListener, time::Instant};

use crate::net::{Node, jobs};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_peers_at_a_bystanders_address_are_dialled_once() {
    let (mut one, two) = (Node::start().await, Node::start().await);
    one.open(KeyRing::open(), []);
    two.open(KeyRing::open(), []);
    one.dial(&two);
    one.shared_with(two.id()).await;
    let (address, count) = bystander().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        for number in 1..=64 {
            let invented = NodeId::new([number; 32]);
            one.transport.hear(two.id(), invented, vec![address.clone()]);
        }
        wait_out(Duration::from_millis(200)).await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_peers_own_address_is_proven_without_a_second_connection() {
    let (mut one, mut two) = (Node::start().await, Node::start().await);
    one.open(KeyRing::open(), []);
    two.open(KeyRing::open(), []);
    two.dial(&one);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
    let mut home = two.address.clone();
    home.pop();
    one.transport.hear(two.id(), two.id(), vec![home.clone()]);
    let proven = one
        .until("a proof", |event| match event {
            Event::Proven { peer, addresses } if peer == two.id() => Some(addresses),
            Event::Disconnected { .. } => panic!("the peer was lost on the way"),
            _ => None,
        })
        .await;
    assert_eq!(proven, [home.clone()]);
    let entries = one.transport.addresses().await;
    let entry = entries.iter().find(|entry| entry.address == home).unwrap();
    assert_eq!((entry.peer, entry.source), (Some(two.id()), AddressSource::FirstHand));
    assert!(entry.connected && !entry.member);
    one.transport.members(&jobs(), BTreeSet::from([two.id()]));
    let entries = one.transport.addresses().await;
    assert!(entries.iter().any(|entry| entry.address == home && entry.member));
    assert_eq!(one.transport.peers()[0].connections, 1);
    while let Some(event) = two.events.try_recv() {
        assert!(!matches!(event, Event::Disconnected { .. }), "the probe cost a connection");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_identity_does_not_take_the_place_of_the_first() {
    let identity = Identity::ephemeral().unwrap();
    let mut node = Node::start().await;
    node.open(KeyRing::open(), []);
    let first = Node::with(identity.clone(), |_| {}).await;
    first.open(KeyRing::open(), []);
    first.dial(&node);
    node.shared_with(first.id()).await;
    // Later than any simultaneous dial.
    wait_out(Duration::from_secs(6)).await;
    let copy = Node::with(identity, |_| {}).await;
    copy.open(KeyRing::open(), []);
    copy.dial(&node);
    let begun = Instant::now();
    let mut two_at_once = false;
    while begun.elapsed() < Duration::from_secs(10) {
        let peers = node.transport.peers();
        two_at_once |= peers.iter().any(|peer| peer.connections > 1);
        assert!(first.transport.peers().len() == 1, "the first keeps its connection");
        while let Some(event) = node.events.try_recv() {
            assert!(!matches!(event, Event::Disconnected { .. }), "the peer flaps");
        }
        wait_out(Duration::from_millis(50)).await;
    }
    assert!(two_at_once, "the copy was never connected");
}

/// Lets a time pass in which something must not happen, or is said once more.
async fn wait_out(time: Duration) {
    tokio::time::sleep(time).await;
}
