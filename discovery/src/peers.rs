//! What nodes tell each other of where they listen, and what was told to whom.
//!
//! Invariants:
//! 1. At most [`Directory::NODES_MAX`] nodes beside the members, with at most
//!    [`Directory::ADDRESSES_MAX`] addresses each. A node that was met in person always finds room.
//! 2. Only what this node knows at first hand is told on. Being listed gives a node no influence:
//!    it founds only if it answers itself.
//! 3. All that is told of one node is told as a whole, so that what is not said any more is
//!    withdrawn at the receiver.
//! 4. A peer is told each change once per connection, and never about itself.
//!
//! Addresses are opaque bytes here: the transport knows what a multiaddr is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::NodeId;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 2;

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

/// What one node tells another about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exchange {
    /// How often the teller's own addresses had changed.
    pub version: u64,
    /// The teller's own addresses, as a whole.
    pub own: BTreeSet<Address>,
    /// Where the teller reached other nodes at first hand: of each node as a whole.
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
        let sets = exchange.nodes.values().chain([&exchange.own]);
        let most = sets.map(BTreeSet::len).max().unwrap_or(0);
        if most > Directory::ADDRESSES_MAX {
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
    #[error("the exchange has version {found}, this build speaks version 2")]
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
    /// One node has more than [`Directory::ADDRESSES_MAX`] addresses.
    #[error("the exchange names {addresses} addresses of one node, at most 8 are taken")]
    TooManyAddresses {
        /// How many.
        addresses: usize,
    },
}

/// What one namespace tells its peers of addresses, and what each was told.
///
/// It holds addresses that are known at first hand alone: this node's own, and those at which this
/// node reached others. What peers say is handed to the driver and never told on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Directory {
    me: NodeId,
    own: BTreeSet<Address>,
    /// Counts changes of the own addresses.
    version: u64,
    nodes: BTreeMap<NodeId, Listed>,
    /// Nodes that never make room for others.
    members: BTreeSet<NodeId>,
    /// Counts changes; an entry remembers the one that touched it last.
    changes: u64,
    /// What each connected peer was told.
    told: BTreeMap<NodeId, Told>,
    /// The newest version that each connected peer told of its own addresses.
    heard: BTreeMap<NodeId, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Listed {
    /// The newest proof first.
    addresses: Vec<Address>,
    changed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Told {
    version: u64,
    changes: u64,
}

impl Directory {
    /// The most nodes, members not counted.
    pub const NODES_MAX: usize = 1024;

    /// The most addresses of one node, and of this one.
    pub const ADDRESSES_MAX: usize = 8;

    /// The empty directory of this node.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            own: BTreeSet::new(),
            version: 0,
            nodes: BTreeMap::new(),
            members: BTreeSet::new(),
            changes: 0,
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Where this node itself can be reached, as a whole; the first few are taken.
    pub fn set_own(&mut self, addresses: impl IntoIterator<Item = Address>) {
        let own: BTreeSet<_> = addresses.into_iter().take(Self::ADDRESSES_MAX).collect();
        if own != self.own {
            self.own = own;
            self.version += 1;
        }
    }

    /// Where this node reached another, as a whole, the newest proof first; the first few are
    /// taken. Returns whether that is news. When there are too many nodes, one that is neither a
    /// member nor connected makes room, the one without news for longest.
    pub fn set_proven(
        &mut self,
        node: NodeId,
        addresses: impl IntoIterator<Item = Address>,
    ) -> bool {
        let addresses: Vec<_> = addresses.into_iter().take(Self::ADDRESSES_MAX).collect();
        if node == self.me {
            return false;
        }
        if addresses.is_empty() {
            return self.nodes.remove(&node).is_some();
        }
        let known = self.nodes.get(&node).map(|listed| &listed.addresses);
        let placed = known.is_some() || self.members.contains(&node);
        if known == Some(&addresses) || (!placed && !self.make_room()) {
            return false;
        }
        self.changes += 1;
        self.nodes.insert(node, Listed { addresses, changed: self.changes });
        true
    }

    /// The members of the cluster, as a whole: what is known of them makes no room for others.
    pub fn set_members(&mut self, members: BTreeSet<NodeId>) {
        self.members = members;
    }

    fn make_room(&mut self) -> bool {
        let others = self.nodes.iter().filter(|(node, _)| !self.members.contains(node));
        if others.clone().count() < Self::NODES_MAX {
            return true;
        }
        let gone = others.filter(|(node, _)| !self.told.contains_key(node));
        let oldest = gone.min_by_key(|(_, listed)| listed.changed).map(|(node, _)| *node);
        oldest.is_some_and(|node| self.nodes.remove(&node).is_some())
    }

    /// Takes what a connected peer told. Returns, by node, all that the peer says of it, for the
    /// driver to judge; nothing of this node, and nothing of the peer itself that is older than
    /// what the peer told before.
    pub fn hear(&mut self, from: NodeId, exchange: &Exchange) -> Vec<(NodeId, BTreeSet<Address>)> {
        let mut said = Vec::new();
        let others = exchange.nodes.iter().filter(|(node, _)| **node != self.me && **node != from);
        let newest = self.heard.get(&from).copied().unwrap_or(0);
        let room = self.heard.len() < Self::NODES_MAX || self.heard.contains_key(&from);
        if exchange.version >= newest && room {
            self.heard.insert(from, exchange.version);
            said.push((from, exchange.own.clone()));
        }
        said.extend(others.map(|(node, addresses)| (*node, addresses.clone())));
        said
    }

    /// The proven addresses of a node, or this node's own.
    pub fn addresses(&self, node: NodeId) -> impl Iterator<Item = &Address> {
        let own = self.own.iter().filter(move |_| node == self.me);
        self.nodes.get(&node).into_iter().flat_map(|listed| &listed.addresses).chain(own)
    }

    /// Every other node with a proven address: members first, then those with the newest proof.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(node, listed)| {
            (!self.members.contains(node), core::cmp::Reverse(listed.changed))
        });
        nodes.into_iter().map(|(node, _)| *node).collect()
    }

    /// Whether anything is known of a node.
    pub fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// The next thing to tell a connected peer, or `None` if it was told everything. Call it until
    /// `None`, when the peer connects and whenever the directory has changed.
    pub fn tell(&mut self, to: NodeId) -> Option<Exchange> {
        if self.told.len() >= Self::NODES_MAX && !self.told.contains_key(&to) {
            return None;
        }
        let told = self.told.get(&to).copied().unwrap_or_default();
        let mut news: Vec<_> = (self.nodes.iter())
            .filter(|(node, listed)| **node != to && listed.changed > told.changes)
            .map(|(&node, listed)| (listed.changed, node))
            .collect();
        news.sort_unstable();
        let own = self.own.clone();
        let mut exchange = Exchange { version: self.version, own, nodes: BTreeMap::new() };
        let mut bytes = EXCHANGE_OVERHEAD_BYTES + self.own.iter().map(listed_bytes).sum::<usize>();
        let mut changes = told.changes;
        for (changed, node) in news {
            let addresses: BTreeSet<_> = self.addresses(node).cloned().collect();
            bytes += NODE_OVERHEAD_BYTES + addresses.iter().map(listed_bytes).sum::<usize>();
            if exchange.nodes.len() == Exchange::NODES_MAX || bytes > Exchange::BYTES_MAX {
                break;
            }
            exchange.nodes.insert(node, addresses);
            changes = changed;
        }
        if exchange.nodes.is_empty() && told.version == self.version {
            return None;
        }
        self.told.insert(to, Told { version: self.version, changes });
        Some(exchange)
    }

    /// A peer is told everything once more: any message may be lost.
    pub fn tell_again(&mut self, peer: NodeId) {
        self.told.remove(&peer);
    }

    /// Forgets what a peer was told, and told: its connection is gone, and what was under way.
    pub fn disconnected(&mut self, peer: NodeId) {
        self.told.remove(&peer);
        self.heard.remove(&peer);
    }
}

/// Version byte, version and counts, at most.
const EXCHANGE_OVERHEAD_BYTES: usize = 24;
/// A node's id and its count of addresses, at most.
const NODE_OVERHEAD_BYTES: usize = 40;

fn listed_bytes(address: &Address) -> usize {
    address.0.len() + 4
}

// One node with all its addresses always fits beside the teller's own, so telling always gets on.
const _: () = assert!(
    EXCHANGE_OVERHEAD_BYTES
        + NODE_OVERHEAD_BYTES
        + 2 * Directory::ADDRESSES_MAX * (Address::BYTES_MAX + 4)
        <= Exchange::BYTES_MAX
);
