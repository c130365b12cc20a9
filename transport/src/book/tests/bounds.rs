//! What displaces what, and how much there is at most.

use proptest::{collection, prelude::*};

use super::*;

#[test]
fn no_evidence_displaces_better_evidence() {
    let mut book = book();
    let all = |from: u32| (from..from + 40).map(address);
    book.add(at(0), Some(node(1)), address(1), AddressSource::Configured).unwrap();
    arrives(&mut book, at(0), 9, &address(9));
    // The peer proves itself at an address; announcements and words come in any number.
    let remote = address(2);
    book.connected(
        at(0),
        Established { peer: node(1), remote: remote.clone(), dialled: true, dial: None },
    );
    for forged in all(100) {
        // Most are not taken.
        let _ = book.add(at(1), Some(node(1)), forged, AddressSource::LocalNetwork);
    }
    for round in 0..20 {
        let said: Vec<_> = all(200 + 40 * round).collect();
        book.hear(at(2), node(9), node(1), &said);
    }
    let known = sources(&book, at(3), 1);
    assert!(known.contains(&(address(1), AddressSource::Configured)), "{known:?}");
    assert!(known.contains(&(remote, AddressSource::FirstHand)), "{known:?}");
    assert!(known.len() <= 16);
    book.disconnected(at(60_000), node(1));
    let dial = book.poll(at(60_040)).unwrap();
    assert_eq!(dial.addresses[..2], [address(1), address(2)], "the best evidence comes first");
}

#[test]
fn forged_announcements_do_not_push_out_the_real_ones() {
    let mut book = book();
    let source = AddressSource::LocalNetwork;
    book.add(at(0), Some(node(1)), address(1), source).unwrap();
    for forged in 100..140 {
        // Most are not taken.
        let _ = book.add(at(1), Some(node(1)), address(forged), source);
    }
    let dial = book.poll(at(200)).unwrap();
    assert!(dial.addresses.contains(&address(1)));
    assert_eq!(dial.addresses.len(), 4);
    // Nor do forged ones that came first keep a real one out for ever: they fail.
    fails(&mut book, at(5_200), &dial, DialResult::Unreachable);
    book.add(at(5_300), Some(node(1)), address(2), source).unwrap();
    let dial = book.poll(at(10_000)).unwrap();
    assert!(dial.addresses.contains(&address(2)));
}

#[test]
fn an_address_where_another_peer_answers_gives_way() {
    let mut book = book();
    for (number, source) in [(1, AddressSource::Configured), (2, AddressSource::FirstHand)] {
        book.add(at(0), Some(node(1)), address(number), source).unwrap();
    }
    let dial = book.poll(at(100)).unwrap();
    let mistaken = DialResult::Mistaken { found: node(2) };
    book.failed(at(100), &dial, &[(address(2), mistaken)]);
    assert_eq!(sources(&book, at(100), 1), [(address(1), AddressSource::Configured)]);
    // What the operator gave stays, behind what may be right.
    book.failed(at(100), &dial, &[(address(1), mistaken)]);
    book.add(at(200), Some(node(1)), address(3), AddressSource::FirstHand).unwrap();
    assert_eq!(book.poll(at(3_000)).unwrap().addresses, [address(3)]);
    assert_eq!(sources(&book, at(3_000), 1).len(), 2);
}

#[test]
fn a_name_that_has_to_be_resolved_is_taken_from_the_operator_alone() {
    let mut book = book();
    let name: Multiaddr = "/dns4/example.com/tcp/4001".parse().unwrap();
    arrives(&mut book, at(0), 9, &address(9));
    let refused = Err(AddressRefusal::NotDialable);
    for source in [AddressSource::LocalNetwork, AddressSource::LocalMachine, hearsay(9)] {
        assert_eq!(book.add(at(0), Some(node(1)), name.clone(), source), refused);
    }
    assert_eq!(book.add(at(0), Some(node(1)), name, AddressSource::Configured), Ok(()));
}

#[test]
fn first_hand_evidence_ages_unless_the_peer_is_a_member() {
    let day = Duration::from_secs(24 * 3_600);
    let namespace = Namespace::new("/jobs").unwrap();
    let mut book = book();
    for number in 1..=2 {
        let (peer, remote) = (node(number), address(number));
        book.connected(at(0), Established { peer, remote, dialled: true, dial: None });
        book.disconnected(at(0), peer);
        assert_eq!(book.poll_changed(), Some(peer));
    }
    book.members(&namespace, [node(1)].into());
    let later = at(0).plus(30 * day);
    while let Some(dial) = book.poll(later) {
        fails(&mut book, later, &dial, DialResult::Unreachable);
    }
    assert_eq!(sources(&book, later, 1), [(address(1), AddressSource::FirstHand)]);
    assert_eq!(sources(&book, later, 2), []);
    assert_eq!((book.poll_changed(), book.poll_changed()), (Some(node(2)), None));
    assert!(book.is_wanted(node(1)) && !book.is_wanted(node(2)));
    book.members(&namespace, BTreeSet::new());
    book.poll(later.plus(day));
    assert!(book.is_empty(), "a member no more");
}

#[test]
fn only_members_and_configured_peers_pass_the_limit_on_peers() {
    let mut book = book();
    arrives(&mut book, at(0), 9, &address(9));
    book.hear(at(0), node(9), node(1), &[address(1)]);
    book.add(at(0), Some(node(2)), address(2), AddressSource::LocalNetwork).unwrap();
    book.add(at(0), Some(node(3)), address(3), AddressSource::FirstHand).unwrap();
    book.add(at(0), Some(node(4)), address(4), AddressSource::Configured).unwrap();
    book.members(&Namespace::new("/jobs").unwrap(), [node(5)].into());
    let wanted = (1..=9).filter(|number| book.is_wanted(node(*number)));
    assert_eq!(wanted.collect::<Vec<_>>(), [4, 5]);
}

/// Something that happens to a book; the numbers are of peers and addresses.
#[derive(Clone, Debug)]
enum Deed {
    Add(u32, u32, AddressSource),
    Hear(u32, u32, Vec<u32>),
    Connect(u32, bool),
    Disconnect(u32),
    Members(Vec<u32>),
    Dial(DialResult),
    Look(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    let source = prop_oneof![
        Just(AddressSource::Configured),
        Just(AddressSource::FirstHand),
        Just(AddressSource::LocalNetwork),
        Just(AddressSource::LocalMachine),
        (1_u32..40).prop_map(hearsay),
    ];
    let result = prop_oneof![
        Just(DialResult::Proved),
        Just(DialResult::Unreachable),
        Just(DialResult::TimedOut),
        Just(DialResult::Unproven),
        (0_u32..40).prop_map(|found| DialResult::Mistaken { found: node(found) }),
    ];
    prop_oneof![
        (1_u32..40, 1_u32..200, source).prop_map(|(peer, at, source)| Deed::Add(peer, at, source)),
        (1_u32..40, 1_u32..40, collection::vec(1_u32..200, 0..10))
            .prop_map(|(teller, peer, said)| Deed::Hear(teller, peer, said)),
        (1_u32..40, any::<bool>()).prop_map(|(peer, dialled)| Deed::Connect(peer, dialled)),
        (1_u32..40).prop_map(Deed::Disconnect),
        collection::vec(1_u32..40, 0..6).prop_map(Deed::Members),
        result.prop_map(Deed::Dial),
        any::<bool>().prop_map(Deed::Look),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold(
        deeds in collection::vec((deed(), 0_u64..400_000), 0..200),
    ) {
        let mut book = book();
        let mut now = at(0);
        let mut configured = BTreeSet::new();
        for (deed, passed) in deeds {
            now = now.plus(Duration::from_millis(passed));
            match deed {
                Deed::Add(peer, number, source) => {
                    let taken = book.add(now, Some(node(peer)), address(number), source);
                    if source == AddressSource::Configured && taken.is_ok() {
                        configured.insert((node(peer), address(number)));
                    }
                }
                Deed::Hear(teller, peer, said) => {
                    let said: Vec<_> = said.into_iter().map(address).collect();
                    book.hear(now, node(teller), node(peer), &said);
                }
                Deed::Connect(peer, dialled) => {
                    let (peer, remote) = (node(peer), address(peer));
                    book.connected(now, Established { peer, remote, dialled, dial: None });
                }
                Deed::Disconnect(peer) => book.disconnected(now, node(peer)),
                Deed::Members(members) => {
                    let members = members.into_iter().map(node).collect();
                    book.members(&Namespace::new("/jobs").unwrap(), members);
                }
                Deed::Dial(result) => {
                    let Some(dial) = book.poll(now) else { continue };
                    match (result, &dial.target) {
                        (DialResult::Proved, Target::Peer(peer)) if dial.is_probe() => {
                            book.probed(now, *peer, &dial);
                        }
                        (DialResult::Proved, Target::Peer(peer)) => {
                            let peer = *peer;
                            succeeds(&mut book, now, dial, peer);
                        }
                        _ => fails(&mut book, now, &dial, result),
                    }
                }
                Deed::Look(shares) => {
                    let all: Vec<_> = (1..40).map(|number| (node(number), shares)).collect();
                    book.look(now, all.into_iter(), false, Duration::from_secs(60));
                }
            }
            let entries: Vec<_> = book.entries(now).collect();
            for (peer, address) in &configured {
                prop_assert!(entries.iter().any(|entry| entry.peer == Some(*peer)
                    && entry.address == *address && entry.source == AddressSource::Configured));
            }
            for number in 1..40 {
                let listed = entries.iter().filter(|entry| entry.peer == Some(node(number)));
                prop_assert!(listed.count() <= 16);
            }
            // A deadline that has passed is one on which something is done.
            for _ in 0..1_000 {
                if book.deadline().is_none_or(|deadline| deadline > now) {
                    break;
                }
                if let Some(dial) = book.poll(now) {
                    fails(&mut book, now, &dial, DialResult::Unreachable);
                }
            }
            prop_assert!(book.deadline().is_none_or(|deadline| deadline > now));
        }
    }
}

#[test]
fn any_number_of_peers_met_in_person_leaves_room_for_the_next_and_for_members() {
    let mut book = book();
    book.members(&Namespace::new("/jobs").unwrap(), [node(1)].into());
    for number in 1..5_000 {
        let (peer, remote) = (node(number), address(number));
        let now = at(u64::from(number));
        book.connected(now, Established { peer, remote, dialled: true, dial: None });
        book.disconnected(now, peer);
        assert_eq!(book.proven(peer), [address(number)]);
    }
    assert_eq!(book.len(), 1_024 + 1);
    assert_eq!(book.proven(node(1)), [address(1)], "the member that was met first");
    assert!(book.proven(node(2)).is_empty(), "the oldest of the others made room");
    assert!(book.bytes() < 1024 * 1024, "{} bytes", book.bytes());
}
