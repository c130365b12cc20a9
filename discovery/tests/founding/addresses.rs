//! What a namespace tells its peers of addresses.

use std::collections::BTreeSet;

use meshraft_consensus::NodeId;
use meshraft_discovery::peers::{Address, Directory, Exchange};

fn node(number: u16) -> NodeId {
    let mut key = [1; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::new(key)
}

fn address(number: u16) -> Address {
    let [high, low] = number.to_be_bytes();
    Address::new(vec![4, 10, 0, 0, 1, 6, high, low]).unwrap()
}

/// Everything that is left to tell.
fn told(directory: &mut Directory, to: NodeId) -> Vec<Exchange> {
    std::iter::from_fn(|| directory.tell(to)).collect()
}

#[test]
fn a_directory_never_fills_up_for_good() {
    let me = node(0);
    let mut directory = Directory::new(me);
    directory.set_members(BTreeSet::from([node(1), node(2)]));
    directory.set_proven(node(1), [address(1)]);
    // Peers that came and went.
    for number in 100..5_000 {
        assert!(directory.set_proven(node(number), [address(number)]));
    }
    assert_eq!(directory.nodes().len(), Directory::NODES_MAX + 1);
    // Neither a new member's address nor the node's own is lost on it.
    assert!(directory.set_proven(node(2), [address(2)]));
    directory.set_own([address(7)]);
    let told = told(&mut directory, node(9_000));
    let nodes: BTreeSet<_> = told.iter().flat_map(|exchange| exchange.nodes.keys()).collect();
    assert!(nodes.contains(&node(1)) && nodes.contains(&node(2)));
    assert!(told.iter().all(|exchange| exchange.own == BTreeSet::from([address(7)])));
    for exchange in told {
        assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange));
    }
}

#[test]
fn what_peers_say_is_handed_on_and_never_told_on() {
    let [me, a, b] = [0, 1, 2].map(node);
    let mut directory = Directory::new(me);
    let said = BTreeSet::from([address(5)]);
    let exchange = Exchange {
        version: 1,
        own: BTreeSet::from([address(1)]),
        nodes: [(b, said.clone()), (me, said.clone()), (a, said.clone())].into(),
    };
    let heard = directory.hear(a, &exchange);
    assert_eq!(heard, [(a, exchange.own.clone()), (b, said)], "nothing of the listener itself");
    assert_eq!(told(&mut directory, b), []);
    // Once it is proven it is told.
    assert!(directory.set_proven(a, [address(1)]));
    assert_eq!(told(&mut directory, b)[0].nodes, [(a, exchange.own)].into());
}

#[test]
fn own_addresses_are_told_as_a_whole_and_an_older_word_counts_no_more() {
    let [me, a] = [0, 1].map(node);
    let mut directory = Directory::new(me);
    directory.set_own([address(1), address(2)]);
    let first = directory.tell(a).unwrap();
    assert_eq!(directory.tell(a), None, "each change is told once");
    directory.set_own([address(2)]);
    let second = directory.tell(a).unwrap();
    assert_eq!(second.own, BTreeSet::from([address(2)]));
    let mut other = Directory::new(a);
    assert_eq!(other.hear(me, &second), [(me, second.own.clone())]);
    assert_eq!(other.hear(me, &first), [], "it was overtaken on its way");
    assert_eq!(other.hear(me, &second).len(), 1, "the same word again renews it");
    // Another life of the peer counts anew.
    other.disconnected(me);
    assert_eq!(other.hear(me, &first), [(me, first.own)]);
}

#[test]
fn a_peer_is_told_each_thing_once_until_it_is_gone() {
    let [me, a, b] = [0, 1, 2].map(node);
    let mut directory = Directory::new(me);
    directory.set_own([address(0)]);
    directory.set_proven(a, [address(1)]);
    let first = directory.tell(a).unwrap();
    assert!(first.nodes.is_empty(), "never about itself");
    assert_eq!(directory.tell(a), None);
    directory.set_proven(b, [address(2)]);
    assert_eq!(directory.tell(a).unwrap().nodes.keys().collect::<Vec<_>>(), [&b]);
    assert!(!directory.set_proven(b, [address(2)]), "no news");
    assert_eq!(directory.tell(a), None);
    directory.tell_again(a);
    assert_eq!(directory.tell(a).unwrap().nodes.len(), 1);
    assert!(directory.set_proven(b, []), "nothing is known of it any more");
    directory.disconnected(a);
    assert!(directory.tell(a).unwrap().nodes.is_empty());
}
