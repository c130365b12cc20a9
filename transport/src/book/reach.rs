//! From where an address can be reached, and so whose word about it may be believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::source::AddressRefusal;

/// From where an IP address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Unspecified, multicast, broadcast: from nowhere.
    Nowhere,
    /// This machine.
    Machine,
    /// This link.
    Link,
    /// A private network.
    Private,
    /// Anywhere.
    Anywhere,
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

const fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [first, second, ..] = ip.octets();
    if first == 0 || ip.is_multicast() || ip.is_broadcast() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::Machine
    } else if ip.is_link_local() {
        Reach::Link
    } else if ip.is_private() || (first == 100 && second & 0xc0 == 64) {
        // 100.64.0.0/10 is shared by the customers of one provider.
        Reach::Private
    } else {
        Reach::Anywhere
    }
}

const fn reach_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_unspecified() || ip.is_multicast() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::Machine
    } else if ip.is_unicast_link_local() {
        Reach::Link
    } else if ip.is_unique_local() {
        Reach::Private
    } else {
        Reach::Anywhere
    }
}

/// The IP address at the head of an address.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// What one holder of addresses has at its disposal: an IPv4 address, or a /64 of IPv6.
pub(crate) fn holder_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// The IP address, if the address is one with a port and nothing behind it.
fn dialable(address: &Multiaddr) -> Option<IpAddr> {
    let ip = ip_of(address)?;
    let mut parts = address.iter().skip(1);
    let port = match parts.next()? {
        Protocol::Tcp(port) | Protocol::Udp(port) => port,
        _ => return None,
    };
    let relayed = parts.any(|part| matches!(part, Protocol::P2pCircuit | Protocol::P2p(_)));
    (port != 0 && !relayed).then_some(ip)
}

/// Whether an address that the local network or this machine names is worth a dial.
pub(super) fn check_local(address: &Multiaddr, machine: bool) -> Result<(), AddressRefusal> {
    match reach(dialable(address).ok_or(AddressRefusal::NotDialable)?) {
        Reach::Nowhere => Err(AddressRefusal::Nowhere),
        Reach::Machine if !machine => Err(AddressRefusal::OfAnotherMachine),
        _ => Ok(()),
    }
}

/// Whether a peer may name this address: `told_over` is the peer's end of the connection over
/// which the peer named it. A loopback or link-local address means another place on the peer's
/// machine than it means here, and a private one may name anyone in this node's own network.
pub(super) fn check_told(
    address: &Multiaddr,
    told_over: Option<&Multiaddr>,
) -> Result<(), AddressRefusal> {
    let named = reach(dialable(address).ok_or(AddressRefusal::NotDialable)?);
    let teller = told_over.and_then(ip_of).map_or(Reach::Anywhere, reach);
    match named {
        Reach::Nowhere => Err(AddressRefusal::Nowhere),
        Reach::Machine | Reach::Link if teller != Reach::Machine => {
            Err(AddressRefusal::OfAnotherMachine)
        }
        Reach::Private if matches!(teller, Reach::Anywhere | Reach::Nowhere) => {
            Err(AddressRefusal::OfAnotherNetwork)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_told_address_is_judged_by_where_its_teller_is() {
        use AddressRefusal::{NotDialable, Nowhere, OfAnotherMachine, OfAnotherNetwork};
        let [local, private, public] =
            ["/ip4/127.0.0.1/tcp/9", "/ip4/10.0.0.9/tcp/9", "/ip4/8.8.8.8/tcp/9"].map(parse);
        let rows = [
            ("/ip4/127.0.0.1/tcp/1", [Ok(()), Err(OfAnotherMachine), Err(OfAnotherMachine)]),
            ("/ip6/::1/tcp/1", [Ok(()), Err(OfAnotherMachine), Err(OfAnotherMachine)]),
            ("/ip6/::ffff:7f00:1/tcp/1", [Ok(()), Err(OfAnotherMachine), Err(OfAnotherMachine)]),
            ("/ip4/169.254.1.1/tcp/1", [Ok(()), Err(OfAnotherMachine), Err(OfAnotherMachine)]),
            ("/ip6/fe80::1/tcp/1", [Ok(()), Err(OfAnotherMachine), Err(OfAnotherMachine)]),
            ("/ip4/192.168.1.1/tcp/1", [Ok(()), Ok(()), Err(OfAnotherNetwork)]),
            ("/ip4/100.64.1.1/tcp/1", [Ok(()), Ok(()), Err(OfAnotherNetwork)]),
            ("/ip6/fd00::1/tcp/1", [Ok(()), Ok(()), Err(OfAnotherNetwork)]),
            ("/ip4/9.9.9.9/tcp/1", [Ok(()), Ok(()), Ok(())]),
            ("/ip6/2001:db8::1/udp/1/quic-v1", [Ok(()), Ok(()), Ok(())]),
            ("/ip4/0.0.0.0/tcp/1", [Err(Nowhere); 3]),
            ("/ip4/224.0.0.1/tcp/1", [Err(Nowhere); 3]),
            ("/ip4/255.255.255.255/tcp/1", [Err(Nowhere); 3]),
            ("/ip6/::/tcp/1", [Err(Nowhere); 3]),
            ("/ip6/ff02::1/tcp/1", [Err(Nowhere); 3]),
            ("/ip4/9.9.9.9/tcp/0", [Err(NotDialable); 3]),
            ("/ip4/9.9.9.9", [Err(NotDialable); 3]),
            ("/dns4/example.com/tcp/1", [Err(NotDialable); 3]),
            ("/dnsaddr/example.com", [Err(NotDialable); 3]),
            ("/memory/1", [Err(NotDialable); 3]),
        ];
        for (named, expected) in rows {
            let address = parse(named);
            let told = [&local, &private, &public].map(|by| check_told(&address, Some(by)));
            assert_eq!(told, expected, "{named}");
        }
        assert_eq!(check_told(&private, None), Err(OfAnotherNetwork), "a teller that is gone");
    }

    #[test]
    fn a_holder_of_ipv6_addresses_has_a_whole_64() {
        let of = |text: &str| holder_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
