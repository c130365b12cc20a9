//! Finds out whether a node can listen where it shall, before anything is created on disk.

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::net::TcpSocket;

use crate::api::StartError;

/// Refuses the first address that the system would refuse, by name.
///
/// Each is bound and let go of again: the node itself binds it a moment later, and reports for
/// itself if somebody else was quicker.
pub(super) fn check(addresses: &[Multiaddr]) -> Result<(), StartError> {
    // Held until all are checked, so that one given twice is found, too.
    let mut bound = Vec::new();
    for address in addresses {
        let Some(socket_address) = socket_address(address) else { continue };
        let socket = bind(socket_address)
            .map_err(|source| StartError::Listen { address: address.clone(), source })?;
        bound.push(socket);
    }
    Ok(())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As a listener does: connections of an earlier process do not hold the port.
    socket.set_reuseaddr(address.port() != 0)?;
    socket.bind(address)?;
    Ok(socket)
}

/// IP and port of an address that begins with both, as the builder has checked.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_and_an_address_of_others_are_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let free: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let [busy, foreign] = [format!("/ip4/127.0.0.1/tcp/{port}"), "/ip4/192.0.2.1/tcp/0".into()]
            .map(|text| text.parse::<Multiaddr>().unwrap());
        assert!(check(&[free.clone(), free.clone()]).is_ok());
        for unusable in [busy, foreign] {
            let error = check(&[free.clone(), unusable.clone()]).unwrap_err();
            assert!(matches!(&error, StartError::Listen { address, .. } if *address == unusable));
            assert!(error.to_string().contains(&unusable.to_string()), "{error}");
        }
    }
}
