//! Fragments, turns, budgets, requests and liveness.

use proptest::prelude::*;

use super::*;
use crate::error::{NotSent, ReplyError, RequestError};

fn name(index: u8) -> Namespace {
    Namespace::new(&format!("/{index}")).unwrap()
}

/// Messages without a cluster as large as those in one.
fn large_guests(limits: &mut Limits) {
    limits.guest_message_bytes_max = limits.message_bytes_max;
    limits.guest_unfinished = limits.member_unfinished;
}

/// Two members that share as many namespaces, all handshakes done.
fn crowd(channel: Channel, count: u8, limit: impl Fn(&mut Limits)) -> Pair {
    let mut pair = Pair::with(channel, limit);
    for index in 0..count {
        pair.acceptor.open_as(at(0), name(index), KeyRing::open(), member(2, []));
        pair.opener.open_as(at(0), name(index), KeyRing::open(), member(1, []));
        send_in(&mut pair, index, opaque(index, 0)).unwrap();
    }
    pair.pump();
    assert_eq!(pair.acceptor.bodies().len(), usize::from(count));
    pair
}

fn send_in(pair: &mut Pair, index: u8, body: Body) -> Result<(), RequestError> {
    let outgoing = Outgoing { namespace: name(index), scope: Scope::Free, incarnation: None, body };
    let End { link, roster, .. } = &mut pair.opener;
    let Link::Outbound(outbound) = link else { panic!() };
    outbound.send(at(0), roster, outgoing)
}

#[test]
fn many_namespaces_share_one_write() {
    let mut pair = crowd(Channel::Control, 100, |_| {});
    for index in 0..100 {
        send_in(&mut pair, index, heartbeat_like(index)).unwrap();
    }
    let write = pair.opener.transmit();
    assert!(pair.opener.transmit().is_empty(), "one write has it all");
    // One frame: a length, and per message 11 bytes of header, 2 of codec, 20 of payload.
    assert_eq!(write.len(), 4 + 100 * (11 + 2 + 20));
    pair.acceptor.receive(at(0), &write).unwrap();
    assert_eq!(pair.acceptor.bodies().len(), 100);
}

fn heartbeat_like(index: u8) -> Body {
    opaque(index, 20)
}

#[test]
fn a_busy_namespace_does_not_delay_another_by_more_than_its_turn() {
    let mut pair = crowd(Channel::Entries, 3, large_guests);
    for index in [0, 1] {
        send_in(&mut pair, index, opaque(index, 8_000_000)).unwrap();
    }
    let write = pair.opener.transmit();
    pair.acceptor.receive(at(0), &write).unwrap();
    send_in(&mut pair, 2, opaque(2, 100)).unwrap();
    let mut before = 0;
    loop {
        let write = pair.opener.transmit();
        assert!(!write.is_empty(), "it was never sent");
        before += write.len();
        pair.acceptor.receive(at(0), &write).unwrap();
        let arrived = pair.acceptor.bodies();
        if arrived.contains(&opaque(2, 100)) {
            break;
        }
        assert!(before < 400_000, "{before} bytes went first");
    }
    pair.pump();
    let arrived = pair.acceptor.bodies();
    assert_eq!(arrived.len(), 2, "the big ones arrive too");
}

#[test]
fn large_messages_cross_whole_sealed_or_not() {
    for keys in [KeyRing::open(), key(1)] {
        let mut pair = Pair::with(Channel::Entries, large_guests);
        pair.acceptor.open(at(0), keys.clone(), member(2, [1]));
        pair.opener.open(at(0), keys, member(1, [1]));
        for length in [0, 1, 32_000, 32_741, 32_742, 65_536, 2 << 20] {
            pair.send(Scope::Free, opaque(7, length));
            pair.pump();
            assert_eq!(pair.acceptor.bodies(), [opaque(7, length)], "{length}");
        }
    }
}

/// Room for three and a half large messages: shared by nine, more than a fragment for each.
const ROOM: usize = 350_000;
const LARGE: usize = 99_000;

#[test]
fn who_holds_most_gives_way_and_the_stream_goes_on() {
    let mut pair = crowd(Channel::Entries, 9, |limits| {
        limits.message_bytes_max = 100_000;
        limits.assembly_bytes_max = ROOM;
    });
    // Turns are 32 KiB each, so all of them are under way at once. The small one is 40 KB.
    let small = opaque(8, 40_000);
    send_in(&mut pair, 8, small.clone()).unwrap();
    let mut missing: BTreeSet<u8> = (0..8).collect();
    let (mut rounds, mut small_came) = (0, false);
    while !missing.is_empty() {
        rounds += 1;
        assert!(rounds < 10, "never arrived: {missing:?}");
        for index in &missing {
            // What was lost is sent again, as replication does.
            send_in(&mut pair, *index, opaque(*index, LARGE)).unwrap();
        }
        loop {
            let forward = pair.opener.transmit();
            pair.acceptor.receive(pair.now, &forward).expect("the stream goes on");
            assert!(pair.acceptor.inbound().held() <= ROOM);
            for body in pair.acceptor.bodies() {
                small_came |= body == small;
                missing.retain(|index| body != opaque(*index, LARGE));
            }
            let back = pair.acceptor.transmit();
            pair.opener.receive(pair.now, &back).unwrap();
            if forward.is_empty() && back.is_empty() {
                break;
            }
        }
        assert!(small_came, "a small message waits for no large ones");
        // Those who gave way say hello again after a pause.
        let later = pair.now.plus(Duration::from_secs(2));
        pair.pass(later);
        for body in pair.acceptor.bodies() {
            missing.retain(|index| body != opaque(*index, LARGE));
        }
    }
    assert!(rounds > 1, "there was room for all");
    assert_eq!(pair.acceptor.inbound().held(), 0);
}

#[test]
fn large_replies_give_way_to_small_ones() {
    let mut pair = Pair::with(Channel::Command, |limits| {
        limits.message_bytes_max = 100_000;
        limits.assembly_bytes_max = ROOM;
    });
    for index in 0..9 {
        pair.acceptor.open_as(at(0), name(index), KeyRing::open(), member(2, []));
        pair.opener.open_as(at(0), name(index), KeyRing::open(), member(1, []));
        let question = Question {
            id: RequestId::new(index.into()),
            namespace: name(index),
            scope: Scope::Free,
            payload: Bytes::new(),
            timeout: Duration::from_secs(1),
        };
        let End { link: Link::Outbound(outbound), roster, .. } = &mut pair.opener else { panic!() };
        outbound.request(at(0), roster, question);
    }
    pair.pump();
    for event in pair.acceptor.take() {
        if let LinkEvent::Request { from, handle, request, .. } = event {
            let bytes = if from.namespace == name(8) { 40_000 } else { LARGE };
            let reply = Bytes::from(vec![7; bytes]);
            assert_eq!(pair.acceptor.inbound().reply(handle, request, reply), Ok(()));
        }
    }
    pair.pump();
    let ended = replies(&mut pair.opener);
    assert_eq!(ended.len(), 9, "each request ends");
    let bytes = |(id, result): &(u64, Result<Bytes, _>)| {
        (*id == 8).then(|| result.as_ref().map(Bytes::len).ok())
    };
    assert_eq!(ended.iter().find_map(bytes), Some(Some(40_000)));
    let lost = ended.iter().filter(|(_, result)| *result == Err(RequestError::Lost)).count();
    assert!((1..8).contains(&lost), "{lost} gave way");
}

#[test]
fn a_full_queue_refuses_new_entries_and_drops_old_control() {
    let limit = |limits: &mut Limits| limits.messages_max = 2;
    let mut entries = crowd(Channel::Entries, 1, limit);
    let full = Err(RequestError::NotSent(NotSent::QueueFull));
    let sent: Vec<_> = (0..3).map(|byte| send_in(&mut entries, 0, opaque(byte, 9))).collect();
    assert_eq!(sent, [Ok(()), Ok(()), full]);
    entries.pump();
    assert_eq!(entries.acceptor.bodies(), [opaque(0, 9), opaque(1, 9)]);

    let mut control = crowd(Channel::Control, 1, limit);
    (0..3).for_each(|byte| send_in(&mut control, 0, opaque(byte, 9)).unwrap());
    control.pump();
    assert_eq!(control.acceptor.bodies(), [opaque(1, 9), opaque(2, 9)]);
}

pub(super) fn replies(end: &mut End) -> Vec<(u64, Result<Bytes, RequestError>)> {
    let reply = |event| match event {
        LinkEvent::Reply { id, result } => Some((id.get(), result)),
        _ => None,
    };
    end.take().into_iter().filter_map(reply).collect()
}

#[test]
fn a_request_times_out_as_lost_or_unsent() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    pair.ask(1, Scope::Free, b"written");
    pair.pump();
    pair.ask(2, Scope::Free, b"not written");
    pair.opener.tick(at(999)).unwrap();
    assert!(replies(&mut pair.opener).is_empty());
    assert_eq!(pair.opener.link.deadline(), Some(at(1_000)));
    pair.opener.tick(at(1_000)).unwrap();
    let unwritten = Err(RequestError::NotSent(NotSent::Unwritten));
    assert_eq!(replies(&mut pair.opener), [(1, Err(RequestError::Lost)), (2, unwritten)]);
    assert!(pair.opener.transmit().is_empty(), "an ended request does not leave any more");

    // Its reply comes too late, and a foreign one never counts.
    let request = pair.acceptor.take().into_iter().find_map(|event| match event {
        LinkEvent::Request { handle, request, .. } => Some((handle, request)),
        _ => None,
    });
    let (handle, request) = request.unwrap();
    let mut reply = |number| pair.acceptor.inbound().reply(handle, number, Bytes::new());
    assert_eq!(reply(request), Ok(()));
    assert_eq!([request, request + 7].map(reply), [Err(ReplyError::NotOpen); 2]);
    pair.pump();
    assert!(replies(&mut pair.opener).is_empty());
}

#[test]
fn a_stream_for_snapshots_ends_when_nothing_is_asked_on_it() {
    let mut pair = Pair::members(Channel::Snapshot, KeyRing::open());
    pair.ask(1, Scope::Free, b"a range");
    pair.pump();
    let asked = pair.acceptor.take().into_iter().find_map(|event| match event {
        LinkEvent::Request { handle, request, .. } => Some((handle, request)),
        _ => None,
    });
    let (handle, request) = asked.expect("the request arrived");
    pair.now = at(900);
    assert_eq!(pair.opener.link.deadline(), Some(at(1_000)), "only the request's time runs");
    let reply = Bytes::from_static(b"bytes");
    assert_eq!(pair.acceptor.inbound().reply(handle, request, reply), Ok(()));
    pair.pump();
    assert_eq!(replies(&mut pair.opener), [(1, Ok(Bytes::from_static(b"bytes")))]);

    pair.now = at(4_000);
    pair.ask(2, Scope::Free, b"another");
    pair.pump();
    pair.opener.tick(at(5_000)).unwrap();
    assert_eq!(replies(&mut pair.opener), [(2, Err(RequestError::Lost))]);
    pair.opener.tick(at(8_999)).unwrap();
    assert_eq!(pair.opener.take(), [], "it is kept for a while");
    assert_eq!(pair.opener.link.deadline(), Some(at(9_000)));
    pair.opener.tick(at(9_000)).unwrap();
    assert_eq!(pair.opener.take(), [LinkEvent::Idle]);
    assert_eq!(pair.opener.link.deadline(), None, "told once");
    // Whoever asks at this very moment is told that it surely did not leave.
    pair.ask(3, Scope::Free, b"late");
    let unwritten = Err(RequestError::NotSent(NotSent::Unwritten));
    assert_eq!(replies(&mut pair.opener), [(3, unwritten)]);
}

#[test]
fn a_dead_path_is_told_once() {
    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    pair.pass(at(10_000));
    assert!(!pair.opener.take().contains(&LinkEvent::Stalled), "pings are answered");
    let mut stalled = Vec::new();
    for now in (10_000..20_000).step_by(50) {
        if pair.opener.tick(at(now)).is_err() {
            break;
        }
        pair.opener.transmit();
        let stalls = pair.opener.take();
        stalled.extend(stalls.contains(&LinkEvent::Stalled).then_some(now));
    }
    assert_eq!(stalled.len(), 1);
    assert!(stalled[0] <= 10_500, "{stalled:?}");
}

#[test]
fn an_unanswered_hello_ends_the_stream() {
    let mut pair = Pair::members(Channel::Entries, KeyRing::open());
    pair.send(Scope::Free, opaque(1, 1));
    pair.opener.transmit();
    let deadline = pair.opener.link.deadline().unwrap();
    assert_eq!(pair.opener.tick(deadline), Err(LinkError::Unanswered));
}

#[derive(Clone, Debug)]
enum Step {
    Ask { cluster: bool },
    Answer,
    Pump,
    Pass(u64),
    Facts { end: bool, byte: u8 },
    Close { end: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|cluster| Step::Ask { cluster }),
        3 => Just(Step::Answer),
        4 => Just(Step::Pump),
        2 => (1..700u64).prop_map(Step::Pass),
        1 => (any::<bool>(), 1..4u8).prop_map(|(end, byte)| Step::Facts { end, byte }),
        1 => any::<bool>().prop_map(|end| Step::Close { end }),
    ]
}

proptest! {
    #[test]
    fn every_request_ends_exactly_once(
        steps in proptest::collection::vec(step(), 1..60),
        sealed in any::<bool>(),
    ) {
        let keys = if sealed { key(1) } else { KeyRing::open() };
        let mut pair = Pair::members(Channel::Command, keys.clone());
        let (mut asked, mut ended, mut waiting) = (0, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Ask { cluster: false } => { pair.ask(asked, Scope::Free, b"?"); asked += 1; }
                Step::Ask { cluster: true } => {
                    pair.ask(asked, Scope::Cluster(cluster(1)), b"?");
                    asked += 1;
                }
                Step::Answer => for (handle, request) in waiting.drain(..) {
                    // The handle may be gone; then the reply is lost, and so is the request.
                    let _ = pair.acceptor.inbound().reply(handle, request, Bytes::new());
                },
                Step::Pump => pair.pump(),
                Step::Pass(millis) => {
                    let now = pair.now.plus(Duration::from_millis(millis));
                    pair.pass(now);
                }
                Step::Facts { end, byte } => {
                    let now = pair.now;
                    let end = if end { &mut pair.opener } else { &mut pair.acceptor };
                    end.open(now, keys.clone(), member(byte, [1]));
                }
                Step::Close { end } => {
                    let now = pair.now;
                    let end = if end { &mut pair.opener } else { &mut pair.acceptor };
                    end.close(now);
                }
            }
            for event in pair.acceptor.take() {
                if let LinkEvent::Request { handle, request, .. } = event {
                    waiting.push((handle, request));
                }
            }
            ended.extend(replies(&mut pair.opener));
        }
        pair.opener.outbound().finish();
        pair.ask(asked, Scope::Free, b"after the end");
        pair.opener.collect();
        ended.extend(replies(&mut pair.opener));
        let mut ids: Vec<u64> = ended.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..=asked).collect::<Vec<_>>());
    }
}
