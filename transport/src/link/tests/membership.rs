//! Membership is proved and never claimed: who gets a handle in a cluster's scope, at both ends.

use meshraft_consensus::{Card, CardError};

use super::*;
use crate::error::Refusal;

const SCOPE: Scope = Scope::Cluster(ClusterId::new([1; 32]));

fn signer(byte: u8) -> NodeSignatures {
    NodeSignatures::of_byte(byte)
}

/// A member whose key signs.
fn signing(byte: u8) -> Member {
    Member::new(signer(byte).node(), Incarnation::new([byte; 16]))
}

/// `by` says that the configuration of cluster 1 at `index` has `named`.
fn card(by: u8, named: Member, index: u64) -> Card {
    let of = (Index::new(index), named);
    Card::sign(&signer(by), &jobs(), cluster(1), of, signer(by).node())
}

/// Opener and acceptor with what each knows of cluster 1.
fn pair(opener: KnownMembers, acceptor: KnownMembers) -> Pair {
    keyed_pair(KeyRing::open(), opener, acceptor)
}

fn keyed_pair(keys: KeyRing, opener: KnownMembers, acceptor: KnownMembers) -> Pair {
    let mut pair = Pair::new(Channel::Control);
    pair.acceptor.open(at(0), keys.clone(), member_with(2, [(1, acceptor)]));
    pair.opener.open(at(0), keys, member_with(1, [(1, opener)]));
    pair.pump();
    pair.opener.take();
    pair.acceptor.take();
    pair
}

fn both() -> [Member; 2] {
    [life(1, 1), life(2, 2)]
}

fn holding(mut known: KnownMembers, cards: impl IntoIterator<Item = Card>) -> KnownMembers {
    known.cards = cards.into_iter().collect();
    known
}

fn not_a_member(index: u64) -> Refusal {
    Refusal::NotAMember { index: Index::new(index) }
}

fn unknown_member(index: u64, why: CardError) -> Refusal {
    Refusal::UnknownMember { index: Index::new(index), why }
}

/// What was refused in the scope of a cluster.
fn refused(end: &mut End) -> Vec<Refusal> {
    let why = |event| match event {
        LinkEvent::Refused { why, scope, .. } => {
            assert_eq!(scope, SCOPE);
            Some(why)
        }
        LinkEvent::Received { .. } => panic!("{event:?}"),
        _ => None,
    };
    end.take().into_iter().filter_map(why).collect()
}

fn vouched(events: &[LinkEvent]) -> Vec<(Member, u64, usize)> {
    let vouched = |event: &LinkEvent| match event {
        LinkEvent::Vouched { member, at, cards, .. } => Some((*member, at.get(), cards.len())),
        _ => None,
    };
    events.iter().filter_map(vouched).collect()
}

/// Whether a message in the scope of the cluster arrives.
fn arrives(pair: &mut Pair, round: u64) -> bool {
    pair.send(SCOPE, heartbeat(round));
    pair.pump();
    pair.acceptor.bodies() == [heartbeat(round)]
}

fn scoped_handles(end: &End) -> usize {
    end.link.handles().iter().filter(|handle| handle.scope == SCOPE).count()
}

#[test]
fn a_stranger_that_echoes_a_cluster_id_gets_no_handle() {
    for keys in [KeyRing::open(), key(7)] {
        let mut pair = keyed_pair(keys, known(3, both()), known(5, [life(2, 2), life(3, 3)]));
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        assert_eq!(refused(&mut pair.opener), [not_a_member(5)]);
        assert_eq!(refused(&mut pair.acceptor), [not_a_member(5)]);
        assert_eq!([scoped_handles(&pair.opener), scoped_handles(&pair.acceptor)], [0, 0]);
    }
}

#[test]
fn only_the_exact_incarnation_is_a_member() {
    // The configuration has a newer, or an older, life of the opener's node.
    for incarnation in [0, 9] {
        let acceptor = known(5, [life(2, 2), life(1, incarnation)]);
        let mut pair = pair(known(5, both()), acceptor);
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        assert_eq!(refused(&mut pair.acceptor), [not_a_member(5)]);
        assert_eq!(scoped_handles(&pair.acceptor), 0);
    }
}

#[test]
fn a_refused_member_asks_again_later_and_at_once_after_a_change() {
    let mut pair = pair(known(5, both()), known(5, [life(2, 2)]));
    pair.send(SCOPE, heartbeat(1));
    pair.pump();
    pair.pass(at(10_000));
    let retries = refused(&mut pair.opener).len();
    assert!((12..20).contains(&retries), "{retries} refusals in ten seconds");
    // The acceptor lagged behind: it has the opener now.
    let now = pair.now;
    pair.acceptor.open(now, KeyRing::open(), member_with(2, [(1, known(6, both()))]));
    pair.opener.open(now, KeyRing::open(), member_with(1, [(1, known(6, both()))]));
    pair.send(SCOPE, heartbeat(2));
    pair.pump();
    assert!(pair.acceptor.bodies().contains(&heartbeat(2)));
}

#[test]
fn an_opener_gives_back_the_handle_of_an_acceptor_that_it_does_not_know() {
    for keys in [KeyRing::open(), key(7)] {
        let mut pair = keyed_pair(keys, known(8, [life(1, 1)]), known(5, both()));
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        assert_eq!(refused(&mut pair.opener), [not_a_member(8)]);
        assert_eq!(refused(&mut pair.acceptor), [not_a_member(8)], "told by the closing");
        assert_eq!([scoped_handles(&pair.opener), scoped_handles(&pair.acceptor)], [0, 0]);
    }
}

#[test]
fn a_member_that_is_known_only_by_its_card_is_heard() {
    for keys in [KeyRing::open(), key(7)] {
        let opener = holding(known(7, both()), [card(50, life(1, 1), 6)]);
        let acceptor = known(5, [life(2, 2), signing(50)]);
        let mut pair = keyed_pair(keys, opener, acceptor);
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        let events = pair.acceptor.take();
        assert_eq!(vouched(&events), [(life(1, 1), 6, 1)], "to be kept");
        let received = |event: &LinkEvent| matches!(event, LinkEvent::Received { .. });
        assert_eq!(events.iter().filter(|event| received(event)).count(), 1);
        assert_eq!(refused(&mut pair.opener), [], "it had more to show");
    }
}

#[test]
fn an_acceptor_that_is_known_only_by_its_card_is_heard() {
    for keys in [KeyRing::open(), key(7)] {
        let opener = known(5, [life(1, 1), signing(50)]);
        let acceptor = holding(known(7, both()), [card(50, life(2, 2), 6)]);
        let mut pair = keyed_pair(keys, opener, acceptor);
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        assert_eq!(vouched(&pair.opener.take()), [(life(2, 2), 6, 1)]);
        assert_eq!(pair.acceptor.bodies(), [heartbeat(1)]);
    }
}

#[test]
fn members_that_know_each_other_show_no_card() {
    let opener = holding(known(5, both()), [card(50, life(1, 1), 4), card(50, life(1, 1), 5)]);
    let acceptor = holding(known(5, both()), [card(50, life(2, 2), 5)]);
    let mut pair = pair(opener, acceptor);
    pair.send(SCOPE, heartbeat(1));
    let hello = pair.opener.transmit();
    assert!(hello.len() < 300, "{} bytes", hello.len());
    pair.acceptor.receive(at(0), &hello).unwrap();
    let answer = pair.acceptor.transmit();
    assert!(answer.len() < 300, "{} bytes", answer.len());
    pair.opener.receive(at(0), &answer).unwrap();
    pair.pump();
    let events = pair.acceptor.take();
    assert_eq!(vouched(&events), []);
    assert!(events.iter().any(|event| matches!(event, LinkEvent::Received { .. })));
}

#[test]
fn cards_that_do_not_count_are_refused_by_name() {
    let own = life(1, 1);
    let forged = Card { signer: signer(50).node(), ..card(66, own, 6) };
    let elsewhere = Card { cluster: cluster(9), ..card(50, own, 6) };
    let of_another_life = card(50, life(1, 7), 6);
    let chain: Vec<Card> =
        (51..=58).map(|byte| card(byte - 1, signing(byte), u64::from(byte))).collect();
    let too_long = [chain, vec![card(58, own, 60)]].concat();
    let falls = vec![card(50, signing(51), 9), card(51, own, 8)];
    let cases = [
        (vec![forged], CardError::Forged { signer: signer(50).node() }),
        (vec![elsewhere], CardError::OtherCluster),
        (vec![of_another_life], CardError::NoCard),
        (vec![card(66, own, 6)], CardError::UnknownSigner),
        (falls, CardError::OutOfOrder),
        (too_long, CardError::TooLong),
    ];
    for (cards, why) in cases {
        let opener = holding(known(70, both()), cards);
        let mut pair = pair(opener, known(5, [life(2, 2), signing(50)]));
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        assert_eq!(refused(&mut pair.opener), [unknown_member(5, why)]);
        let told = refused(&mut pair.acceptor);
        assert_eq!(told, [not_a_member(5), unknown_member(5, why)]);
        assert_eq!(scoped_handles(&pair.acceptor), 0);
    }
}

#[test]
fn a_chain_of_cards_is_followed_through_real_links() {
    let chain: Vec<Card> =
        (51..=57).map(|byte| card(byte - 1, signing(byte), u64::from(byte))).collect();
    let cards = [chain, vec![card(57, life(1, 1), 60)]].concat();
    let mut pair = pair(holding(known(70, both()), cards), known(5, [life(2, 2), signing(50)]));
    pair.send(SCOPE, heartbeat(1));
    pair.pump();
    assert_eq!(vouched(&pair.acceptor.take()), [(life(1, 1), 60, 8)]);
}

#[test]
fn a_card_that_is_no_news_is_not_shown() {
    // The acceptor has committed a configuration above it, which does not have the opener.
    let opener = holding(known(7, both()), [card(50, life(1, 1), 6)]);
    let mut pair = pair(opener, known(6, [life(2, 2), signing(50)]));
    pair.send(SCOPE, heartbeat(1));
    pair.pump();
    assert_eq!(refused(&mut pair.opener), [not_a_member(6)]);
    assert_eq!(refused(&mut pair.acceptor), [not_a_member(6)]);
    // Shown all the same, it is refused as stale: the acceptor moved on while it was on its way.
    let opener = holding(known(7, both()), [card(50, life(1, 1), 6)]);
    let mut pair = self::pair(opener, known(5, [life(2, 2), signing(50)]));
    pair.send(SCOPE, heartbeat(1));
    let hello = pair.opener.transmit();
    pair.acceptor.receive(at(0), &hello).unwrap();
    let refusal = pair.acceptor.transmit();
    pair.opener.receive(at(0), &refusal).unwrap();
    let after = member_with(2, [(1, known(6, [life(2, 2), signing(50)]))]);
    pair.acceptor.open(at(0), KeyRing::open(), after);
    pair.pump();
    let stale = CardError::Stale { newest: Index::new(6), committed: Index::new(6) };
    assert_eq!(refused(&mut pair.opener).last(), Some(&unknown_member(6, stale)));
}

#[test]
fn more_cards_than_a_member_keeps_end_the_stream() {
    let mut acceptor = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    acceptor.open(at(0), KeyRing::open(), member_with(2, [(1, known(5, [life(2, 2)]))]));
    let Greeting::Hello(mut hello) = open_hello(1, Some(cluster(1)), 1) else { panic!() };
    let Space::Open { introduction, .. } = &mut hello.space else { panic!() };
    introduction.cards = vec![card(50, life(1, 1), 6); Card::KEPT_MAX + 1];
    let taken = acceptor.receive(at(0), &greet(1, &Greeting::Hello(hello)));
    assert!(matches!(taken, Err(LinkError::Greeting(_))), "{taken:?}");
}

#[test]
fn handles_are_judged_again_when_the_configuration_changes() {
    for keys in [KeyRing::open(), key(7)] {
        for by_opener in [true, false] {
            let mut pair = keyed_pair(keys.clone(), known(5, both()), known(5, both()));
            assert!(arrives(&mut pair, 1));
            let (byte, end) =
                if by_opener { (1, &mut pair.opener) } else { (2, &mut pair.acceptor) };
            let without_peer = known(6, [life(byte, byte)]);
            end.open(at(1), keys.clone(), member_with(byte, [(1, without_peer)]));
            assert_eq!(refused(end), [not_a_member(6)]);
            pair.pump();
            let other = if by_opener { &mut pair.acceptor } else { &mut pair.opener };
            assert_eq!(refused(other).first(), Some(&not_a_member(6)));
            assert_eq!([scoped_handles(&pair.opener), scoped_handles(&pair.acceptor)], [0, 0]);
            // What only shares the namespace goes on.
            assert_eq!(
                [pair.opener.link.handles().len(), pair.acceptor.link.handles().len()],
                [1; 2]
            );
        }
    }
}

#[test]
fn a_change_that_keeps_the_peer_keeps_the_handle() {
    let mut pair = pair(known(5, both()), known(5, both()));
    assert!(arrives(&mut pair, 1));
    let before = pair.opener.link.handles();
    let third = || known(6, [life(1, 1), life(2, 2), life(3, 3)]);
    pair.acceptor.open(at(1), KeyRing::open(), member_with(2, [(1, third())]));
    pair.opener.open(at(1), KeyRing::open(), member_with(1, [(1, third())]));
    assert!(pair.opener.transmit().is_empty() && pair.acceptor.transmit().is_empty());
    assert_eq!(pair.opener.link.handles(), before);
}

#[test]
fn a_vouched_handle_stays_until_the_log_has_reached_its_card() {
    for by_opener in [true, false] {
        // One end knows the other only by its card of slot 6.
        let lagging = |byte, committed| known(committed, [life(byte, byte), signing(50)]);
        let (opener, acceptor) = if by_opener {
            (lagging(1, 3), holding(known(7, both()), [card(50, life(2, 2), 6)]))
        } else {
            (holding(known(7, both()), [card(50, life(1, 1), 6)]), lagging(2, 3))
        };
        let mut pair = pair(opener, acceptor);
        pair.send(SCOPE, heartbeat(1));
        pair.pump();
        let heard = pair.acceptor.bodies();
        assert_eq!(heard, [heartbeat(1)]);
        pair.opener.take();
        let change = |pair: &mut Pair, known| {
            let (byte, end) =
                if by_opener { (1, &mut pair.opener) } else { (2, &mut pair.acceptor) };
            end.open(at(1), KeyRing::open(), member_with(byte, [(1, known)]));
        };
        let byte = if by_opener { 1 } else { 2 };
        change(&mut pair, lagging(byte, 5));
        assert!(arrives(&mut pair, 2), "the log has not reached the card");
        // The configuration that the card is about is committed, and does not have it.
        change(&mut pair, lagging(byte, 6));
        let end = if by_opener { &mut pair.opener } else { &mut pair.acceptor };
        assert_eq!(refused(end), [not_a_member(6)]);
        pair.pump();
        assert_eq!([scoped_handles(&pair.opener), scoped_handles(&pair.acceptor)], [0, 0]);
    }
}

#[test]
fn an_acceptor_verifies_the_cards_of_a_peer_only_so_often() {
    let forged = Card { signer: signer(50).node(), ..card(66, life(1, 1), 6) };
    let mut acceptor = End::new(Link::Inbound(Inbound::new(config(Channel::Control, 2, 1), at(0))));
    let members = known(5, [life(2, 2), signing(50)]);
    acceptor.open(at(0), KeyRing::open(), member_with(2, [(1, members)]));
    let Greeting::Hello(mut hello) = open_hello(1, Some(cluster(1)), 1) else { panic!() };
    let Space::Open { introduction, .. } = &mut hello.space else { panic!() };
    introduction.cards = vec![forged];
    let hello = Greeting::Hello(hello);
    let mut count = |now| {
        for message in 0..100 {
            acceptor.receive(at(now), &greet(message, &hello)).unwrap();
            acceptor.transmit();
        }
        let refused = refused(&mut acceptor);
        assert_eq!(refused.len(), 100);
        refused.iter().filter(|why| **why != Refusal::Limit).count()
    };
    assert_eq!([count(0), count(1_000), count(1_000)], [16, 8, 0]);
}

#[test]
fn a_refuser_can_not_make_a_member_repeat_itself_at_once() {
    let opener = holding(known(7, both()), [card(50, life(1, 1), 6)]);
    let mut pair = Pair::new(Channel::Control);
    pair.opener.open(at(0), KeyRing::open(), member_with(1, [(1, opener)]));
    pair.send(SCOPE, heartbeat(1));
    let mut hellos = 0;
    for index in [5, 3, 5, 3, 4] {
        for (message, greeting) in greetings(&pair.opener.transmit()) {
            if matches!(greeting, Greeting::Hello(_)) {
                hellos += 1;
                let refused = Greeting::Refused(not_a_member(index));
                pair.opener.receive(at(0), &greet(message, &refused)).unwrap();
            }
        }
    }
    assert_eq!(hellos, 3, "one without a scope, one without a card, one with it");
}
