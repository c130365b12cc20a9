//! Why a peer can't be reached at an address, and the bounded table of what failed last.

use std::{collections::BTreeMap, error::Error, fmt, io, time::Duration};

use libp2p::{
    Multiaddr, PeerId, TransportError, core::transport::timeout::TransportTimeoutError,
    swarm::DialError,
};
use meshraft_consensus::NodeId;

use crate::{address::named_peer, identity::peer_id};

/// Why nobody was reached at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialFailure {
    /// DNS knows no such name.
    #[error("no such host: {name}")]
    NoSuchHost {
        /// The name.
        name: String,
    },
    /// The name exists, and has no address that can be dialled.
    #[error("the name {name} has no address that can be dialled")]
    NoAddress {
        /// The name.
        name: String,
    },
    /// No name server could say what the name means.
    #[error("the name {name} can't be looked up: {why}")]
    Lookup {
        /// The name.
        name: String,
        /// What the resolver said.
        why: String,
    },
    /// The name servers did not answer in time.
    #[error("the name {name} was not looked up within {} ms", within.as_millis())]
    LookupTimeout {
        /// The name.
        name: String,
        /// The time that they had.
        within: Duration,
    },
    /// The machine is there, and nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// There is no way to the machine.
    #[error("the host can't be reached")]
    Unreachable,
    /// The machine did not answer in time.
    #[error("the host did not answer within {} ms", within.as_millis())]
    ConnectTimeout {
        /// The time that it had.
        within: Duration,
    },
    /// The connection was closed before the handshake was over: by something that is no libp2p
    /// peer, or by a node that has no room or was just ended.
    #[error("what listens there hung up during the handshake")]
    HungUp,
    /// Something listens there that is no libp2p peer, as a web server.
    #[error("what listens there does not answer as a Meshraft node does")]
    NotANode,
    /// Something listens there and did not say in time that it is a libp2p peer.
    #[error("what listens there said nothing within {} ms", within.as_millis())]
    Silent {
        /// The time that it had.
        within: Duration,
    },
    /// Another peer answers there.
    #[error("expected {expected}, found {found}")]
    WrongPeer {
        /// The peer that the address names.
        expected: PeerId,
        /// The peer that answers.
        found: PeerId,
    },
    /// This node itself answers there.
    #[error("this node itself answers there")]
    Itself,
    /// Anything else that the system said.
    #[error("{why}")]
    System {
        /// What it said.
        why: String,
    },
    /// The name has several addresses, which failed for different reasons.
    #[error("{}", Listed(each))]
    Several {
        /// The addresses and reasons.
        each: Vec<Unreached>,
    },
}

impl DialFailure {
    /// Whether nothing is known but that time ran out: the peer may only be slow or far away.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::LookupTimeout { .. } | Self::ConnectTimeout { .. } | Self::Silent { .. } => true,
            Self::Several { each } => each.iter().any(|one| one.why.is_timeout()),
            _ => false,
        }
    }

    /// Whether a person most likely gave a wrong address: waiting does not help. A handshake that
    /// failed is none: a node that is killed at that moment looks like it.
    const fn is_mistake(&self) -> bool {
        matches!(self, Self::NoSuchHost { .. } | Self::WrongPeer { .. })
    }

    /// One reason for all addresses of a name.
    pub(crate) fn of_all(name: String, mut each: Vec<Unreached>) -> Self {
        match each.as_slice() {
            [] => Self::NoAddress { name },
            [first, rest @ ..] if rest.iter().all(|one| one.why == first.why) => {
                each.swap_remove(0).why
            }
            _ => Self::Several { each },
        }
    }

    /// The reason inside an error of our own transport.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        // Boxes of libp2p stand around what our own layers said.
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return failure.clone();
            }
            if let Some(Connecting(failure)) = error.downcast_ref() {
                return failure.clone();
            }
            next = match error.downcast_ref::<io::Error>() {
                Some(error) if is_closed(error.kind()) => return Self::HungUp,
                Some(error) => error.get_ref().map(|inner| -> &(dyn Error + 'static) { inner }),
                None => error.source(),
            };
        }
        // TCP connected, so that a handshake failed.
        Self::NotANode
    }

    fn of_connecting(error: &io::Error, within: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::ConnectTimeout { within },
            _ => Self::System { why: error.to_string() },
        }
    }
}

/// Whether the other end closed a connection.
const fn is_closed(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// An address, and why nobody was reached there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// The address, with `/p2p/` and an id if a certain peer was looked for.
    pub address: Multiaddr,
    /// The reason.
    pub why: DialFailure,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.why)
    }
}

struct Listed<'a>(&'a [Unreached]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{one}")?;
        }
        Ok(())
    }
}

/// What TCP said, so that it can be told from what a handshake said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Connecting(DialFailure);

/// The error of the TCP layer. It has its reason as its source, as some of libp2p's layers hand on
/// the source of an error and not the error itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TcpError(#[source] Connecting);

impl TcpError {
    pub(crate) fn new(error: &TransportTimeoutError<io::Error>, within: Duration) -> Self {
        Self(Connecting(match error {
            TransportTimeoutError::Timeout => DialFailure::ConnectTimeout { within },
            TransportTimeoutError::TimerError(error) | TransportTimeoutError::Other(error) => {
                DialFailure::of_connecting(error, within)
            }
        }))
    }
}

/// The addresses that a failed dial tried, with the reason for each. `sought` is the peer that was
/// looked for.
pub(crate) fn unreached(sought: Option<NodeId>, error: &DialError) -> Vec<Unreached> {
    let at = |address: &Multiaddr, why| vec![Unreached { address: address.clone(), why }];
    match error {
        DialError::Transport(failures) => {
            let each = failures.iter().map(|(address, error)| {
                let why = match error {
                    TransportError::Other(error) => DialFailure::of_io(error),
                    TransportError::MultiaddrNotSupported(_) => {
                        DialFailure::System { why: "the address is not supported".to_owned() }
                    }
                };
                Unreached { address: address.clone(), why }
            });
            each.collect()
        }
        DialError::WrongPeerId { obtained, address } => {
            let found = *obtained;
            let expected = sought.map(peer_id).or_else(|| named_peer(address));
            at(
                address,
                expected.map_or(DialFailure::NotANode, |expected| DialFailure::WrongPeer {
                    expected,
                    found,
                }),
            )
        }
        DialError::LocalPeerId { address } => at(address, DialFailure::Itself),
        // None of these says anything about an address.
        DialError::Denied { .. }
        | DialError::NoAddresses
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted => Vec::new(),
    }
}

/// The addresses that failed when they were dialled last. A value, and bounded.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<Multiaddr, DialFailure>);

impl Failures {
    /// Addresses that are remembered; those that fail when so many are, are not.
    const MAX: usize = 256;

    /// An address failed. Tells the log once for each change of the reason.
    pub(crate) fn failed(&mut self, Unreached { address, why }: Unreached) {
        if self.0.get(&address) == Some(&why)
            || (self.0.len() >= Self::MAX && !self.0.contains_key(&address))
        {
            return;
        }
        if why.is_mistake() {
            tracing::warn!(%address, %why, "peer not reached");
        } else {
            tracing::debug!(%address, %why, "peer not reached");
        }
        self.0.insert(address, why);
    }

    /// A peer was reached, at this address if this node dialled.
    pub(crate) fn reached(&mut self, peer: PeerId, address: Option<&Multiaddr>) {
        self.0.retain(|known, _| Some(known) != address && named_peer(known) != Some(peer));
    }

    /// All of them, in the order of the addresses.
    pub(crate) fn all(&self) -> Vec<Unreached> {
        let each = self.0.iter();
        each.map(|(address, why)| Unreached { address: address.clone(), why: why.clone() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn reasons_of_one_name_are_told_once_if_they_are_equal() {
        let one = |port, why| Unreached { address: address(port), why };
        let same = vec![one(1, DialFailure::Refused), one(2, DialFailure::Refused)];
        assert_eq!(DialFailure::of_all("n".into(), same), DialFailure::Refused);
        let mixed = vec![one(1, DialFailure::Refused), one(2, DialFailure::Itself)];
        let told = DialFailure::of_all("n".into(), mixed).to_string();
        assert!(told.contains("/tcp/1: connection refused, /ip4/127.0.0.1/tcp/2: this"), "{told}");
        let none = DialFailure::of_all("n".into(), Vec::new());
        assert_eq!(none, DialFailure::NoAddress { name: "n".into() });
    }

    #[test]
    fn a_reason_is_found_through_boxes() {
        let timeout = TransportTimeoutError::Other(io::ErrorKind::ConnectionRefused.into());
        let tcp = TcpError::new(&timeout, Duration::from_secs(1));
        let boxed = io::Error::other(io::Error::other(tcp));
        assert_eq!(DialFailure::of_io(&boxed), DialFailure::Refused);
        let own = io::Error::other(io::Error::other(DialFailure::Itself));
        assert_eq!(DialFailure::of_io(&own), DialFailure::Itself);
        // A handshake may end in the error of a socket, too.
        let hung_up = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(DialFailure::of_io(&hung_up), DialFailure::HungUp);
        let strange = io::Error::other("an invalid message");
        assert_eq!(DialFailure::of_io(&strange), DialFailure::NotANode);
    }

    #[test]
    fn failures_are_bounded_and_forgotten_when_the_peer_is_reached() {
        let mut failures = Failures::default();
        for port in 0..2 * Failures::MAX as u16 {
            failures.failed(Unreached { address: address(port), why: DialFailure::Refused });
        }
        assert_eq!(failures.all().len(), Failures::MAX);
        failures.failed(Unreached { address: address(7), why: DialFailure::Unreachable });
        assert!(failures.all().iter().any(|one| one.why == DialFailure::Unreachable));
        let peer = PeerId::random();
        failures.reached(peer, Some(&address(7)));
        assert_eq!(failures.all().len(), Failures::MAX - 1);
        let named = address(9).with_p2p(peer).unwrap();
        failures.failed(Unreached { address: named, why: DialFailure::Refused });
        assert_eq!(failures.all().len(), Failures::MAX);
        failures.reached(peer, None);
        assert_eq!(failures.all().len(), Failures::MAX - 1);
    }
}
