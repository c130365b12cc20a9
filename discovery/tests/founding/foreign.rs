//! Bytes from peers: nothing in them panics a decoder, outgrows a bound or is taken for another.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, Incarnation, Index, Member, NodeId};
use meshraft_discovery::{
    Ballot, Departure, FounderSet, Record,
    peers::{Address, AddressError, Exchange, ExchangeError, PeerMap},
    wire::{Binding, Message, NotAdmitted, Refusal, Standing, WireError},
};
use proptest::{collection, option, prelude::*};

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::new)
}

fn cluster() -> impl Strategy<Value = ClusterId> {
    any::<[u8; 32]>().prop_map(ClusterId::new)
}

fn member() -> impl Strategy<Value = Member> {
    (node(), any::<[u8; 16]>())
        .prop_map(|(node, incarnation)| Member::new(node, Incarnation::new(incarnation)))
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), node()).prop_map(|(counter, coordinator)| Ballot { counter, coordinator })
}

fn founders() -> impl Strategy<Value = FounderSet> {
    (1..u64::MAX, collection::btree_set(member(), 1..=FounderSet::MEMBERS_MAX)).prop_map(
        |(counter, members)| {
            let coordinator = members.first().unwrap().node;
            FounderSet::new(Ballot { counter, coordinator }, members).unwrap()
        },
    )
}

fn standing() -> impl Strategy<Value = Standing> {
    let binding = prop_oneof![
        Just(Binding::Free),
        Just(Binding::Joining),
        cluster().prop_map(|cluster| Binding::Founding { cluster }),
        cluster().prop_map(|cluster| Binding::Living { cluster }),
    ];
    (ballot(), any::<u16>(), binding).prop_map(|(seen, expect, binding)| Standing {
        seen,
        expect: core::num::NonZeroU16::new(expect),
        binding,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let refusal = prop_oneof![
        Just(Refusal::Dead),
        Just(Refusal::Stale),
        cluster().prop_map(|to| Refusal::Bound { to }),
        cluster().prop_map(|of| Refusal::Member { of }),
    ];
    let admitted = collection::btree_set(member(), 0..=Message::MEMBERS_MAX);
    prop_oneof![
        standing().prop_map(Message::Canvass),
        standing().prop_map(Message::CanvassAnswer),
        founders().prop_map(Message::Propose),
        cluster().prop_map(|cluster| Message::Promised { cluster }),
        (cluster(), refusal, standing()).prop_map(|(cluster, why, standing)| Message::Refused {
            cluster,
            why,
            standing
        }),
        cluster().prop_map(|cluster| Message::Join { cluster }),
        (cluster(), member(), any::<u64>(), admitted).prop_map(
            |(cluster, member, index, members)| Message::Admitted {
                cluster,
                member,
                index: Index::new(index),
                members,
                cards: Vec::new(),
            }
        ),
        cluster().prop_map(|cluster| Message::NotAdmitted { cluster, why: NotAdmitted::NoLeader }),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    collection::vec(any::<u8>(), 1..=Address::BYTES_MAX)
        .prop_map(|bytes| Address::new(bytes).unwrap())
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let addresses = collection::btree_set(address(), 0..=3);
    collection::btree_map(node(), addresses, 0..=16).prop_map(|nodes| Exchange { nodes })
}

proptest! {
    #[test]
    fn every_message_survives_its_encoding(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn foreign_bytes_are_refused_or_mean_themselves(bytes in collection::vec(any::<u8>(), 0..400)) {
        // Encodings are not unique (a number may be padded), so only what was meant is compared.
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
        if let Ok(exchange) = Exchange::decode(&bytes) {
            prop_assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange));
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_message(
        message in message(), at in any::<prop::sample::Index>(), change in 1..=255_u8,
    ) {
        let mut bytes = message.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(other) = Message::decode(&bytes) {
            prop_assert_ne!(other, message);
        }
        let cut = Message::decode(&bytes[..at]);
        prop_assert!(cut.is_err());
    }

    #[test]
    fn every_record_survives_its_encoding(
        seen in ballot(), promise in option::of(founders()), cluster in option::of(cluster()),
        forced: bool, former in option::of(cluster()), left in option::of(any::<bool>()),
    ) {
        let departed = left.map(|left| if left { Departure::Left } else { Departure::Removed });
        let record = Record { seen, promise, cluster, forced, former, departed };
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_peer_map_stays_within_its_bounds(
        told in collection::vec((any::<u8>(), exchange()), 0..40),
        own in collection::vec(address(), 0..20),
    ) {
        let me = NodeId::new([0; 32]);
        let mut map = PeerMap::new(me);
        for address in own {
            map.learn(me, address);
        }
        let mine: Vec<_> = map.addresses(me).cloned().collect();
        for (from, exchange) in &told {
            let from = NodeId::new([*from; 32]);
            for (node, address) in map.merge(from, exchange) {
                prop_assert_ne!(node, me);
                prop_assert!(map.addresses(node).any(|known| *known == address));
            }
        }
        prop_assert!(map.nodes().count() <= PeerMap::NODES_MAX);
        for node in map.nodes() {
            prop_assert!(map.addresses(node).count() <= PeerMap::ADDRESSES_MAX);
        }
        prop_assert!(map.addresses(me).eq(&mine));
        // What is told adds up to everything but the listener itself, each exchange within bounds.
        let to = NodeId::new([1; 32]);
        let mut heard = BTreeMap::<_, BTreeSet<_>>::new();
        while let Some(exchange) = map.tell(to) {
            prop_assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange.clone()));
            heard.extend(exchange.nodes);
        }
        let known = |node| (node, map.addresses(node).cloned().collect());
        let all: BTreeMap<_, _> = map.nodes().filter(|node| *node != to).map(known).collect();
        prop_assert_eq!(heard, all);
    }
}

#[test]
fn lengths_are_refused_by_name() {
    let long = vec![1; Message::BYTES_MAX + 1];
    let bytes = long.len();
    assert_eq!(Message::decode(&long), Err(WireError::TooLong { bytes }));
    assert_eq!(Message::decode(&[]), Err(WireError::Empty));
    for version in [0, 1, 3] {
        // An older peer's admission lacks where it was committed.
        assert_eq!(Message::decode(&[version, 0]), Err(WireError::Version { found: version }));
    }
    let long = vec![1; Exchange::BYTES_MAX + 1];
    let bytes = long.len();
    assert_eq!(Exchange::decode(&long), Err(ExchangeError::TooLong { bytes }));
    assert_eq!(Address::new(vec![0; 513]), Err(AddressError::TooLong { bytes: 513 }));
    assert_eq!(Address::new(vec![]), Err(AddressError::Empty));
    // A count that the bytes cannot hold is refused without being believed.
    let boast = [&[2, 6][..], &[0; 32], &[0; 48], &[0], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(Message::decode(&boast), Err(WireError::Malformed(_))));
}

#[test]
fn hearsay_never_displaces_what_is_known_at_first_hand() {
    let node = |number: u16| {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::new(key)
    };
    let address = |text: &str| Address::new(text.as_bytes().to_vec()).unwrap();
    let mut map = PeerMap::new(node(0));
    assert!(map.learn(node(1), address("first")));
    assert!(!map.learn(node(1), address("first")));
    // A flood of invented nodes fills the map, and no more.
    for batch in 0..40 {
        let nodes =
            (0..64).map(|it| (node(100 + batch * 64 + it), BTreeSet::from([address("invented")])));
        map.merge(node(2), &Exchange { nodes: nodes.collect() });
    }
    assert_eq!(map.nodes().count(), PeerMap::NODES_MAX);
    // A node that is met in person still finds a place.
    assert!(map.learn(node(3), address("met")));
    assert_eq!(map.nodes().count(), PeerMap::NODES_MAX);
    assert_eq!(map.addresses(node(1)).collect::<Vec<_>>(), [&address("first")]);
    // What others say about a node adds to what it said itself and replaces nothing.
    for number in 0..20 {
        let said = BTreeSet::from([address(&format!("said {number}"))]);
        map.merge(node(2), &Exchange { nodes: BTreeMap::from([(node(1), said)]) });
    }
    assert_eq!(map.addresses(node(1)).count(), PeerMap::ADDRESSES_MAX);
    assert!(map.addresses(node(1)).any(|known| *known == address("first")));
    // Its own word displaces the oldest.
    for number in 0..8 {
        let own = BTreeSet::from([address(&format!("own {number}"))]);
        map.merge(node(1), &Exchange { nodes: BTreeMap::from([(node(1), own)]) });
    }
    assert_eq!(map.addresses(node(1)).next(), Some(&address("own 7")));
    assert!(!map.addresses(node(1)).any(|known| *known == address("first")));
}

#[test]
fn a_peer_is_told_each_thing_once_until_it_is_gone() {
    let [me, a, b] = [0, 1, 2].map(|number| NodeId::new([number; 32]));
    let address = |text: &str| Address::new(text.as_bytes().to_vec()).unwrap();
    let mut map = PeerMap::new(me);
    map.learn(me, address("mine"));
    map.learn(a, address("of a"));
    let first = map.tell(a).unwrap();
    assert_eq!(first.nodes.keys().collect::<Vec<_>>(), [&me]);
    assert_eq!(map.tell(a), None);
    map.learn(b, address("of b"));
    let news = map.tell(a).unwrap();
    assert_eq!(news.nodes.keys().collect::<Vec<_>>(), [&b]);
    map.disconnected(a);
    let again = map.tell(a).unwrap();
    assert_eq!(again.nodes.len(), 2);
    // The other end learns the teller's own addresses and those of others.
    let mut other = PeerMap::new(a);
    let new = other.merge(me, &again);
    assert_eq!(new, [(me, address("mine")), (b, address("of b"))]);
    assert_eq!(other.merge(me, &again), []);
}
