//! Between the transport's words and the host's: events in, addresses both ways.

use libp2p::{Multiaddr, multiaddr::Protocol};
use meshraft_discovery::peers::Address;
use meshraft_transport::{Event, PeerAddress};

use crate::host::NetworkInput;

/// The host's input for an event; `None` for what does not concern it.
pub(crate) fn input(event: Event) -> Option<NetworkInput> {
    Some(match event {
        Event::Connected { peer, .. } => NetworkInput::Connected { peer },
        Event::Proven { peer, addresses } => {
            let addresses = addresses.iter().filter_map(address).collect();
            NetworkInput::Proven { peer, addresses }
        }
        Event::Disconnected { peer } => NetworkInput::Disconnected { peer },
        Event::Shared { peer, namespace, facts } => NetworkInput::Shared { peer, namespace, facts },
        Event::Unshared { peer, namespace } => NetworkInput::Unshared { peer, namespace },
        Event::Refused { peer, namespace, why, .. } => {
            NetworkInput::Refused { peer, namespace, why }
        }
        Event::Vouched { member, namespace, cluster, at, .. } => {
            NetworkInput::Vouched { member, namespace, cluster, at }
        }
        Event::Received { from, channel, body } => NetworkInput::Received { from, channel, body },
        Event::Request { from, channel, token, payload } => {
            NetworkInput::Request { from, channel, token, payload }
        }
        Event::Reply { id, result } => NetworkInput::Reply { id, result },
        _ => return None,
    })
}

/// An address as peers tell it to each other; `None` if it is longer than anyone would take.
pub(crate) fn address(multiaddr: &Multiaddr) -> Option<Address> {
    Address::new(without_peer(multiaddr).to_vec()).ok()
}

/// The address behind a peer's words; `None` if it can't be dialled, or is a name: what a name
/// means is looked up where a person configured it, and never on the word of a peer.
pub(crate) fn told(address: &Address) -> Option<PeerAddress> {
    let multiaddr = Multiaddr::try_from(address.as_bytes().to_vec()).ok()?;
    PeerAddress::try_from(multiaddr).ok().filter(|address| !address.is_name())
}

/// Whom an address leads to is told beside it, so that each address has one spelling.
fn without_peer(multiaddr: &Multiaddr) -> Multiaddr {
    multiaddr.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
