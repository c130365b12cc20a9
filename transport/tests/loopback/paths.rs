//! Connections: lost, doubled, dead, overloaded.

use std::time::Duration;

use bytes::Bytes;
use meshraft_transport::{
    AddressSource, Body, Channel, Event, KeyRing, NotSent, RequestError, RequestId, Scope,
    StartError, Transport, TransportConfig, identity::Identity,
};

use tokio::time::Instant;

use crate::{
    append,
    cable::Cable,
    heartbeat,
    net::{Node, cluster, introduce, jobs, key, within},
    pair, reply,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_peer_is_noticed_and_redialled() {
    let identity = Identity::ephemeral().unwrap();
    let mut one = Node::start().await;
    let mut two = Node::with(identity.clone(), |_| {}).await;
    introduce(&mut [&mut one, &mut two]);
    one.open(KeyRing::open(), [cluster(1)]);
    two.open(KeyRing::open(), [cluster(1)]);
    one.dial(&two);
    one.shared_with(two.id()).await;
    let payload = Bytes::from_static(b"never answered");
    one.ask(1, two.id(), Channel::Command, payload);
    two.until("the request", |event| matches!(event, Event::Request { .. }).then_some(())).await;

    let (address, two_id) = (two.address.clone(), two.id());
    two.transport.shutdown().await;
    assert_eq!(reply(&mut one).await, (RequestId::new(1), Err(RequestError::Lost)));
    one.disconnected_from(two_id).await;
    let payload = Bytes::new();
    one.ask(2, two_id, Channel::Command, payload);
    let unsent = Err(RequestError::NotSent(NotSent::NotConnected));
    assert_eq!(reply(&mut one).await, (RequestId::new(2), unsent));

    let mut listen = address;
    listen.pop();
    let two = Node::with(identity, |config| config.listen = vec![listen]).await;
    two.open(KeyRing::open(), [cluster(1)]);
    one.shared_with(two.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simultaneous_dial_ends_in_one_connection() {
    for _ in 0..3 {
        let (mut one, mut two) = (Node::start().await, Node::start().await);
        introduce(&mut [&mut one, &mut two]);
        one.open(KeyRing::open(), [cluster(1)]);
        two.open(KeyRing::open(), [cluster(1)]);
        one.dial(&two);
        two.dial(&one);
        one.shared_with(two.id()).await;
        two.shared_with(one.id()).await;
        let one_dials = one.id() < two.id();
        within("a single connection, dialled by the smaller node", async {
            loop {
                let single = |node: &Node, dials| {
                    let peers = node.transport.peers();
                    peers.iter().all(|peer| peer.connections == 1 && peer.dialled == dials)
                };
                let handles = |node: &Node| node.transport.peers()[0].handles.len();
                // Where only one dial got through before the other began, it is the one that stays.
                let settled = single(&one, one_dials) && single(&two, !one_dials)
                    || single(&one, !one_dials) && single(&two, one_dials);
                if settled && handles(&one) >= 2 && handles(&two) >= 2 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        let scope = Scope::Cluster(cluster(1));
        let body = Body::Consensus(heartbeat(1));
        one.transport.send(two.id(), &jobs(), scope, None, Channel::Control, body.clone());
        let received = two
            .until("a message", |event| match event {
                Event::Received { body, .. } => Some(body),
                Event::Disconnected { .. } => panic!("the peer was lost on the way"),
                _ => None,
            })
            .await;
        assert_eq!(received, body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_does_not_wait_behind_entries() {
    let (one, mut two) = pair(key(1)).await;
    let scope = Scope::Cluster(cluster(1));
    let to = two.id();
    let send = |channel, message| {
        one.transport.send(to, &jobs(), scope, None, channel, Body::Consensus(message));
    };
    // The handle for heartbeats is there before the load.
    send(Channel::Control, heartbeat(0));
    let is_control = |event| match event {
        Event::Received { channel: Channel::Control, .. } => Some(()),
        _ => None,
    };
    two.until("the first heartbeat", is_control).await;
    for _ in 0..8 {
        send(Channel::Entries, append(2 << 20));
    }
    send(Channel::Control, heartbeat(1));
    let mut entries = 0;
    let before = two
        .until("everything", |event| match event {
            Event::Received { channel: Channel::Control, .. } => Some(entries),
            Event::Received { channel: Channel::Entries, body, .. } => {
                assert_eq!(body, Body::Consensus(append(2 << 20)));
                entries += 1;
                None
            }
            _ => None,
        })
        .await;
    assert!(before < 8, "the heartbeat came after {before} of 8 loads");
    let mut entries = before;
    two.until("the rest of the load", |event| {
        entries += usize::from(matches!(event, Event::Received { channel: Channel::Entries, .. }));
        (entries == 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_listen_holds_the_sender_back() {
    let (identity, limited) = (Identity::ephemeral().unwrap(), 256 * 1024);
    let mut two = Node::with(identity, |config| {
        config.limits.message_bytes_max = limited;
        config.limits.assembly_bytes_max = limited;
        config.limits.inbox_bytes_max = limited;
    })
    .await;
    let mut one = Node::with(Identity::ephemeral().unwrap(), |config| {
        config.limits.message_bytes_max = limited;
        config.limits.queue_bytes_max = limited;
    })
    .await;
    introduce(&mut [&mut one, &mut two]);
    one.open(KeyRing::open(), [cluster(1)]);
    two.open(KeyRing::open(), [cluster(1)]);
    one.dial(&two);
    one.shared_with(two.id()).await;
    let scope = Scope::Cluster(cluster(1));
    let sent = 400;
    for _ in 0..sent {
        let body = Body::Consensus(append(100_000));
        one.transport.send(two.id(), &jobs(), scope, None, Channel::Entries, body);
        tokio::task::yield_now().await;
    }
    // Control goes past the load, and the path is not taken for dead.
    let body = Body::Consensus(heartbeat(7));
    one.transport.send(two.id(), &jobs(), scope, None, Channel::Control, body);
    let mut entries = 0;
    two.until("the heartbeat", |event| match event {
        Event::Received { channel: Channel::Control, .. } => Some(()),
        Event::Received { channel: Channel::Entries, .. } => {
            entries += 1;
            None
        }
        Event::Disconnected { .. } => panic!("held back is not dead"),
        _ => None,
    })
    .await;
    let mut rest = || {
        std::iter::from_fn(|| two.events.try_recv())
            .filter(|event| matches!(event, Event::Received { .. }))
            .count()
    };
    entries += rest();
    // Inbox, queue and the stream's windows hold far less than what was sent.
    assert!(entries < sent / 4, "{entries} of {sent} were held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_path_is_closed_and_redialled() {
    let stall = Duration::from_millis(600);
    let with_stall = async || {
        let identity = Identity::ephemeral().unwrap();
        Node::with(identity, |config| config.stall = stall).await
    };
    let (mut one, mut two) = (with_stall().await, with_stall().await);
    one.open(KeyRing::open(), [cluster(1)]);
    two.open(KeyRing::open(), [cluster(1)]);
    let cable = Cable::to(&two.address).await;
    let address = format!("/ip4/127.0.0.1/tcp/{}", cable.port).parse().unwrap();
    one.transport.add_address(None, address, AddressSource::Configured);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
    cable.plug(false);
    let cut = Instant::now();
    one.disconnected_from(two.id()).await;
    two.disconnected_from(one.id()).await;
    // Both ends pinged on their own; a busy machine gets some grace.
    assert!(cut.elapsed() < 5 * stall, "{:?}", cut.elapsed());
    cable.plug(true);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_can_not_be_is_refused_by_name() {
    let node = Node::start().await;
    let mut taken = node.address.clone();
    taken.pop();
    for (address, stall_ms) in [
        (taken.to_string(), 1_000),
        ("/ip4/127.0.0.1/udp/1".into(), 1_000),
        ("/ip4/127.0.0.1/tcp/0".into(), 1),
    ] {
        let mut config =
            TransportConfig::new(Identity::ephemeral().unwrap(), vec![address.parse().unwrap()]);
        config.stall = Duration::from_millis(stall_ms);
        let error = Transport::start(config).await.err();
        match error {
            Some(StartError::Listen { address: named, .. }) => {
                assert_eq!(named.to_string(), address)
            }
            Some(StartError::Addresses(errors)) => {
                assert_eq!(address, "/ip4/127.0.0.1/udp/1");
                let named: Vec<_> = errors.iter().map(|error| error.address.as_str()).collect();
                assert_eq!(named, [address.as_str()]);
            }
            Some(StartError::Config { field: "stall" }) => assert_eq!(stall_ms, 1),
            other => panic!("{other:?}"),
        }
    }
}
