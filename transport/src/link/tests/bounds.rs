//! What one peer may hold of this node: bounded in bytes, in number and in time, and told.

use super::{
    flow::replies,
    hostile::{hello, piece},
    *,
};
use crate::{
    budget::Purse,
    error::{NotReplied, Refusal, ReplyError, RequestError},
    hello::Closing,
};

/// Asks `count` requests and returns where their replies go.
fn asked(pair: &mut Pair, count: u64) -> Vec<(u32, u64)> {
    asked_ids(pair, 0..count)
}

fn asked_ids(pair: &mut Pair, ids: std::ops::Range<u64>) -> Vec<(u32, u64)> {
    ids.for_each(|id| pair.ask(id, Scope::Free, b"?"));
    pair.pump();
    let request = |event| match event {
        LinkEvent::Request { handle, request, .. } => Some((handle, request)),
        _ => None,
    };
    pair.acceptor.take().into_iter().filter_map(request).collect()
}

#[test]
fn all_that_was_taken_can_be_answered_in_one_turn() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    let count = Limits::default().requests_max as u64;
    // The asker's own queue is shorter.
    let part = |from: u64| from..count.min(from + 1_000);
    let parts = (0..count).step_by(1_000).map(part);
    let requests: Vec<_> = parts.flat_map(|ids| asked_ids(&mut pair, ids)).collect();
    for (handle, request) in requests {
        let replied = pair.acceptor.inbound().reply(handle, request, Bytes::from_static(b"ok"));
        assert_eq!(replied, Ok(()));
    }
    pair.pump();
    let ended = replies(&mut pair.opener);
    let answered = ended.iter().filter(|(_, result)| result.is_ok()).count();
    assert_eq!(answered as u64, count);
}

#[test]
fn a_request_without_room_for_its_reply_is_refused_at_once() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    pair.acceptor.inbound().wire_mut().config.limits.requests_max = 4;
    let requests = asked(&mut pair, 6);
    assert_eq!(requests.len(), 4, "as many as have room for their replies");
    let refused = Err(RequestError::Refused(Refusal::Limit));
    assert_eq!(replies(&mut pair.opener), [(4, refused.clone()), (5, refused)]);
    let (handle, request) = requests[0];
    assert_eq!(pair.acceptor.inbound().reply(handle, request, Bytes::new()), Ok(()));
    assert!(asked_ids(&mut pair, 6..8).is_empty(), "a reply takes room until it is written");
    pair.pump();
    assert_eq!(asked_ids(&mut pair, 8..10).len(), 1);
}

#[test]
fn who_asks_and_does_not_read_loses_its_handle() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    pair.acceptor.inbound().wire_mut().config.limits.requests_max = 4;
    asked(&mut pair, 1);
    (1..1_000).for_each(|id| pair.ask(id, Scope::Free, b"?"));
    let forward = pair.opener.transmit();
    pair.acceptor.receive(at(0), &forward).unwrap();
    assert_eq!(pair.acceptor.link.handles(), []);
    assert!(pair.acceptor.take().contains(&refused(Scope::Free, Refusal::Limit)));
    pair.pump();
    assert_eq!(replies(&mut pair.opener).len(), 1_000, "each request ends, typed");
}

#[test]
fn replies_that_nobody_takes_are_bounded_in_bytes_and_both_ends_are_told() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    let requests = asked(&mut pair, 4);
    let bytes_max = Limits::default().guest_replies.peer_bytes_max;
    let answers = requests.into_iter().map(|(handle, request)| {
        let payload = Bytes::from(vec![0; bytes_max / 3]);
        pair.acceptor.inbound().reply(handle, request, payload)
    });
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers[..2], [Ok(()), Ok(())]);
    assert_eq!(answers[2..], [Err(ReplyError::NoRoom { bytes_max }); 2]);
    pair.pump();
    let lost = Err(RequestError::NotReplied(NotReplied::NoRoom));
    let ended = replies(&mut pair.opener);
    assert_eq!(ended.len(), 4);
    assert_eq!(ended.iter().filter(|(_, result)| *result == lost).count(), 2);
    assert_eq!(pair.acceptor.inbound().wire_mut().config.account.held(Purse::GuestReplies), 0);
}

#[test]
fn a_reply_that_is_too_large_ends_the_request_at_once() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    let requests = asked(&mut pair, 1);
    let (handle, request) = requests[0];
    let large = Bytes::from(vec![0; Limits::default().message_bytes_max]);
    let too_large = pair.acceptor.inbound().reply(handle, request, large);
    assert!(matches!(too_large, Err(ReplyError::TooLarge { .. })), "{too_large:?}");
    pair.pump();
    let told = Err(RequestError::NotReplied(NotReplied::TooLarge));
    assert_eq!(replies(&mut pair.opener), [(0, told)]);
}

#[test]
fn a_guest_holds_little_and_not_for_long() {
    let mut end = End::new(Link::Inbound(Inbound::new(config(Channel::Command, 2, 1), at(0))));
    end.open(at(0), KeyRing::open(), member(2, [1]));
    for number in 1..=4 {
        let Greeting::Hello(mut client) = hello(None, 1) else { panic!() };
        let Space::Open { introduction, .. } = &mut client.space else { panic!() };
        introduction.facts = Facts::Client;
        end.receive(at(0), &greet(number, &Greeting::Hello(client))).unwrap();
    }
    let chunk = vec![0; 32 * 1024];
    for handle in 1..=4 {
        // The last one does not run into the bound of a message.
        for part in 0..if handle == 4 { 40 } else { 511 } {
            end.receive(at(0), &piece(handle, part == 0, false, 0, &chunk)).unwrap();
            assert!(end.inbound().held() <= 4 << 20);
        }
    }
    assert!(end.take().contains(&refused(Scope::Free, Refusal::Limit)));
    // Those that are left get nothing more.
    assert!(end.inbound().held() > 0 && end.link.deadline().is_some());
    while let Some(deadline) = end.link.deadline() {
        assert!(deadline <= at(12_500), "{deadline:?}");
        end.tick(deadline).unwrap();
    }
    assert!(end.take().contains(&refused(Scope::Free, Refusal::Unfinished)));
    assert_eq!(end.inbound().held(), 0);
}

#[test]
fn a_message_that_trickles_is_given_up_after_a_minute() {
    let mut pair = Pair::members(Channel::Entries, KeyRing::open());
    let outgoing = opaque(1, 1);
    pair.send(Scope::Cluster(cluster(1)), outgoing);
    pair.pump();
    pair.acceptor.take();
    let mut now = 0;
    let mut given_up = None;
    while now < 90_000 && given_up.is_none() {
        pair.acceptor.receive(at(now), &piece(1, now == 0, false, 1, &[0])).unwrap();
        now += 1_000;
        if pair.acceptor.link.deadline().is_some_and(|deadline| deadline <= at(now)) {
            pair.acceptor.tick(at(now)).unwrap();
        }
        let unfinished = refused(Scope::Cluster(cluster(1)), Refusal::Unfinished);
        given_up = pair.acceptor.take().contains(&unfinished).then_some(now);
    }
    assert!((60_000..=62_500).contains(&given_up.unwrap_or(0)), "{given_up:?}");
    assert_eq!(pair.acceptor.inbound().held(), 0);
}

#[test]
fn a_frame_that_stays_cut_off_ends_its_stream() {
    let mut end = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    end.open(at(0), KeyRing::open(), member(2, [1]));
    end.receive(at(0), &greet(1, &hello(None, 1))).unwrap();
    end.receive(at(0), &greet(2, &hello(None, 2))[..40]).unwrap();
    let ended = std::iter::from_fn(|| {
        let deadline = end.link.deadline()?;
        Some((deadline, end.tick(deadline)))
    });
    let ended: Vec<_> = ended.take(4).collect();
    assert_eq!(ended[3], (at(10_000), Err(LinkError::CutOff)));
    assert!(ended[..3].iter().all(|(_, ticked)| ticked.is_ok()));
}

#[test]
fn streams_of_one_peer_share_its_bound_and_members_keep_theirs() {
    let account = config(Channel::Entries, 2, 1).account;
    let mut streams: Vec<End> = (0..8)
        .map(|_| {
            let config = LinkConfig { account: account.clone(), ..config(Channel::Entries, 2, 1) };
            let mut end = End::new(Link::Inbound(Inbound::new(config, at(0))));
            end.open(at(0), KeyRing::open(), member(2, [1]));
            end.receive(at(0), &greet(1, &hello(None, 1))).unwrap();
            end.receive(at(0), &greet(2, &hello(Some(cluster(1)), 2))).unwrap();
            end
        })
        .collect();
    let bytes_max = Limits::default().guest_unfinished.peer_bytes_max;
    let chunk = vec![0; 32 * 1024];
    for end in &mut streams {
        for part in 0..40 {
            end.receive(at(0), &piece(1, part == 0, false, 0, &chunk)).unwrap();
            assert!(account.held(Purse::GuestMessages) <= bytes_max);
        }
    }
    assert!(account.held(Purse::GuestMessages) > bytes_max / 2);
    let end = &mut streams[7];
    for part in 0..500 {
        end.receive(at(0), &piece(2, part == 0, part == 499, 0, &message(part, &chunk))).unwrap();
    }
    assert_eq!(end.bodies().len(), 1, "a member's message of 16 MB has room");
    drop(streams);
    assert_eq!(account.held(Purse::GuestMessages), 0, "what is gone gives all back");
}

/// A piece of an opaque message.
fn message(part: usize, chunk: &[u8]) -> Vec<u8> {
    let head: &[u8] = if part == 0 { &[1, 2] } else { &[] };
    [head, &chunk[head.len()..]].concat()
}

fn refused(scope: Scope, why: Refusal) -> LinkEvent {
    LinkEvent::Refused { namespace: jobs(), scope, why }
}

#[test]
fn an_undecodable_message_closes_its_own_handle_alone() {
    let mut end = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    end.open(at(0), KeyRing::open(), member(2, [1]));
    end.receive(at(0), &greet(1, &hello(Some(cluster(1)), 1))).unwrap();
    end.receive(at(0), &greet(2, &hello(None, 2))).unwrap();
    // A consensus message of a variant that only a newer release knows.
    end.receive(at(0), &piece(1, true, true, 0, &[1, 1, 200, 1])).unwrap();
    end.receive(at(0), &piece(2, true, true, 0, b"\x01\x02ab")).unwrap();
    assert!(end.events.contains(&refused(Scope::Cluster(cluster(1)), Refusal::Undecodable)));
    assert_eq!(end.bodies(), [Body::Bytes(Bytes::from_static(b"ab"))]);
    let why = Closing::Refused(Refusal::Undecodable);
    let close = greet(0, &Greeting::Close { handle: 1, why });
    assert!(end.transmit().ends_with(&close[4..]), "the opener is told");
}

#[test]
fn under_a_key_too_an_undecodable_message_closes_its_own_handle_alone() {
    let mut pair = Pair::members(Channel::Control, key(1));
    pair.send(Scope::Cluster(cluster(1)), heartbeat(1));
    pair.send(Scope::Free, opaque(1, 2));
    pair.pump();
    pair.acceptor.take();
    // What the opener seals is no message that this build knows.
    pair.opener.outbound().write_raw(&(jobs(), Scope::Cluster(cluster(1))), vec![1, 1, 200, 1]);
    pair.send(Scope::Free, opaque(2, 2));
    pair.pump();
    let told = refused(Scope::Cluster(cluster(1)), Refusal::Undecodable);
    assert!(pair.acceptor.events.contains(&told));
    assert_eq!(pair.acceptor.bodies(), [opaque(2, 2)]);
    assert!(pair.opener.take().contains(&told));
    // The handle is asked for again, but not at once.
    pair.send(Scope::Cluster(cluster(1)), heartbeat(2));
    pair.pass(at(999));
    assert_eq!(pair.acceptor.bodies(), []);
    pair.pass(at(1_000));
    pair.send(Scope::Cluster(cluster(1)), heartbeat(3));
    pair.pump();
    assert!(pair.acceptor.bodies().contains(&heartbeat(3)));
}
