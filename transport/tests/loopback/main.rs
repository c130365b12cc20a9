//! Real nodes over real TCP on the loopback interface: what the pieces promise together.
//!
//! Every wait is for a condition, with a deadline that only a failure reaches.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod addresses;
mod cable;
mod dials;
mod members;
mod net;
mod paths;
mod snapshot;
mod strangers;

use bytes::Bytes;
use meshraft_consensus::{
    AppendRequest, Entry, EntryKind, Heartbeat, Incarnation, Index, Message, Position, Term,
};
use meshraft_transport::{
    Body, Channel, Event, KeyRing, NotSent, PeerRole, Refusal, RequestError, RequestId, Scope,
};
use net::{DEADLINE, Node, SUPPORTS, cluster, introduce, jobs, key};

fn heartbeat(round: u64) -> Message {
    Message::Heartbeat(Heartbeat { term: Term::new(1), commit: Position::ZERO, round })
}

fn append(bytes: usize) -> Message {
    let position = Position::new(Term::new(1), Index::new(1));
    let bytes = Bytes::from(vec![0x5a; bytes]);
    Message::AppendRequest(AppendRequest {
        term: Term::new(1),
        sequence: 1,
        previous: Position::ZERO,
        commit: Index::ZERO,
        entries: vec![Entry { position, kind: EntryKind::Command, bytes }],
    })
}

/// Two members of one cluster that share a namespace.
async fn pair(keys: KeyRing) -> (Node, Node) {
    let (mut one, mut two) = (Node::start().await, Node::start().await);
    introduce(&mut [&mut one, &mut two]);
    one.open(keys.clone(), [cluster(1)]);
    two.open(keys, [cluster(1)]);
    one.dial(&two);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
    (one, two)
}

async fn exchange_on_every_channel(keys: KeyRing) {
    let (one, mut two) = pair(keys).await;
    let scope = Scope::Cluster(cluster(1));
    let opaque = Body::Bytes(Bytes::from_static(b"opaque"));
    let messages = [
        (Channel::Control, scope, Body::Consensus(heartbeat(1))),
        (Channel::Entries, scope, Body::Consensus(append(100))),
        (Channel::Control, Scope::Free, opaque.clone()),
        (Channel::Peers, Scope::Free, opaque),
    ];
    for (channel, scope, body) in messages {
        let expected = Some(two.incarnation);
        one.transport.send(two.id(), &jobs(), scope, expected, channel, body.clone());
        let (from, on, received) = two
            .until("a message", |event| match event {
                Event::Received { from, channel, body } => Some((from, channel, body)),
                _ => None,
            })
            .await;
        assert_eq!((on, received), (channel, body));
        assert_eq!(from.node, one.id());
        assert_eq!(from.incarnation, Some(one.incarnation));
        assert_eq!((from.namespace, from.scope), (jobs(), scope));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cross_on_every_channel_in_the_open() {
    exchange_on_every_channel(KeyRing::open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cross_on_every_channel_under_a_key() {
    exchange_on_every_channel(key(7)).await;
}

/// Answers every request with its own bytes, reversed.
fn echo(mut node: Node) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(event) = node.events.recv().await {
            if let Event::Request { token, payload, .. } = event {
                let _ = node.transport.reply(token, payload.iter().rev().copied().collect());
            }
        }
    })
}

async fn reply(node: &mut Node) -> (RequestId, Result<Bytes, RequestError>) {
    node.until("a reply", |event| match event {
        Event::Reply { id, result } => Some((id, result)),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_members_and_clients_are_replied_to() {
    for keys in [KeyRing::open(), key(3)] {
        let (mut one, two) = pair(keys.clone()).await;
        let mut client = Node::start().await;
        client.open_as_client(keys);
        client.dial(&two);
        client.shared_with(two.id()).await;
        let id = two.id();
        let server = echo(two);
        let ask = |node: &Node, number, scope| {
            let payload = Bytes::from(vec![number; 3_000]);
            let request = RequestId::new(number.into());
            let channel = Channel::Command;
            node.transport.request(request, id, &jobs(), scope, channel, payload, DEADLINE);
        };
        ask(&one, 1, Scope::Cluster(cluster(1)));
        ask(&client, 2, Scope::Free);
        for (node, number) in [(&mut one, 1), (&mut client, 2)] {
            let (request, result) = reply(node).await;
            assert_eq!(request, RequestId::new(number.into()));
            assert_eq!(result, Ok(Bytes::from(vec![number; 3_000])));
        }
        one.ask(4, id, Channel::Snapshot, Bytes::from_static(b"range"));
        let reversed = Ok(Bytes::from_static(b"egnar"));
        assert_eq!(reply(&mut one).await, (RequestId::new(4), reversed));
        one.ask(5, id, Channel::Entries, Bytes::new());
        let channel = Channel::Entries;
        let unsent = Err(RequestError::NotSent(NotSent::NoRequests { channel }));
        assert_eq!(reply(&mut one).await, (RequestId::new(5), unsent));
        // A client speaks for no cluster.
        ask(&client, 3, Scope::Cluster(cluster(1)));
        let refused = Err(RequestError::Refused(Refusal::NotOurs));
        assert_eq!(reply(&mut client).await, (RequestId::new(3), refused));
        server.abort();
    }
}

async fn refusal(node: &mut Node) -> Refusal {
    node.until("a refusal", |event| match event {
        Event::Refused { why, .. } => Some(why),
        Event::Shared { .. } => panic!("shared without the key"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_or_missing_key_is_reported_as_that_on_both_sides() {
    for (left, right) in [(key(1), key(2)), (key(1), KeyRing::open()), (KeyRing::open(), key(1))] {
        let (mut one, mut two) = (Node::start().await, Node::start().await);
        one.open(left.clone(), []);
        two.open(right.clone(), []);
        one.dial(&two);
        assert_eq!(refusal(&mut one).await, Refusal::KeyMismatch);
        assert_eq!(refusal(&mut two).await, Refusal::KeyMismatch);

        let mut client = Node::start().await;
        client.open_as_client(left);
        client.dial(&two);
        assert_eq!(refusal(&mut client).await, Refusal::KeyMismatch);
        assert_eq!(refusal(&mut two).await, Refusal::KeyMismatch);
        let payload = Bytes::from_static(b"?");
        client.transport.request(
            RequestId::new(1),
            two.id(),
            &jobs(),
            Scope::Free,
            Channel::Command,
            payload,
            DEADLINE,
        );
        let refused = Err(RequestError::Refused(Refusal::KeyMismatch));
        assert_eq!(reply(&mut client).await, (RequestId::new(1), refused));

        // The right key, set while running, cures it.
        one.open(right, []);
        one.shared_with(two.id()).await;
        two.shared_with(one.id()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mismatch_tells_the_fingerprints_of_the_keys_that_are_held_here() {
    let (mut one, mut two) = (Node::start().await, Node::start().await);
    one.open(key(1), []);
    two.open(key(2), []);
    one.dial(&two);
    for (node, own) in [(&mut one, key(1)), (&mut two, key(2))] {
        let keys = node
            .until("a refusal", |event| match event {
                Event::Refused { why: Refusal::KeyMismatch, keys, .. } => Some(keys),
                _ => None,
            })
            .await;
        assert_eq!(keys, own.ids().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_the_peer_opens_later_is_shared_then() {
    let (mut one, mut two) = (Node::start().await, Node::start().await);
    one.open(KeyRing::open(), []);
    one.dial(&two);
    assert_eq!(refusal(&mut one).await, Refusal::UnknownNamespace);
    two.open(KeyRing::open(), []);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;

    two.transport.close(&jobs());
    one.until("the closing", |event| matches!(event, Event::Unshared { .. }).then_some(())).await;
    two.open_as_client(KeyRing::open());
    // An answer that was on its way when the peer closed may share it once more before that.
    one.until("a client", |event| match event {
        Event::Shared { facts, .. } => (facts.role == PeerRole::Client).then_some(()),
        _ => None,
    })
    .await;
    let status = one.transport.peers().into_iter().find(|peer| peer.node == two.id()).unwrap();
    let shared = status.namespaces.into_iter().find_map(|known| known.facts);
    assert_eq!(shared.map(|facts| facts.role), Some(PeerRole::Client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_facts_bind_handles_anew() {
    let (one, mut two) = pair(KeyRing::open()).await;
    // A message for a cluster that the peer does not speak for yet waits for it, for a while.
    one.open(KeyRing::open(), [cluster(1), cluster(2)]);
    let body = Body::Consensus(heartbeat(9));
    let scope = Scope::Cluster(cluster(2));
    one.transport.send(two.id(), &jobs(), scope, None, Channel::Control, body.clone());
    two.until("the news of another cluster", |event| match event {
        Event::Shared { facts, .. } => {
            assert_eq!(facts.supports, Some(SUPPORTS));
            facts.clusters.contains(&cluster(2)).then_some(())
        }
        _ => None,
    })
    .await;
    two.open(KeyRing::open(), [cluster(2)]);
    let (from, received) = two
        .until("the message", |event| match event {
            Event::Received { from, body, .. } => Some((from, body)),
            _ => None,
        })
        .await;
    assert_eq!((from.scope, received), (scope, body));

    // Another life of the same node is told apart.
    let old = Some(Incarnation::new([0xee; 16]));
    let body = Body::Consensus(heartbeat(10));
    one.transport.send(two.id(), &jobs(), scope, old, Channel::Control, body);
    let mut one = one;
    let why = one
        .until("a refusal", |event| match event {
            Event::Refused { why: why @ Refusal::WrongIncarnation { .. }, .. } => Some(why),
            _ => None,
        })
        .await;
    let expected = Refusal::WrongIncarnation {
        expected: Incarnation::new([0xee; 16]),
        found: two.incarnation,
    };
    assert_eq!(why, expected);
}
