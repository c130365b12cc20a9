//! Where an address comes from, and how long and how many of each source are believed.

use std::time::Duration;

use meshraft_consensus::NodeId;

/// Where an address comes from. The order is the order of trust: better evidence comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressSource {
    /// The operator or the embedding program gave the address. It never expires.
    Configured,
    /// A connection that this node dialled at the address proved the peer's id there.
    FirstHand,
    /// The local network announces the address by multicast DNS.
    LocalNetwork,
    /// Another process of this machine's user left the address in a shared folder.
    LocalMachine,
    /// A peer said so.
    Hearsay {
        /// The peer that said it.
        teller: NodeId,
    },
}

impl AddressSource {
    /// Whether the only evidence is a peer's word.
    pub const fn is_hearsay(self) -> bool {
        matches!(self, Self::Hearsay { .. })
    }

    /// How long an address is believed after the source named it last; `None`: for ever.
    pub const fn time_to_live(self) -> Option<Duration> {
        match self {
            Self::Configured => None,
            Self::FirstHand | Self::LocalNetwork => Some(DAY),
            Self::LocalMachine => Some(Duration::from_secs(3_600)),
            Self::Hearsay { .. } => Some(Duration::from_secs(600)),
        }
    }

    /// Its place in the order of trust; all tellers share one place.
    pub(super) const fn rank(self) -> usize {
        match self {
            Self::Configured => 0,
            Self::FirstHand => 1,
            Self::LocalNetwork => 2,
            Self::LocalMachine => 3,
            Self::Hearsay { .. } => 4,
        }
    }

    /// The most addresses of one peer that this source may name.
    pub(super) const fn addresses_max(self) -> usize {
        match self {
            Self::Configured | Self::Hearsay { .. } => 8,
            Self::FirstHand | Self::LocalNetwork | Self::LocalMachine => 4,
        }
    }
}

/// How many ranks there are.
pub(super) const RANKS: usize = 5;
/// A day.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3_600);

impl core::fmt::Display for AddressSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Configured => f.write_str("configured"),
            Self::FirstHand => f.write_str("first-hand"),
            Self::LocalNetwork => f.write_str("local network"),
            Self::LocalMachine => f.write_str("local machine"),
            Self::Hearsay { teller } => write!(f, "hearsay of {teller}"),
        }
    }
}

/// Why an address is not taken into the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRefusal {
    /// The address names a peer whose key is not Ed25519.
    #[error("the address names a peer that has no Ed25519 key")]
    NotEd25519,
    /// The address names no peer; only the operator may give such an address.
    #[error("the address names no peer")]
    NoPeer,
    /// The address is this node's own.
    #[error("the address is this node's own")]
    Ourselves,
    /// The address is no IP address with a port; only the operator may give such an address.
    #[error("the address is no IP address with a port")]
    NotDialable,
    /// Nobody can be reached at the address from here: unspecified, multicast or broadcast.
    #[error("the address can't be reached by anyone")]
    Nowhere,
    /// A loopback or link-local address, told by another machine.
    #[error("the address has a meaning on the teller's machine or link only")]
    OfAnotherMachine,
    /// A private address, told by a peer with a public one.
    #[error("the address is private, and its teller is not in that network")]
    OfAnotherNetwork,
    /// A bound of the book is reached by addresses that are as good or better.
    #[error("the address book is full of addresses that are as good or better")]
    Full,
}
