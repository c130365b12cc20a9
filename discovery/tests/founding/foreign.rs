//! Bytes from peers: nothing in them panics a decoder, outgrows a bound or is taken for another.

use meshraft_consensus::{ClusterId, Incarnation, Index, Member, NodeId};
use meshraft_discovery::{
    Ballot, Departure, FounderSet, Record,
    peers::{Address, AddressError, Exchange, ExchangeError},
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
    (
        any::<u64>(),
        collection::btree_set(address(), 0..=3),
        collection::btree_map(node(), addresses, 0..=16),
    )
        .prop_map(|(version, own, nodes)| Exchange { version, own, nodes })
}

proptest! {
    #[test]
    fn every_message_survives_its_encoding(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn every_exchange_survives_its_encoding(exchange in exchange()) {
        prop_assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange));
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
    assert_eq!(Exchange::decode(&[1, 0]), Err(ExchangeError::Version { found: 1 }));
    assert_eq!(Address::new(vec![0; 513]), Err(AddressError::TooLong { bytes: 513 }));
    assert_eq!(Address::new(vec![]), Err(AddressError::Empty));
    // A count that the bytes cannot hold is refused without being believed.
    let boast = [&[2, 6][..], &[0; 32], &[0; 48], &[0], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(Message::decode(&boast), Err(WireError::Malformed(_))));
}
