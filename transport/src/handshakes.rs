//! How many incoming connections may be shaking hands at one time.
//!
//! Until a handshake is over nobody knows who is there, and each holds a socket and buffers for
//! seconds. So their number is bounded, and what one IPv4 address or one /64 of IPv6, which one
//! machine has for itself, may have is a quarter of it: a flood from one place leaves room for
//! everyone else. A value.

use std::{collections::BTreeMap, net::IpAddr};

use libp2p::{Multiaddr, swarm::ConnectionId};

use crate::book::{holder_of, ip_of};

/// The handshakes that are under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    count_max: usize,
    from: BTreeMap<ConnectionId, Option<IpAddr>>,
}

impl Handshakes {
    pub(crate) const fn new(count_max: usize) -> Self {
        Self { count_max, from: BTreeMap::new() }
    }

    /// Whether one more may begin; noted if so.
    pub(crate) fn begin(&mut self, id: ConnectionId, remote: &Multiaddr) -> bool {
        let ip = ip_of(remote).map(holder_of);
        let same = self.from.values().filter(|other| **other == ip).count();
        let room = self.from.len() < self.count_max && same < self.count_max.div_ceil(4);
        if room {
            self.from.insert(id, ip);
        }
        room
    }

    /// One is over, whatever came of it.
    pub(crate) fn end(&mut self, id: ConnectionId) {
        self.from.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn one_address_gets_a_quarter_and_all_together_the_whole() {
        let mut handshakes = Handshakes::new(8);
        let from = |last: usize| format!("/ip4/10.0.0.{last}/tcp/4001").parse().unwrap();
        let begun = (0..9).filter(|number| handshakes.begin(id(*number), &from(1))).count();
        assert_eq!(begun, 2);
        let begun = (10..30).filter(|number| handshakes.begin(id(*number), &from(*number))).count();
        assert_eq!(begun, 6);
        assert!(!handshakes.begin(id(40), &from(40)));
        let six = |last: usize| format!("/ip6/2001:db8::{last:x}/tcp/1").parse().unwrap();
        let mut one_machine = Handshakes::new(8);
        let begun = (0..9).filter(|number| one_machine.begin(id(*number), &six(*number))).count();
        assert_eq!(begun, 2, "one machine has a whole /64");
        handshakes.end(id(40));
        assert!(!handshakes.begin(id(41), &from(41)), "what never began ends nothing");
        handshakes.end(id(0));
        assert!(handshakes.begin(id(42), &from(42)));
    }
}
