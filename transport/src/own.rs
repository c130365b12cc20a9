//! Where this node itself can be reached: where it listens, and where the swarm says that others
//! reach it.

use std::collections::BTreeSet;

use libp2p::{Multiaddr, swarm::FromSwarm};
use meshraft_consensus::NodeId;

use crate::{event::Event, identity::peer_id};

/// The most addresses; libp2p bounds neither kind.
const ADDRESSES_MAX: usize = 64;

/// This node's own addresses.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    listening: BTreeSet<Multiaddr>,
    external: BTreeSet<Multiaddr>,
}

impl OwnAddresses {
    /// Takes an event of the swarm; returns what is to be told, if an address came or went.
    pub(crate) fn note(&mut self, me: NodeId, event: &FromSwarm<'_>) -> Option<Event> {
        let (set, address, comes) = match event {
            FromSwarm::NewListenAddr(event) => (&mut self.listening, event.addr, true),
            FromSwarm::ExpiredListenAddr(event) => (&mut self.listening, event.addr, false),
            FromSwarm::ExternalAddrConfirmed(event) => (&mut self.external, event.addr, true),
            FromSwarm::ExternalAddrExpired(event) => (&mut self.external, event.addr, false),
            _ => return None,
        };
        if comes && set.len() >= ADDRESSES_MAX {
            return None;
        }
        let changed = if comes { set.insert(address.clone()) } else { set.remove(address) };
        let count =
            [&self.listening, &self.external].into_iter().filter(|set| set.contains(address));
        // Of the other kind it stays, or was there already.
        let told = changed && count.count() == usize::from(comes);
        // An address that names another peer can't be one of ours.
        let address = address.clone().with_p2p(peer_id(me)).ok().filter(|_| told)?;
        Some(if comes { Event::Listening(address) } else { Event::ListeningEnded(address) })
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{
        core::transport::ListenerId,
        swarm::{
            ExpiredListenAddr, ExternalAddrExpired, NewListenAddr, behaviour::ExternalAddrConfirmed,
        },
    };

    use super::*;

    #[test]
    fn an_address_is_told_when_it_comes_and_when_it_is_gone_in_both_kinds() {
        let me = NodeId::new([1; 32]);
        let addr: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        let listener_id = ListenerId::next();
        let mut own = OwnAddresses::default();
        let addr = &addr;
        let mut note = |event| own.note(me, &event);
        let listen = || FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr });
        let told = note(listen());
        assert!(matches!(told, Some(Event::Listening(_))), "{told:?}");
        assert_eq!(note(listen()), None);
        assert_eq!(note(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr })), None);
        let ends = FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr });
        assert_eq!(note(ends), None, "others still reach it");
        let told = note(FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }));
        assert!(matches!(told, Some(Event::ListeningEnded(_))), "{told:?}");
    }
}
