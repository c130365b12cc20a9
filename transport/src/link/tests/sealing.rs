//! What a key promises: nothing in clear, and nothing accepted that was replayed, reflected,
//! reordered, or moved from elsewhere.

use super::*;
use crate::{
    error::Refusal,
    hello::{Answer, Closing, Said},
    seal::SealBroken,
    tag::Tag,
};

/// A sealed pair that has shaken hands, in the cluster's scope too.
fn sealed(namespace_key: u8) -> Pair {
    let mut pair = Pair::members(Channel::Control, key(namespace_key));
    pair.send(Scope::Cluster(cluster(1)), heartbeat(0));
    pair.pump();
    assert_eq!(pair.acceptor.bodies(), [heartbeat(0)]);
    pair
}

/// One sealed frame per heartbeat.
fn frames(pair: &mut Pair, rounds: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for round in rounds {
        pair.send(Scope::Cluster(cluster(1)), heartbeat(round));
        frames.push(pair.opener.transmit());
    }
    frames
}

const BROKEN: Result<(), LinkError> = Err(LinkError::Seal(SealBroken));

#[test]
fn no_payload_leaves_in_clear_on_any_channel() {
    let needle = [0xa5; 24];
    for channel in Channel::ALL {
        let mut pair = Pair::members(channel, key(1));
        if channel.asks() {
            pair.ask(1, Scope::Free, &[0xa5; 100]);
        } else {
            pair.send(Scope::Free, opaque(0xa5, 70_000));
        }
        let mut wire = Vec::new();
        let mut arrived = false;
        loop {
            let forward = pair.opener.transmit();
            pair.acceptor.receive(at(0), &forward).unwrap();
            for event in pair.acceptor.take() {
                arrived |= matches!(event, LinkEvent::Received { .. } | LinkEvent::Request { .. });
                if let LinkEvent::Request { handle, request, .. } = event {
                    let payload = Bytes::from(vec![0xa5; 100]);
                    assert_eq!(pair.acceptor.inbound().reply(handle, request, payload), Ok(()));
                }
            }
            let back = pair.acceptor.transmit();
            pair.opener.receive(at(0), &back).unwrap();
            if forward.is_empty() && back.is_empty() {
                break;
            }
            wire.extend(forward);
            wire.extend(back);
        }
        assert!(arrived, "{channel}");
        assert!(!wire.windows(needle.len()).any(|window| window == needle), "{channel}");
        if channel.asks() {
            let replied =
                |event: &LinkEvent| matches!(event, LinkEvent::Reply { result: Ok(_), .. });
            assert!(pair.opener.take().iter().any(replied));
        }
    }
}

#[test]
fn a_replayed_frame_breaks_the_stream() {
    let mut pair = sealed(1);
    let [frame] = &frames(&mut pair, [1])[..] else { panic!() };
    pair.acceptor.receive(at(0), frame).unwrap();
    assert_eq!(pair.acceptor.receive(at(0), frame), BROKEN);
    assert_eq!(pair.acceptor.bodies(), [heartbeat(1)]);
}

#[test]
fn a_dropped_or_reordered_frame_breaks_the_stream() {
    let mut pair = sealed(1);
    let frames = frames(&mut pair, [1, 2]);
    assert_eq!(pair.acceptor.receive(at(0), &frames[1]), BROKEN);
    assert!(pair.acceptor.bodies().is_empty());
}

#[test]
fn a_reflected_frame_breaks_the_stream() {
    let mut pair = sealed(1);
    let frames = frames(&mut pair, [1]);
    assert_eq!(pair.opener.receive(at(0), &frames[0]), BROKEN);
}

#[test]
fn a_frame_of_another_stream_breaks_the_stream() {
    // The same key, nodes, namespace, protocol and handle; only the randomness differs.
    let mut one = sealed(1);
    let mut two = Pair::members(Channel::Control, key(1));
    let mut other = config(Channel::Control, 1, 2);
    other.seed = [0x77; 32];
    two.opener.link = Link::Outbound(Outbound::new(other, at(0), &two.opener.roster));
    two.send(Scope::Cluster(cluster(1)), heartbeat(0));
    two.pump();
    assert_eq!(two.acceptor.bodies(), [heartbeat(0)]);
    let foreign = frames(&mut one, [1]);
    assert_eq!(two.acceptor.receive(at(0), &foreign[0]), BROKEN);
}

#[test]
fn a_fragment_moved_to_another_namespace_breaks_the_stream() {
    let mut pair = Pair::new(Channel::Control);
    let other = Namespace::new("/other").unwrap();
    for (end, byte) in [(&mut pair.acceptor, 2), (&mut pair.opener, 1)] {
        end.open(at(0), key(1), member(byte, [1]));
        end.open_as(at(0), other.clone(), key(1), member(byte, [1]));
    }
    pair.pump();
    let handles = pair.opener.link.handles();
    let handle_of =
        |name: &Namespace| handles.iter().find(|handle| handle.namespace == *name).unwrap().handle;
    let (from, to) = (handle_of(&jobs()), handle_of(&other));
    pair.send(Scope::Free, opaque(1, 10));
    let mut frame = pair.opener.transmit();
    assert_eq!(frame[4..8], from.to_be_bytes());
    frame[4..8].copy_from_slice(&to.to_be_bytes());
    assert_eq!(pair.acceptor.receive(at(0), &frame), BROKEN);
    assert!(pair.acceptor.bodies().is_empty());
}

#[test]
fn every_flipped_bit_of_a_sealed_frame_is_noticed() {
    let mut pair = sealed(1);
    let frame = frames(&mut pair, [1]).remove(0);
    for bit in 0..frame.len() * 8 {
        // A fresh acceptor in the same state: the same seeds give the same keys.
        let mut twin = sealed(1);
        let mut altered = frame.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let taken = twin.acceptor.receive(at(0), &altered);
        let bodies = twin.acceptor.bodies();
        assert!(bodies.is_empty(), "bit {bit}: {taken:?} {bodies:?}");
    }
    let mut twin = sealed(1);
    twin.acceptor.receive(at(0), &frame).unwrap();
    assert_eq!(twin.acceptor.bodies(), [heartbeat(1)], "unaltered, it is accepted");
}

/// What a node says that saw a tag of this stream and does not hold the key.
fn parrot(tag: Tag) -> Greeting {
    let space = Space::Keyed { tag, sealed: vec![0; 144] };
    Greeting::Hello(Hello { oldest: 2, newest: 2, random: [0; 32], space })
}

fn tag_of(greeting: &Greeting) -> Tag {
    let Greeting::Hello(Hello { space: Space::Keyed { tag, .. }, .. }) = greeting else {
        panic!("{greeting:?}")
    };
    *tag
}

#[test]
fn who_knows_a_tag_but_not_the_key_gets_nothing() {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), key(1), member(2, [1]));
    pair.opener.open(at(0), key(1), member(1, [1]));
    let out = pair.opener.transmit();
    let said = greetings(&out);
    let [(0, begin), (1, hello)] = &said[..] else { panic!("{said:?}") };
    pair.acceptor.receive(at(0), &greet(0, begin)).unwrap();
    pair.acceptor.receive(at(0), &greet(1, &parrot(tag_of(hello)))).unwrap();
    assert_eq!(pair.acceptor.take(), [LinkEvent::Unmatched]);
    let refused = vec![(1, Greeting::Refused(Refusal::KeyMismatch))];
    assert_eq!(greetings(&pair.acceptor.transmit()), refused);
    assert!(pair.acceptor.link.handles().is_empty());
}

#[test]
fn a_hello_that_is_replayed_or_sent_back_names_nothing() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), key(1), member(1, [1]));
    let out = pair.opener.transmit();
    let says = |end: &mut End| {
        end.receive(at(0), &out).unwrap();
        assert_eq!(end.take(), [LinkEvent::Unmatched]);
        let refused = vec![(1, Greeting::Refused(Refusal::KeyMismatch))];
        assert_eq!(greetings(&end.transmit()), refused);
    };
    let holder = |me, peer| {
        let link = Link::Inbound(Inbound::new(config(Channel::Control, me, peer), at(0)));
        let mut end = End::new(link);
        end.open(at(0), key(1), member(me, [1]));
        end
    };
    // By the acceptor to a third node, by a third node to the acceptor, and back to its maker.
    says(&mut holder(3, 2));
    says(&mut holder(2, 3));
    says(&mut holder(1, 2));
    // On another stream of the same two nodes the tag is another one.
    let mut end = holder(2, 1);
    end.receive(at(0), &greet(0, &Greeting::Begin([9; 32]))).unwrap();
    let (message, hello) = greetings(&out).remove(1);
    end.receive(at(0), &greet(message, &hello)).unwrap();
    assert_eq!(end.take(), [LinkEvent::Unmatched]);
    // Where it belongs it opens a handle.
    let mut end = holder(2, 1);
    end.receive(at(0), &out).unwrap();
    assert!(matches!(end.take()[..], [LinkEvent::Helloed { .. }]));
}

#[test]
fn an_acceptor_that_does_not_hold_the_key_gets_nothing() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), key(1), member(1, [1]));
    pair.send(Scope::Free, opaque(1, 10));
    pair.opener.transmit();
    let said = Said::Sealed(vec![0; 144]);
    let answer = Greeting::Answer(Answer { version: 2, handle: 1, random: [0; 32], said });
    pair.opener.receive(at(0), &greet(1, &answer)).unwrap();
    let events = pair.opener.take();
    let [LinkEvent::Refused { why, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*why, Refusal::KeyMismatch);
    // The other end is told the same, and nothing else: what waited is not sent.
    let why = Closing::Refused(Refusal::KeyMismatch);
    let told = vec![(0, Greeting::Close { handle: 1, why })];
    assert_eq!(greetings(&pair.opener.transmit()), told);
    pair.opener.receive(at(0), &frame(1, 0, &[0; 18])).unwrap();
    assert!(pair.opener.transmit().is_empty() && pair.opener.take().is_empty());
}

#[test]
fn an_acceptor_with_the_key_of_another_stream_proves_nothing() {
    // It answers with an introduction that was sealed to the same opener before.
    let mut old = Pair::new(Channel::Control);
    old.acceptor.open(at(0), key(1), member(2, [1]));
    old.opener.open(at(0), key(1), member(1, [1]));
    let out = old.opener.transmit();
    old.acceptor.receive(at(0), &out).unwrap();
    let answer = old.acceptor.transmit();
    let mut other = config(Channel::Control, 1, 2);
    other.seed = [0x77; 32];
    let roster = old.opener.roster.clone();
    let mut opener = End::new(Link::Outbound(Outbound::new(other, at(0), &roster)));
    opener.roster = roster;
    opener.transmit();
    opener.receive(at(0), &answer).unwrap();
    let events = opener.take();
    let [LinkEvent::Refused { why, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*why, Refusal::KeyMismatch);
}

#[test]
fn a_fact_altered_on_the_way_gets_no_handle() {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), key(1), member(2, [1]));
    pair.opener.open(at(0), key(1), member(1, [1]));
    let hello = pair.opener.transmit();
    // The sealed introduction ends the hello: 128 bytes and the seal.
    for at_byte in (hello.len() - 144)..hello.len() {
        let mut altered = hello.clone();
        altered[at_byte] ^= 1;
        let mut end = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
        end.roster = pair.acceptor.roster.clone();
        end.receive(at(0), &altered).unwrap();
        assert_eq!(end.take(), [LinkEvent::Unmatched], "byte {at_byte}");
        assert!(end.link.handles().is_empty());
    }
    // Of the answer as well.
    pair.acceptor.receive(at(0), &hello).unwrap();
    let mut answer = pair.acceptor.transmit();
    let (_, Greeting::Answer(Answer { said: Said::Sealed(sealed), .. })) =
        greetings(&answer).remove(0)
    else {
        panic!()
    };
    let place = answer.windows(sealed.len()).position(|window| window == sealed).unwrap();
    answer[place] ^= 1;
    pair.opener.receive(at(0), &answer).unwrap();
    pair.pump();
    for end in [&mut pair.opener, &mut pair.acceptor] {
        let events = end.take();
        let refused = |event: &LinkEvent| {
            matches!(event, LinkEvent::Refused { why: Refusal::KeyMismatch, .. })
        };
        assert!(events.iter().any(refused), "{events:?}");
        assert!(!events.iter().any(|event| matches!(event, LinkEvent::Shared { .. })));
    }
}

#[test]
fn an_opener_tries_its_other_keys_and_rotation_needs_no_order() {
    let [one, two, three] = [1, 2, 3].map(|byte| NamespaceKey::new([byte; 32]));
    let sealed = |pair: &mut Pair| {
        let keys = |end: &mut End| {
            let events = end.take();
            let refused = |event: &LinkEvent| matches!(event, LinkEvent::Refused { .. });
            assert!(!events.iter().any(refused), "{events:?}");
            end.link.handles().iter().filter(|handle| handle.sealed).count()
        };
        [keys(&mut pair.opener), keys(&mut pair.acceptor)]
    };
    let mut pair = Pair::new(Channel::Control);
    let (old, both) = (KeyRing::from(one.clone()), KeyRing::new([two.clone(), one]));
    pair.acceptor.open(at(0), old, member(2, [1]));
    // The opener has the new key already, and made it active.
    pair.opener.open(at(0), both.clone(), member(1, [1]));
    pair.pump();
    assert_eq!(sealed(&mut pair), [1, 1]);
    let handle = pair.opener.link.handles()[0].handle;
    // A change elsewhere does not make it try again.
    pair.opener.open_as(at(1), Namespace::new("/other").unwrap(), key(9), member(1, []));
    pair.pump();
    pair.opener.take();
    pair.acceptor.take();
    assert_eq!(pair.opener.link.handles()[0].handle, handle);
    // The acceptor follows, and both retire the old key.
    pair.acceptor.open(at(1), both, member(2, [1]));
    pair.pump();
    pair.acceptor.open(at(2), two.clone().into(), member(2, [1]));
    pair.pump();
    assert_eq!(sealed(&mut pair), [1, 1]);
    pair.opener.open(at(3), two.into(), member(1, [1]));
    pair.pump();
    assert_eq!(sealed(&mut pair), [1, 1]);
    // No key in common: it is told once, after all were tried.
    pair.acceptor.open(at(4), three.into(), member(2, [1]));
    pair.pump();
    let refused = |event: &LinkEvent| matches!(event, LinkEvent::Refused { .. });
    assert_eq!(pair.opener.take().iter().filter(|event| refused(event)).count(), 1);
}
