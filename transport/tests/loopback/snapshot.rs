//! Snapshots beside heartbeats: large replies take what is left of a path, and no more.

use std::time::Duration;

use bytes::Bytes;
use meshraft_transport::{
    Body, Channel, Event, KeyRing, Limits, NotReplied, ReplyError, RequestError, RequestId, Scope,
    identity::Identity,
};
use tokio::time::Instant;

use crate::{
    cable::Cable,
    heartbeat,
    net::{Node, cluster, introduce, jobs, within},
};

const REPLY_BYTES: usize = Limits::SNAPSHOT_REPLY_BYTES_MAX;
/// Together the replies are 8 MiB.
const REPLIES: u64 = 16;
/// So the replies take two seconds.
const BYTES_PER_SECOND: u32 = 4 << 20;
/// Twice as much as a heartbeat may wait, half of what it would wait behind all replies.
const LOAD: Duration = Duration::from_secs(2);
/// Nobody is taken for dead here.
const STALL: Duration = Duration::from_secs(30);

/// Two members, and a narrow path between them.
async fn narrow_pair() -> (Node, Node) {
    let patient = async || {
        let identity = Identity::ephemeral().unwrap();
        Node::with(identity, |config| config.stall = STALL).await
    };
    let (mut one, mut two) = (patient().await, patient().await);
    introduce(&mut [&mut one, &mut two]);
    one.open(KeyRing::open(), [cluster(1)]);
    two.open(KeyRing::open(), [cluster(1)]);
    let cable = Cable::narrow(&two.address, BYTES_PER_SECOND).await;
    let address = format!("/ip4/127.0.0.1/tcp/{}", cable.port).parse().unwrap();
    one.transport.add_address(None, address, meshraft_transport::AddressSource::Configured);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
    (one, two)
}

fn beat(from: &Node, to: &Node, round: u64) -> Instant {
    let (scope, body) = (Scope::Cluster(cluster(1)), Body::Consensus(heartbeat(round)));
    from.transport.send(to.id(), &jobs(), scope, None, Channel::Control, body);
    Instant::now()
}

fn is_beat(event: &Event) -> bool {
    matches!(event, Event::Received { channel: Channel::Control, .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_do_not_wait_behind_a_snapshot() {
    let (mut asker, mut server) = narrow_pair().await;
    // The handle for heartbeats is there before the load.
    beat(&server, &asker, 0);
    asker.until("the first heartbeat", |event| is_beat(&event).then_some(())).await;

    for number in 0..REPLIES {
        asker.ask(number, server.id(), Channel::Snapshot, Bytes::from_static(b"range"));
    }
    let mut tokens = Vec::new();
    server
        .until("every request", |event| {
            if let Event::Request { channel, token, .. } = event {
                assert_eq!(channel, Channel::Snapshot);
                tokens.push(token);
            }
            (tokens.len() as u64 == REPLIES).then_some(())
        })
        .await;
    let begun = Instant::now();
    for token in tokens {
        server.transport.reply(token, Bytes::from(vec![0x5a; REPLY_BYTES])).unwrap();
    }
    // One heartbeat after the other, the same way as the replies, until all of those are there.
    let (mut rounds, mut slowest, mut replies) = (1, Duration::ZERO, 0);
    let mut sent = beat(&server, &asker, rounds);
    within("every reply", async {
        while replies < REPLIES {
            let event = asker.events.recv().await.expect("the transport runs");
            if is_beat(&event) {
                slowest = slowest.max(sent.elapsed());
                rounds += 1;
                sent = beat(&server, &asker, rounds);
            } else if let Event::Reply { result, .. } = event {
                assert_eq!(result.map(|bytes| bytes.len()), Ok(REPLY_BYTES));
                replies += 1;
            }
        }
    })
    .await;
    assert!(begun.elapsed() > LOAD * 3 / 4, "there was no load: {:?}", begun.elapsed());
    assert!(rounds > 2, "{rounds} heartbeats");
    assert!(slowest < LOAD / 2, "a heartbeat waited {slowest:?} behind replies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_too_large_is_not_sent() {
    let (mut asker, mut server) = narrow_pair().await;
    let answer = async |server: &mut Node, bytes| {
        let token = server
            .until("a request", |event| match event {
                Event::Request { token, .. } => Some(token),
                _ => None,
            })
            .await;
        server.transport.reply(token, Bytes::from(vec![0; bytes]))
    };
    asker.ask(1, server.id(), Channel::Snapshot, Bytes::new());
    let replied = answer(&mut server, 2 * REPLY_BYTES).await;
    assert!(matches!(replied, Err(ReplyError::TooLarge { .. })), "{replied:?}");
    let told = Err(RequestError::NotReplied(NotReplied::TooLarge));
    assert_eq!(crate::reply(&mut asker).await, (RequestId::new(1), told));
    asker.ask(2, server.id(), Channel::Snapshot, Bytes::new());
    assert_eq!(answer(&mut server, REPLY_BYTES + 4_000).await, Ok(()));
    let (id, result) = crate::reply(&mut asker).await;
    assert_eq!((id.get(), result.map(|bytes| bytes.len())), (2, Ok(REPLY_BYTES + 4_000)));
}
