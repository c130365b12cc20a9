//! What peers may do to us: nothing but end their own stream.

use proptest::prelude::*;

use super::*;
use crate::{hello::Closing, tag::Tag};

/// A frame of one fragment.
pub(super) fn piece(handle: u32, first: bool, last: bool, message: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = u16::try_from(bytes.len()).unwrap();
    let header = Header { handle, first, last, message, length };
    FrameWriter::new(&mut out).fragment(header, bytes, |_, _, _| {});
    out
}

pub(super) fn hello(scope: Option<ClusterId>, random: u8) -> Greeting {
    open_hello(1, scope, random)
}

fn acceptor(channel: Channel, keys: KeyRing) -> End {
    let mut end = End::new(Link::Inbound(Inbound::new(config(channel, 2, 1), at(0))));
    end.open(at(0), keys, member(2, [1]));
    end
}

#[test]
fn an_oversized_frame_is_refused_before_it_is_held() {
    let mut end = acceptor(Channel::Control, KeyRing::open());
    let result = end.receive(at(0), &[0, 1, 0, 1]);
    assert!(matches!(result, Err(LinkError::Frame(_))), "{result:?}");
}

#[test]
fn a_handle_that_was_never_given_ends_the_stream() {
    let mut end = acceptor(Channel::Control, KeyRing::open());
    let result = end.receive(at(0), &frame(1, 0, b"\x01\x02"));
    assert_eq!(result, Err(LinkError::UnknownHandle { handle: 1 }));
}

#[test]
fn messages_in_the_wrong_place_end_the_stream() {
    let consensus = b"\x01\x01\x02\x05\x05\x04\xac\x02";
    let cases: [(Channel, Option<ClusterId>, &[u8]); 6] = [
        // Consensus without a cluster, or beside its channels.
        (Channel::Control, None, consensus),
        (Channel::Peers, Some(cluster(1)), consensus),
        // Opaque bytes and replies where requests go, a request elsewhere.
        (Channel::Command, None, b"\x01\x02ab"),
        (Channel::Snapshot, None, b"\x01\x02ab"),
        (Channel::Command, None, b"\x01\x04\0\0\0\0\0\0\0\x01"),
        (Channel::Entries, None, b"\x01\x03\0\0\0\0\0\0\0\x01"),
    ];
    for (channel, scope, message) in cases {
        let mut end = acceptor(channel, KeyRing::open());
        end.receive(at(0), &greet(1, &hello(scope, 1))).unwrap();
        assert_eq!(end.link.handles().len(), 1);
        let result = end.receive(at(0), &frame(1, 0, message));
        assert_eq!(result, Err(LinkError::Misplaced), "{channel} {message:?}");
    }
    // A stream begins once, and a tag without that names nothing.
    let mut end = acceptor(Channel::Control, KeyRing::open());
    let begin = greet(0, &Greeting::Begin([0; 32]));
    end.receive(at(0), &begin).unwrap();
    assert_eq!(end.receive(at(0), &begin), Err(LinkError::Misplaced));
    let mut end = acceptor(Channel::Control, key(1));
    let space = Space::Keyed { tag: Tag::new([0; 32]), sealed: vec![0; 144] };
    let tagged = Greeting::Hello(Hello { oldest: 2, newest: 2, random: [0; 32], space });
    assert_eq!(end.receive(at(0), &greet(1, &tagged)), Err(LinkError::Misplaced));
    // Greetings that only the other end sends.
    for greeting in [Greeting::Pong(1), Greeting::Refused(crate::Refusal::Limit)] {
        let mut end = acceptor(Channel::Control, KeyRing::open());
        assert_eq!(end.receive(at(0), &greet(1, &greeting)), Err(LinkError::Misplaced));
    }
    let begin = Greeting::Begin([0; 32]);
    for greeting in
        [Greeting::Ping(1), hello(None, 1), begin, Greeting::Refused(crate::Refusal::Limit)]
    {
        let mut pair = Pair::members(Channel::Control, KeyRing::open());
        pair.pump();
        assert_eq!(pair.opener.receive(at(0), &greet(99, &greeting)), Err(LinkError::Misplaced));
    }
}

#[test]
fn a_stream_on_which_nothing_is_said_ends() {
    let silent = || acceptor(Channel::Control, KeyRing::open());
    let mut end = silent();
    assert_eq!(end.link.deadline(), Some(at(10_000)));
    assert_eq!(end.tick(at(9_999)), Ok(()));
    assert_eq!(end.tick(at(10_000)), Err(LinkError::Silent));
    // A beginning of something is nothing; a hello, or a ping of one that shares nothing, is not.
    let mut end = silent();
    end.receive(at(1), &greet(0, &Greeting::Begin([0; 32]))).unwrap();
    end.receive(at(1), &greet(1, &hello(None, 1))[..20]).unwrap();
    assert_eq!(end.tick(at(10_000)), Err(LinkError::Silent));
    for greeting in [hello(None, 1), Greeting::Ping(1)] {
        let mut end = silent();
        end.receive(at(1), &greet(1, &greeting)).unwrap();
        assert_eq!(end.link.deadline(), None);
        assert_eq!(end.tick(at(10_000)), Ok(()));
    }
}

#[test]
fn floods_are_bounded() {
    let mut end = acceptor(Channel::Control, KeyRing::open());
    let pings: Vec<u8> = (0..2_000).flat_map(|number| greet(0, &Greeting::Ping(number))).collect();
    assert_eq!(end.receive(at(0), &pings), Err(LinkError::Flood));

    // However many hellos: handles are bounded by what is open here.
    let mut end = acceptor(Channel::Control, KeyRing::open());
    for round in 0..500 {
        end.receive(at(0), &greet(round, &hello(None, 1))).unwrap();
        end.receive(at(0), &greet(round, &hello(Some(cluster(1)), 1))).unwrap();
        end.transmit();
    }
    assert_eq!(end.link.handles().len(), 8);
    // Closing makes room again, and closing twice does nothing.
    for _ in 0..2 {
        let close = Greeting::Close { handle: 1, why: Closing::Changed };
        end.receive(at(0), &greet(0, &close)).unwrap();
    }
    assert_eq!(end.link.handles().len(), 7);
}

#[test]
fn an_opener_has_a_bounded_number_of_hellos_unanswered() {
    let mut opener = {
        let mut roster = Roster::default();
        for index in 0..1_000 {
            let namespace = Namespace::new(&format!("/{index}")).unwrap();
            roster.open(LocalNamespace { namespace, keys: KeyRing::open(), role: member(1, []) });
        }
        let outbound = Outbound::new(config(Channel::Control, 1, 2), at(0), &roster);
        let mut end = End::new(Link::Outbound(outbound));
        end.roster = roster;
        end
    };
    let mut other = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    other.roster = opener.roster.clone();
    let mut rounds = 0;
    while opener.link.handles().len() < 1_000 {
        let forward = opener.transmit();
        assert!(forward.len() <= 256 * 120, "{} bytes of hellos at once", forward.len());
        other.receive(at(0), &forward).unwrap();
        opener.receive(at(0), &other.transmit()).unwrap();
        rounds += 1;
        assert!(rounds <= 5);
    }
}

proptest! {
    #[test]
    fn any_bytes_end_the_stream_or_are_taken(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        inbound in any::<bool>(),
    ) {
        let mut pair = Pair::members(Channel::Control, key(1));
        pair.pump();
        pair.opener.take();
        pair.acceptor.take();
        let end = if inbound { &mut pair.acceptor } else { &mut pair.opener };
        for chunk in chunks {
            if end.receive(at(0), &chunk).is_err() { break; }
            end.transmit();
        }
        prop_assert!(end.bodies().is_empty());
    }

    #[test]
    fn any_fragments_end_the_stream_or_are_taken(
        fragments in proptest::collection::vec(
            (0..4u32, 0..4u32, proptest::collection::vec(any::<u8>(), 0..60)), 0..20),
        channel in 0..5usize,
    ) {
        let mut end = acceptor(Channel::ALL[channel], KeyRing::open());
        end.receive(at(0), &greet(1, &hello(None, 1))).unwrap();
        for (handle, message, bytes) in fragments {
            if end.receive(at(0), &frame(handle, message, &bytes)).is_err() { break; }
            end.transmit();
        }
    }

    #[test]
    fn a_damaged_sealed_conversation_yields_only_what_was_said(
        lengths in proptest::collection::vec(0..40_000usize, 1..6),
        at_byte in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in any::<bool>(),
    ) {
        let mut pair = Pair::members(Channel::Entries, key(1));
        pair.send(Scope::Free, opaque(0, 1));
        pair.pump();
        let mut said = pair.acceptor.bodies();
        let mut wire = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            pair.send(Scope::Free, opaque(index as u8, *length));
            said.push(opaque(index as u8, *length));
            loop {
                let out = pair.opener.transmit();
                if out.is_empty() { break; }
                wire.extend(out);
            }
        }
        let place = at_byte.index(wire.len());
        if cut { wire.remove(place); } else { wire[place] ^= flip; }
        let mut heard = vec![opaque(0, 1)];
        for chunk in wire.chunks(1_000) {
            let taken = pair.acceptor.receive(at(0), chunk);
            heard.extend(pair.acceptor.bodies());
            if taken.is_err() { break; }
        }
        prop_assert!(heard.len() < said.len() + 1);
        prop_assert_eq!(&heard[..], &said[..heard.len()]);
    }
}
