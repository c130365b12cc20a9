//! What a node keeps of a namespace besides its log: incarnation, founding, known addresses.
//!
//! The store treats it as opaque bytes and writes it whole, in one transaction with the groups that
//! begin or end with it. A version byte, then postcard.

use meshraft_consensus::{Incarnation, NodeId};
use meshraft_discovery::peers::{Address, PeerMap};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// A namespace's record in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// Whose record it is: a store under another identity would be a member that nobody knows.
    pub(crate) node: NodeId,
    /// Drawn when the record was created.
    pub(crate) incarnation: Incarnation,
    /// An encoded [`meshraft_discovery::Record`].
    pub(crate) founding: Vec<u8>,
    /// Where peers listened: soft state, so that a restart finds them.
    pub(crate) peers: Vec<(NodeId, Address)>,
}

/// What of a peer map is kept: the newest addresses of each node but `me`, within the bound of a
/// record.
pub(crate) fn remembered(peers: &PeerMap, me: NodeId) -> Vec<(NodeId, Address)> {
    const NODE_ADDRESSES_MAX: usize = 3;
    const BYTES_MAX: usize = 32 * 1024;
    let mut bytes = 0;
    peers
        .nodes()
        .filter(|node| *node != me)
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
    #[error("the namespace record has version {version}, this build reads {VERSION}")]
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
            Some((&version, _)) => Err(RecordError::Version { version }),
            None => Err(RecordError::Corrupt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding_and_strangers_are_refused() {
        let record = HostRecord {
            node: NodeId::new([2; 32]),
            incarnation: Incarnation::new([7; 16]),
            founding: vec![1, 2],
            peers: vec![(NodeId::new([1; 32]), Address::new(vec![4, 127, 0, 0, 1]).unwrap())],
        };
        assert_eq!(HostRecord::decode(&record.encode()), Ok(record));
        assert_eq!(HostRecord::decode(&[9, 0]), Err(RecordError::Version { version: 9 }));
        assert_eq!(HostRecord::decode(&[]), Err(RecordError::Corrupt));
        assert_eq!(HostRecord::decode(&[1, 2]), Err(RecordError::Corrupt));
    }
}
