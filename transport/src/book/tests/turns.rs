//! Whose turn it is to be dialled.

use super::*;

/// A dial into the dark ends after this time.
const DARK_MS: u64 = 5_000;

/// Dials peers that are dead at low ids beside one that answers and is lost again; returns how
/// long the latter waited at most, in milliseconds, and how often it was dialled.
fn honest_wait(dead: u32, add: impl Fn(&mut Book, u32)) -> (u64, u32) {
    let mut book = book();
    (1..=dead).for_each(|number| add(&mut book, number));
    let honest = node(1_000_000);
    let (mut running, mut waits_since) = (Vec::<(u64, Dial)>::new(), None);
    let mut lost_at = None;
    let (mut longest, mut dialled) = (0, 0);
    for now in 0..300_000_u64 {
        if now == 30_000 {
            add(&mut book, 1_000_000);
            waits_since = Some(now);
        }
        for (_, dial) in running.extract_if(.., |(until, _)| *until <= now) {
            fails(&mut book, at(now), &dial, DialResult::TimedOut);
        }
        if lost_at.take_if(|at| *at == now).is_some() {
            book.disconnected(at(now), honest);
            waits_since = Some(now);
        }
        while let Some(dial) = book.poll(at(now)) {
            if dial.target == Target::Peer(honest) {
                dialled += 1;
                longest = longest.max(waits_since.take().map_or(0, |since| now - since));
                succeeds(&mut book, at(now), dial, honest);
                lost_at = Some(now + DARK_MS);
            } else {
                running.push((now + DARK_MS, dial));
            }
        }
    }
    (longest.max(waits_since.map_or(0, |since| 300_000 - since)), dialled)
}

#[test]
fn any_number_of_dead_peers_starves_no_honest_one() {
    for dead in [30, 45, 64, 200] {
        let configured = |book: &mut Book, number| {
            let source = AddressSource::Configured;
            book.add(at(0), Some(node(number)), address(number), source).unwrap();
        };
        let (longest, dialled) = honest_wait(dead, configured);
        assert!(longest <= DARK_MS, "{dead} dead peers: waited {longest} ms");
        assert!(dialled > 40, "{dead} dead peers: dialled {dialled} times");
    }
}

#[test]
fn hearsay_never_delays_what_the_operator_gave() {
    let mut book = book();
    arrives(&mut book, at(0), 900, &address(900));
    for number in 1..=64 {
        book.hear(at(0), node(900), node(number), &[address(number)]);
    }
    while book.poll(at(0)).is_some() {}
    book.add(at(1), None, address(700), AddressSource::Configured).unwrap();
    let dial = book.poll(at(1)).unwrap();
    assert_eq!(dial.target, Target::Address(address(700)));
}

#[test]
fn due_peers_are_dialled_in_the_order_in_which_they_became_due() {
    let mut book = book();
    for (now, number) in [(0, 9), (1, 5), (2, 7), (3, 1)] {
        let source = AddressSource::Configured;
        book.add(at(now), Some(node(number)), address(number), source).unwrap();
    }
    let order = std::iter::from_fn(|| book.poll(at(10))).map(|dial| dial.target);
    let expected = [9, 5, 7, 1].map(|number| Target::Peer(node(number)));
    assert_eq!(order.collect::<Vec<_>>(), expected);
}

#[test]
fn failures_back_off_and_a_connection_that_lasts_resets() {
    let mut book = book();
    book.add(at(0), Some(node(1)), port(1), AddressSource::Configured).unwrap();
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..8 {
        let dial = book.poll(now).unwrap();
        assert_eq!(book.poll(now), None, "one dial at a time");
        fails(&mut book, now, &dial, DialResult::Unreachable);
        let next = book.deadline().unwrap();
        assert_eq!(book.poll(Moment::from_nanos(next.as_nanos() - 1)), None);
        pauses.push(next.since(now).as_millis());
        now = next;
    }
    let bounds = [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000];
    for (pause, bound) in pauses.iter().zip(bounds) {
        assert!((bound / 2..=bound).contains(pause), "{pauses:?}");
    }
    // A connection that ends at once is no better than a failure.
    arrives(&mut book, now, 1, &port(9));
    book.disconnected(now.plus(Duration::from_millis(10)), node(1));
    assert!(book.deadline().unwrap().since(now) >= Duration::from_secs(1));
    arrives(&mut book, now, 1, &port(9));
    assert_eq!(book.deadline(), None);
    let later = now.plus(Duration::from_secs(60));
    book.disconnected(later, node(1));
    assert!(book.deadline().unwrap().since(later) <= Duration::from_millis(40));
}

#[test]
fn an_address_without_a_peer_is_dialled_until_its_peer_is_connected() {
    let mut book = book();
    book.add(at(0), None, port(1), AddressSource::Configured).unwrap();
    let dial = book.poll(at(0)).unwrap();
    assert_eq!(dial.target, Target::Address(port(1)));
    succeeds(&mut book, at(0), dial, node(1));
    assert_eq!(book.deadline(), None);
    assert!(book.is_wanted(node(1)), "the operator gave it, if not by its id");
    book.disconnected(at(10_000), node(1));
    // The peer's own entry goes first.
    let dial = book.poll(at(10_040)).unwrap();
    assert_eq!(dial.target, Target::Peer(node(1)));
    arrives(&mut book, at(10_050), 1, &port(9));
    fails(&mut book, at(10_060), &dial, DialResult::Unreachable);
    assert_eq!(book.deadline(), None, "it came back by itself meanwhile");
    // An address of this node's own is forgotten.
    book.add(at(0), None, port(3), AddressSource::Configured).unwrap();
    let own = book.poll(at(10_060)).unwrap();
    fails(&mut book, at(10_060), &own, DialResult::Mistaken { found: node(0) });
    assert_eq!(book.deadline(), None);
}

#[test]
fn a_peer_of_the_local_network_that_shares_nothing_is_left_alone_for_minutes() {
    let mut book = book();
    let longest = Duration::from_secs(60);
    let source = AddressSource::LocalNetwork;
    book.add(at(0), Some(node(1)), address(1), source).unwrap();
    let dial = book.poll(at(100)).unwrap();
    succeeds(&mut book, at(100), dial, node(1));
    let shares = |shares| std::iter::once((node(1), shares));
    assert_eq!(book.look(at(1_000), shares(false), false, longest), []);
    assert_eq!(book.look(at(5_100), shares(false), false, longest), [node(1)]);
    book.disconnected(at(5_100), node(1));
    let next = book.deadline().unwrap().since(at(5_100));
    assert!((Duration::from_secs(150)..=Duration::from_secs(300)).contains(&next), "{next:?}");
    // Not even an announcement that expired and came again changes that.
    book.withdraw(node(1), &address(1), source);
    book.add(at(7_000), Some(node(1)), address(2), source).unwrap();
    assert!(book.deadline().unwrap().since(at(7_000)) > Duration::from_secs(100));
    // What is opened here does.
    book.reconsider(at(9_000));
    let dial = book.poll(at(9_100)).unwrap();
    succeeds(&mut book, at(9_100), dial, node(1));
    assert_eq!(book.look(at(10_000), shares(true), false, longest), []);
    book.disconnected(at(60_000), node(1));
    assert!(book.deadline().unwrap() <= at(61_000), "one that shares something is dialled soon");
}

#[test]
fn many_announcements_make_few_dials() {
    let mut book = book();
    for number in 1..2_000 {
        // Too many are not taken.
        let _ = book.add(at(0), Some(node(number)), address(number), AddressSource::LocalNetwork);
    }
    assert_eq!(book.len(), 512);
    let mut dials = Vec::new();
    for now in 0..10_000 {
        dials.extend(book.poll(at(now)).map(|dial| (now, dial)));
    }
    assert_eq!(dials.len(), 4, "at one time");
    let paces = dials.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(paces.min().unwrap() >= 25);
    let mut on_trial = 0;
    for now in 10_000..20_000 {
        for (_, dial) in std::mem::take(&mut dials) {
            let Target::Peer(peer) = dial.target else { panic!("{dial:?}") };
            succeeds(&mut book, at(now), dial, peer);
            on_trial += 1;
        }
        dials.extend(book.poll(at(now)).map(|dial| (now, dial)));
    }
    assert_eq!(on_trial, 16, "all who are on trial");
}
