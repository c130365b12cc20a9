//! Who gets a handle, who is refused, and what happens when facts change.

use super::*;
use crate::{
    error::{NotSent, Refusal, RequestError},
    types::PeerRole,
};

/// What was refused. A tag that no key here makes is of another key, or of an unknown name.
fn refusals(end: &mut End) -> Vec<Refusal> {
    let why = |event| match event {
        LinkEvent::Refused { why, .. } => Some(why),
        LinkEvent::Unmatched => Some(Refusal::KeyMismatch),
        LinkEvent::Shared { .. } | LinkEvent::Received { .. } => panic!("{event:?}"),
        _ => None,
    };
    end.take().into_iter().filter_map(why).collect()
}

fn is_shared(end: &mut End) -> bool {
    end.take().iter().any(|event| matches!(event, LinkEvent::Shared { .. }))
}

#[test]
fn the_first_frame_is_a_hello_in_clear() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), KeyRing::open(), member(1, []));
    let out = pair.opener.transmit();
    // Frame length, then twice handle 0, first and last: message 0 begins the stream, message 1 is
    // the hello.
    let head = [&[0, 0, 0, 147], &[0; 4][..], &[3, 0, 0, 0, 0, 0, 34], &[1, 6]].concat();
    assert_eq!(out[..head.len()], head);
    let hello = &out[head.len() + 32..];
    let head = [&[0; 4][..], &[3, 0, 0, 0, 1, 0, 91], &[1, 0, 2, 2]].concat();
    assert_eq!(hello[..head.len()], head);
    let hash = NamespaceHash::of(&jobs());
    let tail = [&[0][..], hash.as_bytes(), &[0], &[1], &[1; 16], &[0], &[1], &[0, 0]].concat();
    assert!(
        hello.ends_with(&tail),
        "open, its hash, no cluster; a member, its incarnation, no clusters, the baseline; no \
         configuration, no cards"
    );
    assert_eq!(out.len(), 4 + 147);
}

#[test]
fn members_of_an_open_namespace_share_it_and_talk() {
    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    pair.pump();
    let shared = |end: &mut End, byte| {
        let facts = end.take().into_iter().find_map(|event| match event {
            LinkEvent::Shared { facts, .. } => Some(facts),
            _ => None,
        });
        let facts = facts.unwrap();
        assert_eq!(facts.role, PeerRole::Member);
        assert_eq!(facts.incarnation, Some(Incarnation::new([byte; 16])));
        assert_eq!(facts.cluster, Some(cluster(1)));
    };
    shared(&mut pair.opener, 2);
    shared(&mut pair.acceptor, 1);

    let scope = Scope::Cluster(cluster(1));
    pair.send(scope, heartbeat(1));
    pair.pump();
    let [LinkEvent::Helloed { .. }, received] = &pair.acceptor.take()[..] else { panic!() };
    let expected = LinkEvent::Received { from: source(scope), body: heartbeat(1), bytes: 7 };
    assert_eq!(*received, expected);
}

#[test]
fn keys_that_differ_are_reported_on_both_sides() {
    for (left, right) in [(key(1), key(2)), (key(1), KeyRing::open()), (KeyRing::open(), key(1))] {
        let mut pair = Pair::new(Channel::Control);
        pair.acceptor.open(at(0), right.clone(), member(2, [1]));
        pair.opener.open(at(0), left, member(1, [1]));
        pair.pump();
        assert_eq!(refusals(&mut pair.opener), [Refusal::KeyMismatch]);
        assert_eq!(refusals(&mut pair.acceptor), [Refusal::KeyMismatch]);
        pair.pass(at(20_000));
        assert!(pair.opener.take().is_empty(), "no retry can help");

        pair.opener.open(pair.now, right, member(1, [1]));
        pair.pump();
        assert!(is_shared(&mut pair.opener) && is_shared(&mut pair.acceptor));
    }
}

#[test]
fn a_peer_that_accepts_several_keys_accepts_each() {
    let [one, two] = [1, 2].map(|byte| NamespaceKey::new([byte; 32]));
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), KeyRing::new([one, two.clone()]), member(2, [1]));
    pair.opener.open(at(0), two.into(), member(1, [1]));
    pair.pump();
    assert!(is_shared(&mut pair.opener) && is_shared(&mut pair.acceptor));
    // Retiring the key closes the handle.
    pair.acceptor.open(at(0), key(1), member(2, [1]));
    pair.pump();
    assert_eq!(refusals(&mut pair.opener), [Refusal::KeyMismatch]);
}

#[test]
fn an_unknown_namespace_is_retried_and_at_once_when_the_peer_says_hello() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), KeyRing::open(), member(1, []));
    pair.pump();
    assert_eq!(refusals(&mut pair.opener), [Refusal::UnknownNamespace]);
    assert!(pair.acceptor.take().is_empty(), "a stranger's hash is no news");
    pair.pass(at(10_000));
    let retries = refusals(&mut pair.opener).len();
    assert!((5..15).contains(&retries), "{retries} retries in ten seconds");

    pair.acceptor.open(pair.now, KeyRing::open(), member(2, []));
    let facts = crate::types::PeerFacts {
        role: PeerRole::Member,
        cluster: None,
        clusters: BTreeSet::new(),
        incarnation: None,
        supports: None,
    };
    let (now, End { link, roster, .. }) = (pair.now, &mut pair.opener);
    let Link::Outbound(outbound) = link else { panic!() };
    outbound.hint(now, roster, (&jobs(), &facts));
    pair.pump();
    assert!(is_shared(&mut pair.opener));
}

#[test]
fn a_refusal_that_crosses_the_hello_of_the_peer_is_out_of_date() {
    let mut pair = Pair::new(Channel::Control);
    // The peer has something else open, so it does not say whether it lacks the name or the key.
    let other = Namespace::new("/other").unwrap();
    pair.acceptor.open_as(at(0), other, key(9), member(2, []));
    pair.opener.open(at(0), key(1), member(1, []));
    let hello = pair.opener.transmit();
    pair.acceptor.receive(at(0), &hello).unwrap();
    let refusal = pair.acceptor.transmit();
    // It opens the namespace and says hello on its own stream, which is the quicker one.
    pair.acceptor.open(at(0), key(1), member(2, []));
    let facts = crate::types::PeerFacts {
        role: PeerRole::Member,
        cluster: None,
        clusters: BTreeSet::new(),
        incarnation: Some(Incarnation::new([2; 16])),
        supports: None,
    };
    let End { link, roster, .. } = &mut pair.opener;
    let Link::Outbound(outbound) = link else { panic!() };
    outbound.hint(at(0), roster, (&jobs(), &facts));
    pair.opener.receive(at(0), &refusal).unwrap();
    pair.pump();
    assert!(is_shared(&mut pair.opener));
}

#[test]
fn a_node_that_has_just_started_is_asked_again_under_a_key_too() {
    let mut pair = Pair::new(Channel::Command);
    pair.opener.open(at(0), key(1), LocalRole::Client);
    pair.pump();
    assert_eq!(refusals(&mut pair.opener), [Refusal::UnknownNamespace]);
    pair.acceptor.open(at(10), key(1), member(2, []));
    pair.pass(at(10_000));
    assert!(is_shared(&mut pair.opener));
}

#[test]
fn a_cluster_that_the_peer_does_not_speak_for_is_refused_and_messages_wait() {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), KeyRing::open(), member(2, [2, 3]));
    pair.opener.open(at(0), KeyRing::open(), member(1, [1]));
    pair.pump();
    pair.opener.take();
    pair.send(Scope::Cluster(cluster(1)), heartbeat(1));
    pair.pump();
    let wrong =
        Refusal::WrongCluster { asked: cluster(1), speaks_for: vec![cluster(2), cluster(3)] };
    assert_eq!(refusals(&mut pair.opener), std::slice::from_ref(&wrong));

    pair.acceptor.open(at(10), KeyRing::open(), member(2, [1]));
    pair.pass(at(1_000));
    assert_eq!(pair.acceptor.bodies(), [heartbeat(1)], "delivered by a later hello");
}

#[test]
fn a_message_that_waited_too_long_is_not_delivered() {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), KeyRing::open(), member(2, []));
    pair.opener.open(at(0), KeyRing::open(), member(1, [1]));
    pair.send(Scope::Cluster(cluster(1)), heartbeat(1));
    pair.pass(at(5_000));
    pair.send(Scope::Cluster(cluster(1)), heartbeat(2));
    pair.acceptor.open(pair.now, KeyRing::open(), member(2, [1]));
    pair.acceptor.take();
    pair.pass(at(10_000));
    let bodies = pair.acceptor.bodies();
    assert!(!bodies.contains(&heartbeat(1)), "{bodies:?}");
}

#[test]
fn clients_ask_and_do_nothing_else() {
    let mut pair = Pair::new(Channel::Command);
    pair.acceptor.open(at(0), KeyRing::open(), member(2, [1]));
    pair.opener.open(at(0), KeyRing::open(), LocalRole::Client);
    pair.pump();
    let events = pair.acceptor.take();
    let role = events.iter().find_map(|event| match event {
        LinkEvent::Shared { facts, .. } => Some(facts.role),
        _ => None,
    });
    assert_eq!(role, Some(PeerRole::Client));
    // What its clusters are is no business of a client, so a change of them closes nothing.
    pair.acceptor.open(at(0), KeyRing::open(), member(2, [1, 2]));
    assert!(pair.acceptor.transmit().is_empty());

    let mut pair = Pair::new(Channel::Peers);
    pair.acceptor.open(at(0), KeyRing::open(), member(2, [1]));
    pair.opener.open(at(0), KeyRing::open(), LocalRole::Client);
    pair.send(Scope::Free, opaque(1, 10));
    pair.pump();
    assert_eq!(refusals(&mut pair.opener), [Refusal::MembersOnly]);

    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), KeyRing::open(), LocalRole::Client);
    pair.opener.open(at(0), KeyRing::open(), member(1, []));
    pair.pump();
    assert_eq!(refusals(&mut pair.opener), [Refusal::Client]);
}

#[test]
fn a_change_of_facts_closes_handles_on_both_sides_and_makes_new_ones() {
    for keys in [KeyRing::open(), key(1)] {
        for by_opener in [true, false] {
            let mut pair = Pair::members(Channel::Control, keys.clone());
            pair.pump();
            pair.send(Scope::Cluster(cluster(1)), heartbeat(1));
            pair.pump();
            assert_eq!(pair.acceptor.bodies(), [heartbeat(1)]);
            let before = pair.opener.link.handles();
            pair.send(Scope::Cluster(cluster(1)), heartbeat(2));
            let end = if by_opener { &mut pair.opener } else { &mut pair.acceptor };
            let byte = if by_opener { 1 } else { 2 };
            // Another cluster beside it: only the handle without a cluster is bound to that.
            end.open(at(1), keys.clone(), member(byte, [1, 2]));
            pair.pump();
            let after = pair.opener.link.handles();
            assert_eq!(after.len(), 2);
            assert_eq!(before[1], after[1], "the cluster's handle stays");
            assert!(before[0].handle < after[0].handle, "the free one is new");
            assert_eq!(pair.acceptor.bodies(), [heartbeat(2)]);
            assert_eq!(pair.acceptor.link.handles().len(), 2);

            let end = if by_opener { &mut pair.opener } else { &mut pair.acceptor };
            end.open(at(2), keys.clone(), member(byte + 10, [1]));
            if !by_opener {
                // What leaves before the closing arrives is lost, as any message may be.
                pair.pump();
            }
            pair.send(Scope::Cluster(cluster(1)), heartbeat(3));
            pair.pump();
            let handles = pair.opener.link.handles();
            assert!(handles.iter().all(|handle| handle.handle > after[0].handle), "{handles:?}");
            assert_eq!(pair.acceptor.bodies(), [heartbeat(3)]);
        }
    }
}

#[test]
fn an_answer_that_crosses_a_change_is_not_used() {
    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    let hello = pair.opener.transmit();
    pair.opener.open(at(0), KeyRing::open(), member(7, [1]));
    pair.acceptor.receive(at(0), &hello).unwrap();
    pair.pump();
    let handles = pair.opener.link.handles();
    assert_eq!(handles.iter().map(|handle| handle.handle).collect::<Vec<_>>(), [2]);
    let accepted = pair.acceptor.link.handles();
    assert_eq!(accepted.iter().map(|handle| handle.handle).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_closed_namespace_is_unshared_and_its_requests_end() {
    let mut pair = Pair::members(Channel::Command, KeyRing::open());
    pair.ask(1, Scope::Free, b"written");
    pair.pump();
    pair.ask(2, Scope::Free, b"queued");
    pair.opener.take();
    pair.acceptor.take();
    pair.opener.close(at(0));
    let ended: Vec<_> = pair.opener.take();
    let reply = |id, error| LinkEvent::Reply { id: RequestId::new(id), result: Err(error) };
    let not_open = RequestError::NotSent(NotSent::NotOpen);
    assert_eq!(ended, [reply(1, RequestError::Lost), reply(2, not_open)]);
    pair.pump();
    assert_eq!(pair.acceptor.take(), [LinkEvent::Unshared { namespace: jobs() }]);
    assert!(pair.acceptor.link.handles().is_empty());

    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    pair.pump();
    pair.opener.take();
    pair.acceptor.close(at(0));
    pair.pump();
    let told = pair.opener.take();
    assert_eq!(told.first(), Some(&LinkEvent::Unshared { namespace: jobs() }));
}

#[test]
fn a_mistaken_incarnation_is_told_once_and_not_sent() {
    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    let scope = Scope::Cluster(cluster(1));
    for (byte, round) in [(9, 1), (9, 2), (2, 3)] {
        let outgoing = Outgoing {
            namespace: jobs(),
            scope,
            incarnation: Some(Incarnation::new([byte; 16])),
            body: heartbeat(round),
        };
        let End { link, roster, .. } = &mut pair.opener;
        let Link::Outbound(outbound) = link else { panic!() };
        outbound.send(at(0), roster, outgoing).unwrap();
    }
    pair.pump();
    assert_eq!(pair.acceptor.bodies(), [heartbeat(3)]);
    let mistaken = pair.opener.take();
    let why = Refusal::WrongIncarnation {
        expected: Incarnation::new([9; 16]),
        found: Incarnation::new([2; 16]),
    };
    let refused = LinkEvent::Refused { namespace: jobs(), scope, why };
    assert_eq!(mistaken.iter().filter(|event| **event == refused).count(), 1, "{mistaken:?}");
}

#[test]
fn what_this_node_may_not_send_is_refused_here() {
    let mut pair = Pair::members(Channel::Control, KeyRing::open());
    let mut send = |namespace: &str, scope, body| {
        let namespace = Namespace::new(namespace).unwrap();
        let outgoing = Outgoing { namespace, scope, incarnation: None, body };
        let End { link, roster, .. } = &mut pair.opener;
        let Link::Outbound(outbound) = link else { panic!() };
        outbound.send(at(0), roster, outgoing)
    };
    let not_open = Err(RequestError::NotSent(NotSent::NotOpen));
    assert_eq!(send("/other", Scope::Free, opaque(1, 1)), not_open);
    let not_ours = Err(RequestError::Refused(Refusal::NotOurs));
    assert_eq!(send("/jobs", Scope::Cluster(cluster(9)), heartbeat(1)), not_ours);
    let Limits { message_bytes_max, guest_message_bytes_max, .. } = Limits::default();
    for (scope, bytes_max) in
        [(Scope::Free, guest_message_bytes_max), (Scope::Cluster(cluster(1)), message_bytes_max)]
    {
        let too_large = NotSent::TooLarge { bytes: bytes_max + 2, bytes_max };
        let sent = send("/jobs", scope, opaque(1, bytes_max));
        assert_eq!(sent, Err(RequestError::NotSent(too_large)));
    }
}

#[test]
fn a_refusal_that_stays_is_retried_ever_more_rarely() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), KeyRing::open(), member(1, []));
    pair.pump();
    pair.pass(at(10 * 60_000));
    pair.opener.take();
    // Pings and their answers go on all the while.
    pair.pass(at(20 * 60_000));
    let retries = refusals(&mut pair.opener).len();
    assert!((9..=11).contains(&retries), "{retries} retries in ten minutes");
    // New facts on this side begin anew.
    pair.opener.open(pair.now, KeyRing::open(), member(7, []));
    pair.pass(at(20 * 60_000 + 10_000));
    let retries = refusals(&mut pair.opener).len();
    assert!((5..15).contains(&retries), "{retries} retries in ten seconds");
}
