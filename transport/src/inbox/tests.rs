//! Floods beside honest traffic: who waits for what, and how much is held.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{ClusterId, Namespace, NodeId};
use proptest::prelude::*;

use super::*;
use crate::{
    config::Share,
    error::Refusal,
    types::{Body, Channel, PeerFacts, PeerRole, RequestId, Source},
};

fn reply(number: u64) -> Event {
    Event::Reply { id: RequestId::new(number), result: Ok(Bytes::new()) }
}

fn peer(number: u16) -> NodeId {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::new(bytes)
}

fn name(number: u8) -> Namespace {
    Namespace::new(&format!("/{number}")).unwrap()
}

const MEMBER: Scope = Scope::Cluster(ClusterId::new([1; 32]));

/// A message; its first bytes are its number.
fn message(from: u16, namespace: u8, scope: Scope, number: u64) -> Event {
    let from = Source { node: peer(from), incarnation: None, namespace: name(namespace), scope };
    let body = Body::Bytes(Bytes::copy_from_slice(&number.to_be_bytes()));
    Event::Received { from, channel: Channel::Control, body }
}

fn shared(from: u16, namespace: u8) -> Event {
    let facts = PeerFacts {
        role: PeerRole::Client,
        cluster: None,
        clusters: [].into(),
        incarnation: None,
        supports: None,
    };
    Event::Shared { peer: peer(from), namespace: name(namespace), facts }
}

fn unshared(from: u16, namespace: u8) -> Event {
    Event::Unshared { peer: peer(from), namespace: name(namespace) }
}

fn connected(from: u16) -> Event {
    let address = libp2p::Multiaddr::empty();
    Event::Connected { peer: peer(from), address, dialled: false }
}

fn disconnected(from: u16) -> Event {
    Event::Disconnected { peer: peer(from) }
}

fn number(event: Option<Event>) -> Option<u64> {
    match event? {
        Event::Reply { id, .. } => Some(id.get()),
        Event::Received { body: Body::Bytes(bytes), .. } => {
            Some(u64::from_be_bytes(bytes[..8].try_into().unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

fn inbox(limit: impl FnOnce(&mut Limits)) -> (Arc<Inbox>, Events, Room) {
    let mut limits = Limits::default();
    limit(&mut limits);
    let inbox = Inbox::new(&limits);
    (Arc::clone(&inbox), Events::new(inbox), Room::new(&limits))
}

fn all(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

/// How many events are taken until this one.
fn takes_until(events: &mut Events, wanted: &Event) -> usize {
    let mut taken = std::iter::from_fn(|| events.try_recv());
    1 + taken.position(|event| event == *wanted).expect("the event waits")
}

#[tokio::test]
async fn replies_notices_control_and_the_rest_take_turns() {
    let (inbox, mut events, room) = inbox(|_| {});
    inbox.bulk(&room, message(1, 1, MEMBER, 1), 10).await;
    inbox.control(message(1, 1, MEMBER, 2), 10);
    inbox.notify(reply(3));
    let order = [events.try_recv(), events.recv().await, events.recv().await].map(number);
    assert_eq!(order, [Some(3), Some(2), Some(1)]);
    assert_eq!(events.try_recv(), None);

    for id in 0..100 {
        inbox.notify(reply(id));
        inbox.notify(shared(id as u16, 1));
        inbox.control(message(900, 1, MEMBER, id), 10);
        inbox.bulk(&room, message(900, 1, MEMBER, id), 10).await;
    }
    let cycle: usize = LANES.iter().sum();
    let first: Vec<_> = all(&mut events).into_iter().take(2 * cycle).collect();
    let count = |pick: fn(&Event) -> bool| first.iter().filter(|event| pick(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Reply { .. })), 2 * LANES[0]);
    assert_eq!(count(|event| matches!(event, Event::Shared { .. })), 2 * LANES[1]);
    assert_eq!(count(|event| event.source().is_some()), 2 * (LANES[2] + LANES[3]));
}

#[test]
fn a_flood_in_one_namespace_leaves_the_heartbeats_of_another() {
    let (inbox, mut events, _) = inbox(|_| {});
    let heartbeat = message(1, 1, MEMBER, 7);
    inbox.control(heartbeat.clone(), 50);
    (0..50_000).for_each(|id| inbox.control(message(66, 2, Scope::Free, id), 4));
    (0..50_000).for_each(|id| inbox.control(message(66, 1, Scope::Free, id), 4));
    assert!(inbox.dropped() > 90_000);
    assert!(takes_until(&mut events, &heartbeat) <= 3);
}

#[test]
fn a_flood_of_replies_and_notices_leaves_the_heartbeats_their_turns() {
    let (inbox, mut events, _) = inbox(|_| {});
    for id in 0..3_000 {
        inbox.notify(reply(id.into()));
        inbox.notify(shared(id, 1));
        inbox.notify(unshared(id, 1));
    }
    let heartbeat = message(9_999, 1, MEMBER, 7);
    inbox.control(heartbeat.clone(), 50);
    assert!(takes_until(&mut events, &heartbeat) <= LANES[0] + LANES[1] + 1);
}

#[test]
fn the_oldest_of_the_same_peer_goes_first() {
    let (inbox, mut events, _) = inbox(|limits| limits.control_bytes_max = 32 * 1024);
    // One peer may have 1 KiB in a namespace: two messages of 512 bytes, their cost included.
    for id in 0..5 {
        inbox.control(message(1, 1, MEMBER, id), 256);
        inbox.control(message(2, 1, MEMBER, 10 + id), 256);
        inbox.control(message(1, 2, MEMBER, 20 + id), 256);
    }
    let mut kept: Vec<_> = all(&mut events).into_iter().map(|event| number(Some(event))).collect();
    kept.sort_unstable();
    assert_eq!(kept, [3, 4, 13, 14, 23, 24].map(Some));
    assert_eq!(inbox.dropped(), 9);
}

#[tokio::test]
async fn bulk_waits_for_room_and_an_end_wakes_everyone() {
    let (inbox, mut events, room) = inbox(|limits| limits.inbox_bytes_max = 64 * 1024);
    inbox.bulk(&room, message(1, 1, MEMBER, 1), 64 * 1024).await;
    let second = inbox.bulk(&room, message(1, 1, MEMBER, 2), 1);
    tokio::pin!(second);
    let full = tokio::time::timeout(Duration::ZERO, &mut second).await;
    assert!(full.is_err(), "there is no room yet");
    assert_eq!(number(events.recv().await), Some(1));
    second.await;
    inbox.close();
    assert_eq!(number(events.recv().await), Some(2), "what waits is still handed out");
    assert_eq!(events.recv().await, None);
    inbox.bulk(&room, message(1, 1, MEMBER, 3), 1 << 30).await;
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn guests_and_single_peers_never_use_up_the_room_of_others() {
    let small = Share { peer_bytes_max: 64 * 1024, bytes_max: 128 * 1024 };
    let (inbox, mut events, _) = inbox(|limits| limits.guest_inbox = small);
    let limits = inbox.limits.clone();
    let rooms: Vec<Room> = (0..8).map(|_| Room::new(&limits)).collect();
    let mut full = 0;
    for (from, room) in rooms.iter().enumerate() {
        let flood = inbox.bulk(room, message(from as u16, 1, Scope::Free, 0), 60 * 1024);
        full += usize::from(tokio::time::timeout(Duration::ZERO, flood).await.is_err());
    }
    assert_eq!(full, 6, "all guests together have room for two");
    // One member uses up what it may; another has room all the same, and its turn.
    for _ in 0..2 {
        let large = limits.inbox_bytes_max / MEMBER_PART;
        let flood = inbox.bulk(&rooms[0], message(50, 1, MEMBER, 0), large);
        let _ = tokio::time::timeout(Duration::ZERO, flood).await;
    }
    let other = message(51, 1, MEMBER, 1);
    tokio::time::timeout(Duration::ZERO, inbox.bulk(&rooms[1], other.clone(), 100)).await.unwrap();
    assert_eq!(takes_until(&mut events, &other), 2, "after one guest, before a large message");
}

#[test]
fn namespaces_share_by_bytes() {
    let mut lane = Lane::new(BULK_QUANTUM);
    (0..100).for_each(|id| lane.push(message(1, 1, MEMBER, id), 60_000, None));
    (0..1_000).for_each(|id| lane.push(message(2, 2, MEMBER, id), 5_744, None));
    let mut bytes = BTreeMap::new();
    for _ in 0..500 {
        let event = lane.pop().unwrap();
        let source = event.source().unwrap();
        let cost = if source.namespace == name(1) { 60_256 } else { 6_000 };
        *bytes.entry(source.namespace.clone()).or_insert(0) += cost;
    }
    let [one, two] = [1, 2].map(|id| bytes[&name(id)]);
    assert!(i64::abs(one - two) <= 2 * BULK_QUANTUM as i64 + 60_256, "{one} {two}");
}

#[test]
fn notices_are_joined_and_end_up_right() {
    let (inbox, mut events, _) = inbox(|_| {});
    for _ in 0..1_000 {
        inbox.notify(connected(1));
        inbox.notify(shared(1, 1));
        inbox.notify(unshared(1, 1));
        inbox.notify(shared(1, 1));
        inbox.notify(disconnected(1));
    }
    assert!(inbox.lock().notices.len() <= 5);
    let told = all(&mut events);
    assert_eq!(told.first(), Some(&connected(1)));
    assert_eq!(told.last(), Some(&disconnected(1)));

    // A message never overtakes the notices of its peer.
    inbox.control(message(1, 1, MEMBER, 1), 10);
    (0..100).for_each(|other| inbox.notify(shared(other + 100, 1)));
    inbox.notify(connected(1));
    inbox.notify(shared(1, 1));
    let told = all(&mut events);
    let of_one = |event: &&Event| event.subject() == Some(peer(1)) || event.source().is_some();
    let of_one: Vec<_> = told.iter().filter(of_one).cloned().collect();
    assert_eq!(of_one, [connected(1), shared(1, 1), message(1, 1, MEMBER, 1)]);
}

#[test]
fn a_lost_connection_is_told_after_the_replies_that_it_ends() {
    // Wherever the turns of the lanes stand.
    for taken in 0..LANES.iter().sum() {
        let (inbox, mut events, _) = inbox(|_| {});
        (0..100).for_each(|id| inbox.control(message(1, 1, MEMBER, id), 10));
        (0..100).for_each(|id| inbox.notify(reply(id)));
        (0..taken).for_each(|_| drop(events.try_recv()));
        inbox.notify(reply(1_000));
        inbox.notify(disconnected(1));
        inbox.notify(reply(1_001));
        let told = all(&mut events);
        let at = |wanted: &Event| told.iter().position(|event| event == wanted);
        let [ended, lost] = [reply(1_000), disconnected(1)].map(|event| at(&event).unwrap());
        assert!(ended < lost, "{taken}: {ended} {lost}");
        let last = at(&message(1, 1, MEMBER, 99)).unwrap();
        assert!(lost < last, "the notices of a peer before its messages");
    }
}

#[test]
fn strangers_that_come_and_go_leave_bounded_traces() {
    let (inbox, _events, _) = inbox(|_| {});
    for stranger in 0..20_000 {
        inbox.notify(connected(stranger));
        inbox.notify(Event::Refused {
            peer: peer(stranger),
            namespace: name(1),
            why: Refusal::KeyMismatch,
            keys: Vec::new(),
        });
        inbox.notify(disconnected(stranger));
    }
    assert!(inbox.lock().notices.len() <= 3 * 4_097);
}

#[derive(Clone, Debug)]
enum Act {
    Flood { from: u16, namespace: u8, member: bool, bytes: usize, count: u64 },
    Notices { from: u16, namespace: u8, count: usize },
    Replies(u64),
    Heartbeat { namespace: u8 },
    Take(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (20..24u16, 0..4u8, any::<bool>(), 0..200_000usize, 1..60u64).prop_map(
            |(from, namespace, member, bytes, count)|
                Act::Flood { from, namespace, member, bytes, count }),
        2 => (20..24u16, 0..4u8, 1..50usize)
            .prop_map(|(from, namespace, count)| Act::Notices { from, namespace, count }),
        1 => (1..200u64).prop_map(Act::Replies),
        3 => (0..4u8).prop_map(|namespace| Act::Heartbeat { namespace }),
        2 => (1..40usize).prop_map(Act::Take),
    ]
}

proptest! {
    #[test]
    fn heartbeats_wait_for_few_takes_and_little_is_held(
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let (inbox, mut events, _) = inbox(|limits| {
            limits.control_bytes_max = 8 << 20;
            limits.guest_control_bytes_max = 8 << 20;
        });
        // Heartbeats that wait, with the takes since they came. Eight groups, of which the honest
        // one has five peers at most: each lane's turns, times that many.
        let cycle: usize = LANES.iter().sum();
        let bound = 8 * 5 * cycle.div_ceil(LANES[2]) + cycle;
        let mut waiting: BTreeMap<u64, usize> = BTreeMap::new();
        let mut beats = 1_000_000;
        for act in acts {
            match act {
                Act::Flood { from, namespace, member, bytes, count } => {
                    let scope = if member { MEMBER } else { Scope::Free };
                    for id in 0..count {
                        inbox.control(message(from, namespace, scope, id), bytes);
                    }
                }
                Act::Notices { from, namespace, count } => for _ in 0..count {
                    inbox.notify(shared(from, namespace));
                    inbox.notify(unshared(from, namespace));
                },
                Act::Replies(count) => (0..count).for_each(|id| inbox.notify(reply(id))),
                // One honest heartbeat of each namespace waits at one time.
                Act::Heartbeat { namespace } => {
                    let id = 1_000_000 + u64::from(namespace);
                    if let Entry::Vacant(place) = waiting.entry(id) {
                        place.insert(0);
                        inbox.control(message(1, namespace, MEMBER, id), 50);
                        beats += 1;
                    }
                }
                Act::Take(count) => for _ in 0..count {
                    let Some(event) = events.try_recv() else { break };
                    waiting.values_mut().for_each(|takes| *takes += 1);
                    if event.source().is_some() {
                        waiting.remove(&number(Some(event)).unwrap());
                    }
                    prop_assert!(waiting.values().all(|takes| *takes <= bound), "{waiting:?}");
                },
            }
            let held = inbox.lock().control.bytes();
            prop_assert!(held.iter().all(|bytes| *bytes <= 8 << 20), "{held:?}");
            // Four peers and four namespaces: the newest and the one before of each.
            prop_assert!(inbox.lock().notices.len() <= 4 * 4 * 2);
        }
        for event in all(&mut events) {
            if event.source().is_some() {
                waiting.remove(&number(Some(event)).unwrap());
            }
        }
        prop_assert!(waiting.is_empty(), "no honest heartbeat is dropped, of {beats}");
    }
}
