//! Who listens where: a bounded map of addresses, and what of it to tell whom.
//!
//! Invariants:
//! 1. At most [`PeerMap::NODES_MAX`] nodes with at most [`PeerMap::ADDRESSES_MAX`] addresses each.
//! 2. What was learned first-hand is never displaced by hearsay, so a peer that invents nodes
//!    cannot push real ones out. Being in the map gives a node no influence: it founds only if it
//!    answers itself.
//! 3. A peer is told each address once per connection, and never about itself.
//!
//! Addresses are opaque bytes here: the transport knows what a multiaddr is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::NodeId;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// One address at which a node listens: the bytes of a multiaddr.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Address(Bytes);

impl Address {
    /// The longest address, in bytes.
    pub const BYTES_MAX: usize = 512;

    /// Checks the length of an address and takes it.
    ///
    /// # Errors
    /// An address without bytes, or with too many.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, AddressError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(AddressError::Empty),
            1..=Self::BYTES_MAX => Ok(Self(bytes)),
            bytes => Err(AddressError::TooLong { bytes }),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Address({:?})", self.0)
    }
}

impl TryFrom<Bytes> for Address {
    type Error = AddressError;

    fn try_from(bytes: Bytes) -> Result<Self, AddressError> {
        Self::new(bytes)
    }
}

impl From<Address> for Bytes {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// Why bytes are no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There are no bytes.
    #[error("an address needs at least one byte")]
    Empty,
    /// The address is over [`Address::BYTES_MAX`].
    #[error("an address has at most 512 bytes, this one has {bytes}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// What one node tells another about addresses. The teller's own are among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exchange {
    /// Addresses by node.
    pub nodes: BTreeMap<NodeId, BTreeSet<Address>>,
}

impl Exchange {
    /// The longest encoding, in bytes. Checked before anything is decoded.
    pub const BYTES_MAX: usize = 32 * 1024;

    /// The most nodes in one exchange.
    pub const NODES_MAX: usize = 64;

    /// The bytes to send: a version byte, then postcard.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("memory takes every exchange");
        assert!(bytes.len() <= Self::BYTES_MAX, "an exchange outgrew its limit");
        bytes.into()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// Bytes that are too many, of another version, or no exchange.
    pub fn decode(bytes: &[u8]) -> Result<Self, ExchangeError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(ExchangeError::TooLong { bytes: bytes.len() });
        }
        let (&version, body) = bytes.split_first().ok_or(ExchangeError::Empty)?;
        if version != VERSION {
            return Err(ExchangeError::Version { found: version });
        }
        let (exchange, rest): (Self, _) = postcard::take_from_bytes(body)?;
        if !rest.is_empty() {
            return Err(ExchangeError::Trailing { bytes: rest.len() });
        }
        if exchange.nodes.len() > Self::NODES_MAX {
            return Err(ExchangeError::TooManyNodes { nodes: exchange.nodes.len() });
        }
        let most = exchange.nodes.values().map(BTreeSet::len).max().unwrap_or(0);
        if most > PeerMap::ADDRESSES_MAX {
            return Err(ExchangeError::TooManyAddresses { addresses: most });
        }
        Ok(exchange)
    }
}

/// Why bytes are no exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// There are no bytes.
    #[error("the exchange is empty")]
    Empty,
    /// The exchange is over [`Exchange::BYTES_MAX`].
    #[error("the exchange has {bytes} bytes, at most 32768 are taken")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The exchange is of a version that this build does not speak.
    #[error("the exchange has version {found}, this build speaks version 1")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The bytes end too early or hold what no exchange holds.
    #[error("the exchange is malformed")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow the exchange.
    #[error("{bytes} bytes follow the exchange")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// It is over [`Exchange::NODES_MAX`].
    #[error("the exchange names {nodes} nodes, at most 64 are taken")]
    TooManyNodes {
        /// How many.
        nodes: usize,
    },
    /// One node has more than [`PeerMap::ADDRESSES_MAX`] addresses.
    #[error("the exchange names {addresses} addresses of one node, at most 8 are taken")]
    TooManyAddresses {
        /// How many.
        addresses: usize,
    },
}

/// The addresses that one node knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerMap {
    me: NodeId,
    nodes: BTreeMap<NodeId, Listed>,
    /// Counts changes; an entry remembers the one that touched it last.
    changes: u64,
    /// Up to which change each connected peer was told.
    told: BTreeMap<NodeId, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Listed {
    /// Newest last.
    addresses: Vec<Address>,
    first_hand: bool,
    changed: u64,
}

impl PeerMap {
    /// The most nodes in a map.
    pub const NODES_MAX: usize = 1024;

    /// The most addresses of one node; the oldest makes room.
    pub const ADDRESSES_MAX: usize = 8;

    /// The empty map of this node.
    pub fn new(me: NodeId) -> Self {
        Self { me, nodes: BTreeMap::new(), changes: 0, told: BTreeMap::new() }
    }

    /// Takes an address at first hand: configured, dialled with success, or told by the node
    /// itself. The own listening addresses are learned the same way, under the own id. Returns
    /// whether it is new; a full map makes room by forgetting a node known by hearsay.
    pub fn learn(&mut self, node: NodeId, address: Address) -> bool {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= Self::NODES_MAX {
            let hearsay = self.nodes.iter().find(|(_, listed)| !listed.first_hand);
            let Some(victim) = hearsay.map(|(&victim, _)| victim) else { return false };
            self.nodes.remove(&victim);
        }
        self.insert(node, address, true)
    }

    /// Takes what `from` told. Returns the addresses that are new, for the driver to dial. What is
    /// said about this node is dropped; what `from` says about itself is first-hand.
    pub fn merge(&mut self, from: NodeId, exchange: &Exchange) -> Vec<(NodeId, Address)> {
        let mut new = Vec::new();
        for (&node, addresses) in &exchange.nodes {
            for address in addresses.iter().take(Self::ADDRESSES_MAX) {
                let taken = if node == self.me {
                    false
                } else if node == from {
                    self.learn(node, address.clone())
                } else {
                    self.hear_say(node, address.clone())
                };
                if taken {
                    new.push((node, address.clone()));
                }
            }
        }
        new
    }

    /// The addresses of a node, the newest first.
    pub fn addresses(&self, node: NodeId) -> impl Iterator<Item = &Address> {
        self.nodes.get(&node).into_iter().flat_map(|listed| listed.addresses.iter().rev())
    }

    /// Every node with a known address.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// The next thing to tell a connected peer, or `None` if it was told everything. Call it until
    /// `None`, when the peer connects and whenever the map has changed.
    pub fn tell(&mut self, to: NodeId) -> Option<Exchange> {
        if self.told.len() >= Self::NODES_MAX && !self.told.contains_key(&to) {
            return None;
        }
        let told = self.told.get(&to).copied().unwrap_or(0);
        let mut news: Vec<_> = (self.nodes.iter())
            .filter(|(node, listed)| **node != to && listed.changed > told)
            .map(|(&node, listed)| (listed.changed, node))
            .collect();
        news.sort_unstable();
        let mut exchange = Exchange::default();
        let mut bytes = EXCHANGE_OVERHEAD_BYTES;
        let mut until = told;
        for (changed, node) in news {
            let addresses: BTreeSet<_> = self.addresses(node).cloned().collect();
            bytes += NODE_OVERHEAD_BYTES + addresses.iter().map(listed_bytes).sum::<usize>();
            if exchange.nodes.len() == Exchange::NODES_MAX || bytes > Exchange::BYTES_MAX {
                break;
            }
            exchange.nodes.insert(node, addresses);
            until = changed;
        }
        if exchange.nodes.is_empty() {
            return None;
        }
        self.told.insert(to, until);
        Some(exchange)
    }

    /// Forgets what a peer was told: its connection is gone, and what was under way with it.
    pub fn disconnected(&mut self, peer: NodeId) {
        self.told.remove(&peer);
    }

    fn hear_say(&mut self, node: NodeId, address: Address) -> bool {
        match self.nodes.get(&node) {
            None if self.nodes.len() >= Self::NODES_MAX => false,
            // Hearsay fills free places only: it cannot displace what the node itself said.
            Some(listed) if listed.addresses.len() >= Self::ADDRESSES_MAX => false,
            _ => self.insert(node, address, false),
        }
    }

    fn insert(&mut self, node: NodeId, address: Address, first_hand: bool) -> bool {
        let listed = self.nodes.entry(node).or_insert_with(|| Listed {
            addresses: Vec::new(),
            first_hand,
            changed: 0,
        });
        listed.first_hand |= first_hand;
        if let Some(at) = listed.addresses.iter().position(|known| *known == address) {
            if first_hand {
                let address = listed.addresses.remove(at);
                listed.addresses.push(address);
            }
            return false;
        }
        if listed.addresses.len() == Self::ADDRESSES_MAX {
            listed.addresses.remove(0);
        }
        listed.addresses.push(address);
        self.changes += 1;
        listed.changed = self.changes;
        true
    }
}

/// Version byte and count of nodes, at most.
const EXCHANGE_OVERHEAD_BYTES: usize = 8;
/// A node's id and its count of addresses, at most.
const NODE_OVERHEAD_BYTES: usize = 40;

fn listed_bytes(address: &Address) -> usize {
    address.0.len() + 4
}

// One node with all its addresses always fits, so telling always gets on.
const _: () = assert!(
    EXCHANGE_OVERHEAD_BYTES
        + NODE_OVERHEAD_BYTES
        + PeerMap::ADDRESSES_MAX * (Address::BYTES_MAX + 4)
        <= Exchange::BYTES_MAX
);
