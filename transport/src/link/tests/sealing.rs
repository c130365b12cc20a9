//! What a key promises: nothing in clear, and nothing accepted that was replayed, reflected,
//! reordered, or moved from elsewhere.

use super::*;
use crate::{
    error::Refusal,
    fragment::Header,
    frame::FrameWriter,
    hello::{Answer, Facts, Greeting, Hello, NamespaceHash},
    seal::SealBroken,
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

fn greeting(message: u32, greeting: &Greeting) -> Vec<u8> {
    fragment(0, message, &greeting.encode())
}

fn fragment(handle: u32, message: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = u16::try_from(bytes.len()).unwrap();
    let header = Header { handle, first: true, last: true, message, length };
    FrameWriter::new(&mut out).fragment(header, bytes, |_, _, _| {});
    out
}

#[test]
fn who_knows_a_key_id_but_not_the_key_gets_nothing() {
    let mut acceptor = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    acceptor.open(at(0), key(1), member(2, [1]));
    let hello = Hello {
        oldest: 1,
        newest: 1,
        namespace: NamespaceHash::of(&jobs()),
        key: key(1).ids().next(),
        random: [0; 32],
        scope: None,
        facts: Facts::Client,
    };
    let facts = member_facts(1);
    let hello = Greeting::Hello(Hello { facts, ..hello });
    acceptor.receive(at(0), &greeting(1, &hello)).unwrap();
    assert!(!acceptor.transmit().is_empty());
    acceptor.receive(at(0), &fragment(1, 0, &[0; 18])).unwrap();
    let events = acceptor.take();
    let [LinkEvent::Helloed { .. }, LinkEvent::Refused { why, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*why, Refusal::KeyMismatch);
    assert!(acceptor.link.handles().is_empty());
    // What else was on its way is dropped.
    acceptor.receive(at(0), &fragment(1, 1, &[0; 100])).unwrap();
    assert!(acceptor.take().is_empty());
}

#[test]
fn an_acceptor_that_does_not_prove_the_key_gets_nothing() {
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), key(1), member(1, [1]));
    pair.send(Scope::Free, opaque(1, 10));
    pair.opener.transmit();
    let facts = member_facts(2);
    let answer = Greeting::Answer(Answer { version: 1, handle: 1, random: [0; 32], facts });
    pair.opener.receive(at(0), &greeting(1, &answer)).unwrap();
    assert!(pair.opener.transmit().is_empty(), "nothing before the proof");
    pair.opener.receive(at(0), &fragment(1, 0, &[0; 18])).unwrap();
    let events = pair.opener.take();
    let [LinkEvent::Refused { why, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*why, Refusal::KeyMismatch);
    // The other end is told the same.
    let told = pair.opener.transmit();
    let mut fake = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    fake.receive(at(0), &told).unwrap();
    assert!(told.len() < 40, "only the closing: {}", told.len());
}

#[test]
fn a_fact_altered_on_the_way_fails_the_proof() {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), key(1), member(2, [1]));
    pair.opener.open(at(0), key(1), member(1, [1]));
    let mut hello = pair.opener.transmit();
    // The incarnation stands before the one cluster that ends the hello.
    let at_incarnation = hello.len() - 32 - 1 - 16;
    assert_eq!(hello[at_incarnation], 1);
    hello[at_incarnation] = 9;
    pair.acceptor.receive(at(0), &hello).unwrap();
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

fn member_facts(byte: u8) -> Facts {
    let (incarnation, supports) = (Incarnation::new([byte; 16]), ClusterVersion::BASELINE);
    Facts::Member { incarnation, clusters: Vec::new(), supports }
}
