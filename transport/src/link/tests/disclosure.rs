//! What a stranger hears from a node whose namespaces have keys: every byte of it.

use super::*;
use crate::{
    error::Refusal,
    tag::{Tag, TagKey},
};

const NAME: &str = "/payroll-of-acme";

fn secret() -> NamespaceKey {
    NamespaceKey::new([7; 32])
}

fn name() -> Namespace {
    Namespace::new(NAME).unwrap()
}

/// Bytes that the node of this test must keep to itself, with what they are.
fn secrets() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("the name", NAME.as_bytes().to_vec()),
        ("its hash", NamespaceHash::of(&name()).as_bytes().to_vec()),
        ("the key id", (0..8).map(key_id_byte).collect()),
        ("the incarnation", vec![0xd5; 16]),
        ("the cluster", vec![0xc5; 32]),
        ("the version of commands", 7_777_u16.to_be_bytes().to_vec()),
        ("the version of commands, as a varint", vec![0xe1, 0x3c]),
    ]
}

fn key_id_byte(at: usize) -> u8 {
    let digits = secret().id().to_string();
    u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()
}

fn role() -> LocalRole {
    LocalRole::Member {
        incarnation: Incarnation::new([0xd5; 16]),
        clusters: [(cluster(0xc5), known(5, [life(66, 1)]))].into(),
        supports: ClusterVersion::new(7_777),
    }
}

fn assert_silent(bytes: &[u8]) {
    for (what, secret) in secrets() {
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{what} was told");
    }
}

fn end(link: Link, role: LocalRole) -> End {
    let mut end = End::new(link);
    end.open_as(at(0), name(), secret().into(), role);
    end
}

fn acceptor(channel: Channel) -> End {
    end(Link::Inbound(Inbound::new(config(channel, 1, 66), at(0))), role())
}

fn opener(channel: Channel, role: LocalRole) -> End {
    let link = Outbound::new(config(channel, 1, 66), at(0), &Roster::default());
    end(Link::Outbound(link), role)
}

/// Queues what a node may send on a channel, so that it says hello for it.
fn queue(end: &mut End, channel: Channel) {
    let is_client = end.roster.iter().any(|local| local.role == LocalRole::Client);
    for scope in [Scope::Free, Scope::Cluster(cluster(0xc5))] {
        if is_client && scope != Scope::Free {
            continue;
        }
        let End { link, roster, .. } = &mut *end;
        let Link::Outbound(outbound) = link else { panic!("the accepting end") };
        if channel.asks() {
            let (id, payload) = (RequestId::new(1), Bytes::from_static(b"question"));
            let (namespace, timeout) = (name(), Duration::from_secs(1));
            let question = Question { id, namespace, scope, payload, timeout };
            outbound.request(at(0), roster, question);
        } else {
            let (incarnation, body) = (None, opaque(1, 10));
            let outgoing = Outgoing { namespace: name(), scope, incarnation, body };
            outbound.send(at(0), roster, outgoing).unwrap();
        }
    }
}

/// All that a node says of itself on its own streams until it gives up.
fn said_by_opener(channel: Channel, role: LocalRole) -> Vec<u8> {
    let mut end = opener(channel, role);
    queue(&mut end, channel);
    let mut said = Vec::new();
    for _ in 0..4 {
        let out = end.transmit();
        for (message, greeting) in greetings(&out) {
            if matches!(greeting, Greeting::Hello(_)) {
                let refused = Greeting::Refused(Refusal::KeyMismatch);
                end.receive(at(0), &greet(message, &refused)).unwrap();
            }
        }
        said.extend(out);
    }
    said
}

#[test]
fn a_node_tells_a_stranger_nothing_of_its_own_accord() {
    for channel in Channel::ALL {
        let said = said_by_opener(channel, role());
        assert_silent(&said);
        let hellos = greetings(&said).into_iter();
        let lengths = |(_, greeting): (u32, Greeting)| match greeting {
            Greeting::Hello(_) => Some(greeting.encode().len()),
            _ => None,
        };
        let lengths: BTreeSet<_> = hellos.filter_map(lengths).collect();
        assert!(lengths.len() <= 1, "a hello in a cluster looks like one without: {lengths:?}");
    }
    assert_silent(&said_by_opener(Channel::Command, LocalRole::Client));
    let length = |role| said_by_opener(Channel::Command, role).len();
    assert!(length(LocalRole::Client) > 200, "it says hello");
}

/// What the acceptor answers to one greeting after the stream was begun.
fn answered(end: &mut End, greeting: &Greeting) -> Vec<u8> {
    end.receive(at(0), &greet(7, greeting)).unwrap();
    end.transmit()
}

fn tagged(tag: Tag) -> Greeting {
    let space = Space::Keyed { tag, sealed: vec![9; 144] };
    Greeting::Hello(Hello { oldest: 2, newest: 2, random: [9; 32], space })
}

fn open(namespace: &Namespace, facts: Facts, scope: Option<ClusterId>) -> Greeting {
    let (committed, cards) = (Index::ZERO, Vec::new());
    let introduction = Introduction { scope, facts, committed, cards };
    let space = Space::Open { namespace: NamespaceHash::of(namespace), introduction };
    Greeting::Hello(Hello { oldest: 2, newest: 2, random: [9; 32], space })
}

#[test]
fn a_stranger_that_asks_hears_one_refusal_whatever_it_asks_for() {
    let member = |clusters| Facts::Member {
        incarnation: Incarnation::new([6; 16]),
        clusters,
        supports: ClusterVersion::BASELINE,
    };
    let stream = crate::tag::StreamNames {
        opener: NodeId::new([66; 32]),
        acceptor: NodeId::new([1; 32]),
        random: [3; 32],
    };
    let under =
        |key: u8, name: &Namespace| TagKey::of(&NamespaceKey::new([key; 32])).tag(name, &stream);
    let other = Namespace::new("/no-such-name").unwrap();
    let asked = [
        // A wrong key and the right name, any key and an unknown name, the tag of the right key
        // without the key: no tag at all is closer.
        tagged(under(8, &name())),
        tagged(under(8, &other)),
        tagged(under(7, &other)),
        tagged(under(7, &name())),
        tagged(Tag::new([0; 32])),
        // The right name and an unknown one in clear.
        open(&name(), Facts::Client, None),
        open(&other, Facts::Client, None),
        open(&name(), member(vec![]), None),
        open(&other, member(vec![]), None),
        open(&name(), member(vec![cluster(0xc5)]), Some(cluster(0xc5))),
        open(&other, member(vec![cluster(0xc5)]), Some(cluster(0xc5))),
    ];
    for channel in Channel::ALL {
        let mut told = BTreeSet::new();
        for greeting in &asked {
            let mut end = acceptor(channel);
            end.receive(at(0), &greet(0, &Greeting::Begin(stream.random))).unwrap();
            let answer = answered(&mut end, greeting);
            assert_silent(&answer);
            told.insert(answer);
            assert!(end.link.handles().is_empty());
        }
        let refused = greet(7, &Greeting::Refused(Refusal::KeyMismatch));
        assert_eq!(told, BTreeSet::from([refused]), "{channel}: every byte");
    }
}

#[test]
fn a_whole_conversation_with_a_stranger_that_holds_another_key_tells_nothing() {
    let mut heard = Vec::new();
    for channel in Channel::ALL {
        let theirs = |link| {
            let mut end = End::new(link);
            let role = member_with(66, [(0xc5, known(5, [life(1, 1)]))]);
            end.open_as(at(0), name(), key(8), role);
            end
        };
        let outbound = Outbound::new(config(channel, 66, 1), at(0), &Roster::default());
        let mut asks = theirs(Link::Outbound(outbound));
        let mut answers = theirs(Link::Inbound(Inbound::new(config(channel, 66, 1), at(0))));
        let (mut inbound, mut outbound) = (acceptor(channel), opener(channel, role()));
        queue(&mut outbound, channel);
        for _ in 0..4 {
            inbound.receive(at(0), &asks.transmit()).unwrap();
            let told = inbound.transmit();
            asks.receive(at(0), &told).unwrap();
            heard.extend(told);
            let told = outbound.transmit();
            answers.receive(at(0), &told).unwrap();
            outbound.receive(at(0), &answers.transmit()).unwrap();
            heard.extend(told);
        }
        assert!(inbound.link.handles().is_empty() && outbound.link.handles().is_empty());
    }
    assert!(heard.len() > 10 * 200, "ten hellos: {} bytes", heard.len());
    assert_silent(&heard);
}

#[test]
fn a_node_without_keys_says_that_it_does_not_know_a_name() {
    let mut end = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 1, 66), at(0))));
    let unknown = greet(7, &Greeting::Refused(Refusal::UnknownNamespace));
    assert_eq!(answered(&mut end, &open(&name(), Facts::Client, None)), unknown);
}

#[test]
fn a_peer_of_version_1_is_refused_by_name() {
    // Recorded: hellos of version 1, of a member under a key and of a client in the open.
    let hash = NamespaceHash::of(&name());
    let recorded = [
        [
            &[1, 0, 1, 1][..],
            hash.as_bytes(),
            &[1],
            &[5; 8],
            &[0xbb; 32],
            &[0, 1],
            &[6; 16],
            &[0, 1],
        ]
        .concat(),
        [&[1, 0, 1, 1][..], &[4; 32], &[0], &[0xbb; 32], &[0, 0]].concat(),
    ];
    for (hello, told) in recorded.iter().zip([1, 0]) {
        let mut end = acceptor(Channel::Control);
        end.receive(at(0), &frame(0, 7, hello)).unwrap();
        // The bytes that a node of version 1 reads as this refusal.
        assert_eq!(end.transmit(), frame(0, 7, &[1, 2, 4, 2, 2]));
        let why = Refusal::Version { oldest: 2, newest: 2 };
        let refused = LinkEvent::Refused { namespace: name(), scope: Scope::Free, why };
        assert_eq!(end.take(), vec![refused; told], "told where the name is known");
        // The stream goes on.
        assert_eq!(end.tick(at(20_000)), Ok(()));
        end.receive(at(0), &greet(1, &Greeting::Ping(1))).unwrap();
        assert_eq!(greetings(&end.transmit()), [(1, Greeting::Pong(1))]);
    }
}

#[test]
fn tags_are_computed_only_so_often_for_a_peer() {
    // As many namespaces as one second of one peer is worth.
    let mut roster = Roster::default();
    for number in 0..16_384 {
        let namespace = Namespace::new(&format!("/{number}")).unwrap();
        roster.open(LocalNamespace { namespace, keys: secret().into(), role: LocalRole::Client });
    }
    let config = config(Channel::Control, 1, 66);
    let refusals = |now| {
        // A new stream each time.
        let mut end = End::new(Link::Inbound(Inbound::new(config.clone(), at(now))));
        end.roster = roster.clone();
        end.receive(at(now), &greet(0, &Greeting::Begin([3; 32]))).unwrap();
        end.receive(at(now), &greet(7, &tagged(Tag::new([0; 32])))).unwrap();
        greetings(&end.transmit()).remove(0).1
    };
    let (mismatch, limit) = (Refusal::KeyMismatch, Refusal::Limit);
    for why in [&mismatch, &mismatch, &mismatch, &mismatch, &limit, &limit] {
        assert_eq!(refusals(0), Greeting::Refused(why.clone()));
    }
    assert_eq!(refusals(1_000), Greeting::Refused(mismatch));
    assert_eq!(refusals(1_000), Greeting::Refused(limit));
}
