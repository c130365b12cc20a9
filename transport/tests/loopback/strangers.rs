//! Peers that are of no use or do harm: what each may take is bounded, and others don't notice.

use std::{net::SocketAddr, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt},
        transport::{DialOpts, PortUse},
        upgrade::Version,
    },
    identity::Keypair,
    noise, tcp, yamux,
};
use meshraft_transport::{Event, KeyRing, Limits, Refusal, identity::Identity};
use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::Instant};

use crate::net::{Node, key, within};

async fn limited(limit: impl FnOnce(&mut Limits)) -> Node {
    Node::with(Identity::ephemeral().unwrap(), |config| limit(&mut config.limits)).await
}

/// A connection to a node as any libp2p program makes it, without any of our code.
async fn foreign_connection(address: &Multiaddr) -> StreamMuxerBox {
    let keys = Keypair::generate_ed25519();
    let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keys).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let mut address = address.clone();
    address.pop();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dialled = transport.dial(address, options).unwrap();
    let (_, muxer) = within("a foreign connection", dialled).await.unwrap();
    StreamMuxerBox::new(muxer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_says_nothing_is_closed() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let node = limited(|limits| limits.hello_timeout = TIMEOUT).await;
    let mut connection = foreign_connection(&node.address).await;
    let opened = poll_fn(|cx| {
        // The connection's own work goes on while a stream is opened.
        let _ = connection.poll_unpin(cx);
        connection.poll_outbound_unpin(cx)
    });
    let mut stream = within("a stream", opened).await.unwrap();
    let background = tokio::spawn(async move {
        loop {
            if poll_fn(|cx| connection.poll_unpin(cx)).await.is_err() {
                break;
            }
        }
    });
    let begun = Instant::now();
    // What opens a stream of libp2p, each line with its length before it.
    stream.write_all(b"\x13/multistream/1.0.0\n\x14/meshraft/1/entries\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = Vec::new();
    // It ends, whether in order or not.
    let _ = within("the end of the stream", stream.read_to_end(&mut heard)).await;
    assert!(begun.elapsed() >= TIMEOUT, "{:?}", begun.elapsed());
    assert!(heard.ends_with(b"/meshraft/1/entries\n"), "it was accepted first: {heard:?}");
    assert_eq!(node.transport.peers().len(), 1, "the connection stays");
    background.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_from_one_place_leaves_room_for_others() {
    let mut node = limited(|limits| limits.handshakes_max = 8).await;
    node.open(KeyRing::open(), []);
    let port: u16 = node.address.to_string().split('/').nth(4).unwrap().parse().unwrap();
    let mut flood = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        flood.push(socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap());
    }
    // All but two of the flood are closed at once: a quarter of eight.
    let (closed, mut count) = (tokio::sync::mpsc::channel(64), 0);
    let (sender, mut receiver) = closed;
    for mut stream in flood {
        let sender = sender.clone();
        tokio::spawn(async move {
            while matches!(stream.read(&mut [0; 64]).await, Ok(bytes) if bytes > 0) {}
            let _ = sender.send(()).await;
        });
    }
    let begun = Instant::now();
    while count < 38 {
        within("the flood to be turned away", receiver.recv()).await.unwrap();
        count += 1;
    }
    assert!(receiver.try_recv().is_err(), "two of them are waited for");
    assert!(begun.elapsed() < Duration::from_secs(4), "not by the handshake's own time-out");
    let other = Node::start().await;
    other.open(KeyRing::open(), []);
    other.dial(&node);
    node.shared_with(other.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_share_nothing_make_room() {
    let mut node = limited(|limits| {
        limits.peers_max = 4;
        limits.idle_peer_timeout = Duration::from_millis(1_500);
    })
    .await;
    node.open(KeyRing::open(), []);
    // Each comes back as soon as it is let go.
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let stranger = Node::start().await;
        stranger.dial(&node);
        strangers.push(stranger);
    }
    for _ in 0..4 {
        node.until("a stranger", |event| matches!(event, Event::Connected { .. }).then_some(()))
            .await;
    }
    // The table is full; who is of use gets in all the same, soon.
    let other = Node::start().await;
    other.open(KeyRing::open(), []);
    other.dial(&node);
    node.shared_with(other.id()).await;
    // One that was given stays although it shares nothing.
    let given = Node::start().await;
    node.dial(&given);
    node.until("a peer that was given", |event| match event {
        Event::Connected { peer, .. } => (peer == given.id()).then_some(()),
        _ => None,
    })
    .await;
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(4) {
        let left = tokio::time::timeout(Duration::from_millis(100), node.events.recv()).await;
        if let Ok(Some(Event::Disconnected { peer })) = left {
            assert!(peer != given.id() && peer != other.id(), "who is of use was let go");
        }
    }
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_refusal_is_told_once_however_often_the_peer_comes_back() {
    let mut node = Node::start().await;
    node.open(key(1), []);
    let identity = Identity::ephemeral().unwrap();
    for round in 0..4 {
        let mut other = Node::with(identity.clone(), |_| {}).await;
        other.open(key(2), []);
        other.dial(&node);
        other
            .until("a refusal", |event| match event {
                Event::Refused { why, .. } => (why == Refusal::KeyMismatch).then_some(()),
                _ => None,
            })
            .await;
        let id = other.id();
        other.transport.shutdown().await;
        let mut told = 0;
        node.until("the peer to leave", |event| {
            told += usize::from(matches!(event, Event::Refused { .. }));
            matches!(event, Event::Disconnected { peer } if peer == id).then_some(())
        })
        .await;
        assert_eq!(told, usize::from(round == 0), "round {round}");
    }
}
