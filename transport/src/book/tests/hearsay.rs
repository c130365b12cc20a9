//! What a peer's word may make this node do.

use super::*;

const TELLER: u32 = 900;

/// Hearsay names 64 peers at one address where somebody listens who is none of them. Returns how
/// often it was dialled.
fn bystander(
    book: &mut Book,
    teller: u32,
    minutes: u64,
    at_place: impl Fn(u32) -> Multiaddr,
) -> u32 {
    let mut dialled = 0;
    for now in (0..minutes * 60_000).step_by(100) {
        // The teller repeats itself every second.
        if now % 1_000 == 0 {
            for number in 1..=64 {
                book.hear(at(now), node(teller), node(number), &[at_place(number)]);
            }
        }
        while let Some(dial) = book.poll(at(now)) {
            dialled += 1;
            fails(book, at(now), &dial, DialResult::Unproven);
        }
    }
    dialled
}

#[test]
fn one_tellers_word_makes_no_flood_on_a_bystander() {
    let mut book = book();
    arrives(&mut book, at(0), TELLER, &port(1));
    assert_eq!(bystander(&mut book, TELLER, 5, |_| port(4_242)), 1, "one port");
    let mut book = super::book();
    arrives(&mut book, at(0), TELLER, &port(1));
    let ports = |number| port(5_000 + u16::try_from(number).unwrap());
    assert_eq!(bystander(&mut book, TELLER, 5, ports), 4, "one machine");
}

#[test]
fn tellers_have_a_budget_each_and_all_together() {
    let mut book = book();
    arrives(&mut book, at(0), TELLER, &port(1));
    let machines = |number| address(number);
    let dialled = bystander(&mut book, TELLER, 1, machines);
    assert_eq!(dialled, 8, "a minute, for one teller");
    let mut book = super::book();
    let mut dialled = 0;
    for teller in 1_000..1_100 {
        arrives(&mut book, at(0), teller, &address(teller));
        for number in 0..8 {
            let place = address(teller * 100 + number);
            book.hear(at(0), node(teller), node(teller * 100 + number), &[place]);
        }
    }
    for now in (0..60_000).step_by(100) {
        while let Some(dial) = book.poll(at(now)) {
            dialled += 1;
            fails(&mut book, at(now), &dial, DialResult::Unproven);
        }
    }
    assert_eq!(dialled, 32, "a minute, for all tellers");
}

#[test]
fn a_word_that_proves_true_costs_nothing() {
    let mut book = book();
    arrives(&mut book, at(0), TELLER, &port(1));
    let mut reached = 0;
    for number in 1..=60_u16 {
        let (peer, place) = (u32::from(number), port(5_000 + number));
        book.hear(at(0), node(TELLER), node(peer), std::slice::from_ref(&place));
        while let Some(dial) = book.poll(at(1)) {
            assert!(dial.is_hearsay());
            reached += 1;
            succeeds(&mut book, at(1), dial, node(peer));
        }
        assert_eq!(sources(&book, at(1), peer), [(place, AddressSource::FirstHand)]);
    }
    assert_eq!(reached, 60);
}

#[test]
fn a_lie_about_a_peer_does_not_block_the_truth_about_its_place() {
    let mut book = book();
    arrives(&mut book, at(0), TELLER, &port(1));
    book.hear(at(0), node(TELLER), node(1), &[port(7)]);
    let dial = book.poll(at(0)).unwrap();
    fails(&mut book, at(0), &dial, DialResult::Mistaken { found: node(2) });
    book.hear(at(1), node(TELLER), node(3), &[port(7)]);
    book.hear(at(1), node(TELLER), node(2), &[port(7)]);
    let dial = book.poll(at(1)).unwrap();
    assert_eq!(dial.target, Target::Peer(node(2)), "it is there indeed");
    assert_eq!(book.poll(at(1)), None);
}

#[test]
fn addresses_of_the_tellers_own_machine_or_network_are_refused() {
    let mut book = book();
    let public: Multiaddr = "/ip4/8.8.8.8/tcp/4001".parse().unwrap();
    arrives(&mut book, at(0), 901, &address(9));
    arrives(&mut book, at(0), 902, &public);
    let refused = book.hear(at(0), node(901), node(1), &[port(1), address(5)]);
    assert_eq!(refused, [(port(1), AddressRefusal::OfAnotherMachine)]);
    let refused = book.hear(at(0), node(902), node(2), &[port(1), address(6), public.clone()]);
    let why = [AddressRefusal::OfAnotherMachine, AddressRefusal::OfAnotherNetwork];
    assert_eq!(refused, [(port(1), why[0]), (address(6), why[1])]);
    let dialled: Vec<_> =
        std::iter::from_fn(|| book.poll(at(0))).map(|dial| dial.addresses).collect();
    assert_eq!(dialled, [[address(5)], [public]]);
}

#[test]
fn hearsay_expires_soon_and_a_teller_may_take_it_back() {
    let mut book = book();
    arrives(&mut book, at(0), TELLER, &port(1));
    book.hear(at(0), node(TELLER), node(1), &[port(7), port(8)]);
    book.hear(at(1), node(TELLER), node(1), &[port(8)]);
    assert_eq!(sources(&book, at(1), 1), [(port(8), hearsay(TELLER))]);
    book.poll(at(700_000));
    assert_eq!(sources(&book, at(700_000), 1), []);
}

#[test]
fn a_connected_peers_own_word_is_proven_by_a_probe() {
    let mut book = book();
    arrives(&mut book, at(0), 1, &port(50_000));
    book.hear(at(0), node(1), node(1), &[port(7)]);
    assert_eq!(book.proven(node(1)), [] as [Multiaddr; 0], "its word alone proves nothing");
    let probe = book.poll(at(0)).unwrap();
    assert!(probe.is_probe());
    book.probed(at(0), node(1), &probe);
    assert_eq!(book.proven(node(1)), [port(7)]);
    assert_eq!(book.poll_changed(), Some(node(1)));
    // What others say of a connected peer is not tried.
    arrives(&mut book, at(0), TELLER, &port(1));
    book.hear(at(0), node(TELLER), node(1), &[port(8)]);
    assert_eq!(book.poll(at(1)), None);
}

#[test]
fn an_address_that_its_owner_takes_back_is_forgotten_also_if_it_was_proven() {
    let mut book = book();
    arrives(&mut book, at(0), 1, &port(50_000));
    book.hear(at(0), node(1), node(1), &[port(7), port(8)]);
    while let Some(probe) = book.poll(at(0)) {
        book.probed(at(0), node(1), &probe);
    }
    assert_eq!(book.proven(node(1)).len(), 2);
    // After a restart the peer listens elsewhere.
    book.disconnected(at(60_000), node(1));
    arrives(&mut book, at(60_100), 1, &port(50_001));
    book.hear(at(60_100), node(1), node(1), &[port(8), port(9)]);
    assert_eq!(book.proven(node(1)), [port(8)]);
}

#[test]
fn the_teller_that_says_most_gives_way_first() {
    let mut book = book();
    // Twenty liars name as many peers as they may; an honest peer names three.
    arrives(&mut book, at(0), TELLER, &port(1));
    for number in 1..=3 {
        book.hear(at(0), node(TELLER), node(number), &[address(number)]);
    }
    for liar in 1_000..1_020 {
        arrives(&mut book, at(0), liar, &address(liar));
        for number in 0..200 {
            let place = address(liar * 1_000 + number);
            book.hear(at(0), node(liar), node(liar * 1_000 + number), &[place]);
        }
    }
    assert!(book.len() <= 1_024, "{}", book.len());
    for number in 1..=3 {
        assert_eq!(sources(&book, at(0), number), [(address(number), hearsay(TELLER))]);
    }
}
