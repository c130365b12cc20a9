//! Which addresses a transport can use: how they are written, and why others are refused.
//!
//! A peer's address is a multiaddr, or `host:port` as people write it:
//!
//! | written | means |
//! |---|---|
//! | `/ip4/10.0.0.1/tcp/4001`, `10.0.0.1:4001` | this IP address |
//! | `/ip6/::1/tcp/4001`, `[::1]:4001` | this IP address |
//! | `/dns/NAME/tcp/4001`, `NAME:4001` | every IP address of the name |
//! | `/dns4/NAME/tcp/4001`, `/dns6/NAME/tcp/4001` | its IPv4 or IPv6 addresses |
//! | `/dnsaddr/NAME` | the addresses that the name's TXT records hold |
//!
//! Each may end in `/p2p/ID`. Everything here is a value: no name is looked up.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::{self, Protocol},
};
use meshraft_consensus::NodeId;

use crate::identity::node_id;

/// The longest address that is read, in bytes: as long as peers may tell each other.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// The longest name and the longest part of a name between two dots, in bytes (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The address of a peer that a transport can dial: TCP over an IP address or a DNS name, perhaps
/// with the id of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress(Multiaddr);

impl PeerAddress {
    /// Reads addresses as people write them.
    ///
    /// # Errors
    /// Names every address that can't be dialled, with the reason, and not only the first.
    pub fn parse_all<A: AsRef<str>>(
        texts: impl IntoIterator<Item = A>,
    ) -> Result<Vec<Self>, AddressErrors> {
        let mut errors = Vec::new();
        let mut addresses = Vec::new();
        for text in texts {
            match text.as_ref().parse() {
                Ok(address) => addresses.push(address),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(addresses) } else { Err(AddressErrors(errors)) }
    }

    /// The address as a multiaddr; one that was written as `host:port` is converted.
    pub const fn multiaddr(&self) -> &Multiaddr {
        &self.0
    }

    /// Whether its host is a name, which means other IP addresses at other times and places.
    pub fn is_name(&self) -> bool {
        !matches!(self.0.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
    }

    /// The node that the address names in its last part.
    pub fn node(&self) -> Option<NodeId> {
        named_peer(&self.0).and_then(|peer| node_id(peer).ok())
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = parse(text).and_then(|address| check(&address, Role::Peer).map(|()| address));
        parsed.map(Self).map_err(|why| AddressError::new(text, why))
    }
}

impl TryFrom<Multiaddr> for PeerAddress {
    type Error = AddressError;

    fn try_from(address: Multiaddr) -> Result<Self, AddressError> {
        match check(&address, Role::Peer) {
            Ok(()) => Ok(Self(address)),
            Err(why) => Err(AddressError::new(&address.to_string(), why)),
        }
    }
}

impl From<PeerAddress> for Multiaddr {
    fn from(address: PeerAddress) -> Self {
        address.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads an address to listen on: a multiaddr of TCP over an IP address. Port 0 takes a free one,
/// and an unspecified IP address means every interface.
///
/// # Errors
/// The text is no such address.
pub fn parse_listen(text: &str) -> Result<Multiaddr, AddressError> {
    let parsed = if text.starts_with('/') {
        parse(text)
    } else {
        // Where a node listens is printed and compared as a multiaddr, so it is given as one.
        Err(AddressProblem::NotAMultiaddr)
    };
    parsed
        .and_then(|address| check(&address, Role::Listen).map(|()| address))
        .map_err(|why| AddressError::new(text, why))
}

/// Refuses addresses that nobody can listen on.
pub(crate) fn check_listen(addresses: &[Multiaddr]) -> Result<(), AddressErrors> {
    let checked = addresses.iter().filter_map(|address| {
        let why = check(address, Role::Listen).err()?;
        Some(AddressError::new(&address.to_string(), why))
    });
    AddressErrors::collect(checked).map_or(Ok(()), Err)
}

/// The peer that an address names in its last part.
pub(crate) fn named_peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// An address that can't be used, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} can't be used: {why}")]
pub struct AddressError {
    /// What was given; what is beyond [`ADDRESS_BYTES_MAX`] is cut off.
    pub address: String,
    /// The reason.
    #[source]
    pub why: AddressProblem,
}

impl AddressError {
    fn new(text: &str, why: AddressProblem) -> Self {
        Self { address: text.chars().take(ADDRESS_BYTES_MAX).collect(), why }
    }
}

/// Every address of a list that can't be used; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressErrors(Vec<AddressError>);

impl AddressErrors {
    /// All errors of several lists together; `None` if there are none.
    pub fn collect(errors: impl IntoIterator<Item = AddressError>) -> Option<Self> {
        let errors: Vec<_> = errors.into_iter().collect();
        if errors.is_empty() { None } else { Some(Self(errors)) }
    }

    /// The addresses and reasons, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, AddressError> {
        self.0.iter()
    }
}

impl From<AddressError> for AddressErrors {
    fn from(error: AddressError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for AddressErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for AddressErrors {}

/// Why an address can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressProblem {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// It is longer than [`ADDRESS_BYTES_MAX`].
    #[error("it has {bytes} bytes, more than {ADDRESS_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is neither a multiaddr nor `host:port`.
    #[error("it is no multiaddr like /ip4/10.0.0.1/tcp/4001 and not of the form host:port")]
    Unreadable,
    /// A part of a multiaddr can't be read, as an IP address of three numbers.
    #[error("it begins as a multiaddr, but a part of it can't be read")]
    BadPart,
    /// A multiaddr is needed here, as in an address to listen on.
    #[error("a multiaddr like /ip4/127.0.0.1/tcp/4001 is needed here")]
    NotAMultiaddr,
    /// A multiaddr has a protocol that nobody knows.
    #[error("the protocol {name:?} is unknown")]
    UnknownProtocol {
        /// The protocol's name.
        name: String,
    },
    /// A protocol that is no part of TCP over IP, as UDP, QUIC, WebSocket, Unix sockets and memory.
    #[error("the protocol {protocol} is not supported, only TCP is")]
    Unsupported {
        /// The protocol's name.
        protocol: String,
    },
    /// It leads through a relay.
    #[error("it leads through a relay, which is not supported")]
    Relay,
    /// It names no host.
    #[error("it names no host")]
    NoHost,
    /// It names no TCP port.
    #[error("it names no TCP port")]
    NoPort,
    /// The port is no number from 1 to 65535.
    #[error("the port {port:?} is no number from 1 to 65535")]
    BadPort {
        /// What stands in the port's place.
        port: String,
    },
    /// Port 0 can be listened on, but not dialled.
    #[error("port 0 can't be dialled")]
    PortZero,
    /// An IPv6 address and a port without brackets could be read in more than one way.
    #[error("write an IPv6 address in brackets, like [::1]:4001")]
    NoBrackets,
    /// The host is neither an IP address nor a name.
    #[error("the host {name:?} is neither an IP address nor a DNS name")]
    BadName {
        /// What stands in the host's place.
        name: String,
    },
    /// A name where only an IP address can be used: to listen on.
    #[error("a node listens on IP addresses, not on names")]
    NameToListenOn,
    /// The IP address means every interface; nobody is there.
    #[error("{ip} stands for every address of a machine and can't be dialled")]
    Unspecified {
        /// The IP address.
        ip: IpAddr,
    },
    /// The IP address is not that of one machine.
    #[error("{ip} is a multicast or broadcast address")]
    NotOneHost {
        /// The IP address.
        ip: IpAddr,
    },
    /// A link-local IPv6 address is nothing without its interface, which can't be told.
    #[error("{ip} is link-local, and interfaces can't be named")]
    LinkLocal {
        /// The IP address.
        ip: Ipv6Addr,
    },
    /// The peer that the address names has a key that no node has.
    #[error("it names peer {peer}, whose key is not Ed25519")]
    NotEd25519 {
        /// The peer.
        peer: PeerId,
    },
    /// Something stands behind the end of a complete address.
    #[error("{protocol} does not belong at its end")]
    Surplus {
        /// The first protocol that is too much.
        protocol: String,
    },
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Peer,
    Listen,
}

fn parse(text: &str) -> Result<Multiaddr, AddressProblem> {
    match text.len() {
        0 => Err(AddressProblem::Empty),
        1..=ADDRESS_BYTES_MAX if text.starts_with('/') => {
            text.parse().map_err(|error| match error {
                multiaddr::Error::UnknownProtocolString(name) if !name.is_empty() => {
                    AddressProblem::UnknownProtocol { name }
                }
                _ => AddressProblem::BadPart,
            })
        }
        1..=ADDRESS_BYTES_MAX => host_and_port(text),
        bytes => Err(AddressProblem::TooLong { bytes }),
    }
}

/// Reads `host:port`.
fn host_and_port(text: &str) -> Result<Multiaddr, AddressProblem> {
    if text.contains('/') {
        // A URL, or a multiaddr without its first slash.
        return Err(AddressProblem::Unreadable);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(AddressProblem::Unreadable)?;
            let ip = host.parse::<Ipv6Addr>();
            let ip = ip.map_err(|_| AddressProblem::BadName { name: host.to_owned() })?;
            (Protocol::Ip6(ip), rest.strip_prefix(':').ok_or(AddressProblem::NoPort)?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or_else(|| {
                if is_name(text) || text.parse::<IpAddr>().is_ok() {
                    AddressProblem::NoPort
                } else {
                    AddressProblem::Unreadable
                }
            })?;
            if host.contains(':') {
                return Err(AddressProblem::NoBrackets);
            }
            (host_part(host)?, port)
        }
    };
    // Digits alone: `parse` would take a sign, too.
    let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok());
    let Some(number) = number.flatten() else {
        return Err(AddressProblem::BadPort { port: port.to_owned() });
    };
    Ok(Multiaddr::empty().with(host).with(Protocol::Tcp(number)))
}

fn host_part(host: &str) -> Result<Protocol<'_>, AddressProblem> {
    if host.is_empty() {
        return Err(AddressProblem::NoHost);
    }
    Ok(host.parse().map_or_else(|_| Protocol::Dns(host.into()), Protocol::Ip4))
}

/// Whether DNS could know a name: letters, digits, hyphens and underscores between dots, and no
/// number as its last part, which would be a mistyped IP address.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(byte)
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label) && !number
}

/// Refuses a multiaddr that can't be used in this role.
fn check(address: &Multiaddr, role: Role) -> Result<(), AddressProblem> {
    let bytes = address.len();
    if bytes > ADDRESS_BYTES_MAX {
        return Err(AddressProblem::TooLong { bytes });
    }
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return Err(AddressProblem::Relay);
    }
    let mut parts = address.iter().peekable();
    let Some(host) = parts.next() else { return Err(AddressProblem::Empty) };
    let by_records = matches!(host, Protocol::Dnsaddr(_));
    check_host(&host, role)?;
    if !by_records {
        match parts.next() {
            Some(Protocol::Tcp(0)) if role == Role::Peer => return Err(AddressProblem::PortZero),
            Some(Protocol::Tcp(_)) => {}
            Some(Protocol::P2p(_)) | None => return Err(AddressProblem::NoPort),
            Some(other) => return Err(unsupported(&other)),
        }
    }
    match (parts.next(), parts.next()) {
        (None, _) => Ok(()),
        (Some(Protocol::P2p(peer)), None) if node_id(peer).is_err() => {
            Err(AddressProblem::NotEd25519 { peer })
        }
        (Some(Protocol::P2p(_)), None) => Ok(()),
        (Some(Protocol::P2p(_)), Some(other)) => {
            Err(AddressProblem::Surplus { protocol: other.tag().to_owned() })
        }
        (Some(other), _) => Err(unsupported(&other)),
    }
}

fn check_host(host: &Protocol<'_>, role: Role) -> Result<(), AddressProblem> {
    let ip: IpAddr = match host {
        Protocol::Ip4(ip) => (*ip).into(),
        Protocol::Ip6(ip) => (*ip).into(),
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)
            if role == Role::Listen =>
        {
            return Err(AddressProblem::NameToListenOn);
        }
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name) => {
            let bad = || AddressProblem::BadName { name: name.to_string() };
            return is_name(name).then_some(()).ok_or_else(bad);
        }
        Protocol::Tcp(_) | Protocol::P2p(_) => return Err(AddressProblem::NoHost),
        other => return Err(unsupported(other)),
    };
    check_ip(ip, role)
}

fn check_ip(ip: IpAddr, role: Role) -> Result<(), AddressProblem> {
    let plain = ip.to_canonical();
    let broadcast = matches!(plain, IpAddr::V4(ip) if ip.is_broadcast());
    if plain.is_multicast() || broadcast {
        return Err(AddressProblem::NotOneHost { ip });
    }
    if role == Role::Listen {
        return Ok(());
    }
    match plain {
        _ if plain.is_unspecified() => Err(AddressProblem::Unspecified { ip }),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(AddressProblem::LinkLocal { ip }),
        _ => Ok(()),
    }
}

fn unsupported(part: &Protocol<'_>) -> AddressProblem {
    AddressProblem::Unsupported { protocol: part.tag().to_owned() }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
