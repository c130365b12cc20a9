//! What a node keeps of a namespace besides its log: incarnation, founding, known addresses.
//!
//! The store treats it as opaque bytes and writes it whole, in one transaction with the groups that
//! begin or end with it. A version byte, then postcard.

use std::collections::BTreeMap;

use meshraft_consensus::{Card, ClusterId, Incarnation, Index, Member, NodeId};
use meshraft_discovery::peers::{Address, Directory};
use meshraft_storage::GroupId;
use serde::{Deserialize, Serialize};

use super::fenced::FencedGroup;

const VERSION: u8 = 2;

/// A namespace's record in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// Whose record it is: a store under another identity would be a member that nobody knows.
    pub(crate) node: NodeId,
    /// Drawn when the record was created.
    pub(crate) incarnation: Incarnation,
    /// An encoded [`meshraft_discovery::Record`].
    pub(crate) founding: Vec<u8>,
    /// Where peers were reached at first hand: soft state, so that a restart finds them.
    pub(crate) peers: Vec<(NodeId, Address)>,
    /// The members that are heard beside those of the log, each as of a slot.
    pub(crate) vouched: Vec<(Member, Index)>,
    /// The cards that prove this member.
    pub(crate) cards: Vec<Card>,
    /// Logs of incarnations that act no more.
    pub(crate) fenced: Vec<FencedGroup>,
    /// What an operator released this node from, the oldest first: the groups stay in the store.
    pub(crate) aside: Vec<SetAside>,
    /// What a record of version 1 holds of peers: hearsay, and never written.
    #[serde(skip)]
    pub(crate) heard: Vec<(NodeId, Address)>,
}

/// A group that the record points to no more, because an operator released the node from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetAside {
    /// The group's number, which is never used again.
    group: u64,
    /// Whose log it is.
    pub(crate) cluster: ClusterId,
    /// The incarnation that acted in it, and never acts again.
    pub(crate) incarnation: Incarnation,
}

impl SetAside {
    /// How many groups of one namespace can be set aside.
    pub(crate) const MAX: usize = 64;

    pub(crate) const fn new(group: GroupId, cluster: ClusterId, incarnation: Incarnation) -> Self {
        Self { group: group.get(), cluster, incarnation }
    }

    pub(crate) const fn group(&self) -> GroupId {
        GroupId::new(self.group)
    }
}

/// A record of version 1. It did not tell what was known at first hand from what was only heard.
#[derive(Deserialize)]
struct First {
    node: NodeId,
    incarnation: Incarnation,
    founding: Vec<u8>,
    peers: Vec<(NodeId, Address)>,
}

impl From<First> for HostRecord {
    fn from(first: First) -> Self {
        let First { node, incarnation, founding, peers: heard } = first;
        let (vouched, cards, peers) = (Vec::new(), Vec::new(), Vec::new());
        let (fenced, aside) = (Vec::new(), Vec::new());
        Self { node, incarnation, founding, peers, vouched, cards, fenced, aside, heard }
    }
}

/// The addresses of a record, by node.
pub(crate) fn by_node(peers: Vec<(NodeId, Address)>) -> BTreeMap<NodeId, Vec<Address>> {
    let mut nodes = BTreeMap::<_, Vec<_>>::new();
    for (node, address) in peers {
        nodes.entry(node).or_default().push(address);
    }
    nodes
}

/// What of a directory is kept: the newest addresses of each node, members first, within the bound
/// of a record.
pub(crate) fn remembered(peers: &Directory) -> Vec<(NodeId, Address)> {
    const NODE_ADDRESSES_MAX: usize = 3;
    const BYTES_MAX: usize = 32 * 1024;
    let mut bytes = 0;
    peers
        .nodes()
        .into_iter()
        .flat_map(|node| {
            peers.addresses(node).take(NODE_ADDRESSES_MAX).map(move |address| (node, address))
        })
        .take_while(|(_, address)| {
            bytes += 32 + 4 + address.as_bytes().len();
            bytes <= BYTES_MAX
        })
        .map(|(node, address)| (node, address.clone()))
        .collect()
}

/// Why a record can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A version that this build does not know.
    #[error("the namespace record has version {version}, this build reads 1 to {VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The record is of another node: the identity file was replaced or lost.
    #[error("the store belongs to node {of}, not to {node}: was its identity file replaced?")]
    OtherNode {
        /// Whose it is.
        of: NodeId,
        /// Who opens it.
        node: NodeId,
    },
    /// The bytes are no record.
    #[error("the namespace record is corrupt")]
    Corrupt,
}

impl HostRecord {
    /// The bytes of the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Serialising owned byte vectors into memory has no way to fail; an empty record would be
        // refused as corrupt on the way back, never misread.
        let body = postcard::to_allocvec(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(1 + body.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads the bytes of a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| RecordError::Corrupt),
            Some((&1, body)) => postcard::from_bytes::<First>(body)
                .map(Self::from)
                .map_err(|_| RecordError::Corrupt),
            Some((&version, _)) => Err(RecordError::Version { version }),
            None => Err(RecordError::Corrupt),
        }
    }
}

#[cfg(test)]
impl HostRecord {
    /// The record of a node of a test that knows nobody.
    pub(crate) fn of_test(node: NodeId, incarnation: Incarnation, founding: Vec<u8>) -> Self {
        let (peers, heard) = (Vec::new(), Vec::new());
        let (vouched, cards, fenced) = (Vec::new(), Vec::new(), Vec::new());
        let aside = Vec::new();
        Self { node, incarnation, founding, peers, vouched, cards, fenced, aside, heard }
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::ClusterId;

    use super::*;

    #[test]
    fn a_record_survives_its_encoding_and_strangers_are_refused() {
        let record = HostRecord {
            node: NodeId::new([2; 32]),
            incarnation: Incarnation::new([7; 16]),
            founding: vec![1, 2],
            peers: vec![(NodeId::new([1; 32]), Address::new(vec![4, 127, 0, 0, 1]).unwrap())],
            vouched: vec![(
                Member::new(NodeId::new([1; 32]), Incarnation::new([1; 16])),
                Index::new(3),
            )],
            cards: Vec::new(),
            fenced: vec![FencedGroup {
                group: 4,
                cluster: ClusterId::new([5; 32]),
                incarnation: Incarnation::new([6; 16]),
                acknowledged: Index::new(9),
            }],
            aside: vec![SetAside::new(
                GroupId::new(3),
                ClusterId::new([5; 32]),
                Incarnation::new([6; 16]),
            )],
            heard: Vec::new(),
        };
        assert_eq!(HostRecord::decode(&record.encode()), Ok(record.clone()));
        // What an older build kept of peers is hearsay.
        let first = (record.node, record.incarnation, &record.founding, &record.peers);
        let first = postcard::to_extend(&first, vec![1]).unwrap();
        let opened = HostRecord::decode(&first).unwrap();
        assert_eq!((opened.incarnation, opened.peers), (record.incarnation, Vec::new()));
        assert_eq!(opened.heard, record.peers);
        assert_eq!(HostRecord::decode(&[9, 0]), Err(RecordError::Version { version: 9 }));
        assert_eq!(HostRecord::decode(&[]), Err(RecordError::Corrupt));
        assert_eq!(HostRecord::decode(&[1, 2]), Err(RecordError::Corrupt));
    }
}
