//! Rules and bounds of the address book.

mod bounds;
mod hearsay;
mod turns;
mod year;

use std::time::Duration;

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

use super::*;

fn node(number: u32) -> NodeId {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::new(bytes)
}

/// An address of its own for each number, on a machine of its own.
fn address(number: u32) -> Multiaddr {
    let [_, a, b, c] = number.to_be_bytes();
    format!("/ip4/10.{a}.{b}.{c}/tcp/4001").parse().unwrap()
}

fn port(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn book() -> Book {
    Book::new(node(0), 7)
}

fn hearsay(teller: u32) -> AddressSource {
    AddressSource::Hearsay { teller: node(teller) }
}

/// A peer dials this node.
fn arrives(book: &mut Book, now: Moment, peer: u32, remote: &Multiaddr) {
    let (peer, remote) = (node(peer), remote.clone());
    book.connected(now, Established { peer, remote, dialled: false, dial: None });
}

/// A dial of the book reaches the peer.
fn succeeds(book: &mut Book, now: Moment, dial: Dial, peer: NodeId) {
    let remote = dial.addresses[0].clone();
    book.connected(now, Established { peer, remote, dialled: true, dial: Some(dial) });
}

fn fails(book: &mut Book, now: Moment, dial: &Dial, result: DialResult) {
    let results: Vec<_> = dial.addresses.iter().map(|at| (at.clone(), result)).collect();
    book.failed(now, dial, &results);
}

fn sources(book: &Book, now: Moment, peer: u32) -> Vec<(Multiaddr, AddressSource)> {
    let entries = book.entries(now).filter(|entry| entry.peer == Some(node(peer)));
    entries.map(|entry| (entry.address, entry.source)).collect()
}
