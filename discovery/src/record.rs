//! What founding must not forget: one small record per namespace.
//!
//! Invariants:
//! 1. `seen` never falls.
//! 2. A promise leaves the record only when its founder set is dead.
//! 3. `cluster` is never emptied once it is set.

use bytes::Bytes;
use meshraft_consensus::ClusterId;
use serde::{Deserialize, Serialize};

use crate::ballot::{Ballot, FounderSet};

const VERSION: u8 = 1;

/// The durable part of founding, written as a whole and in one transaction with the founder set's
/// group that it creates or drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The highest ballot that this incarnation answered; counter 0 is none.
    pub seen: Ballot,
    /// The founder set that this incarnation promised, unless it is known to be dead. Kept also
    /// after a cluster is joined, so that the set can never be refused afterwards.
    pub promise: Option<FounderSet>,
    /// The cluster that this incarnation belongs to.
    pub cluster: Option<ClusterId>,
}

impl Record {
    /// The longest encoding, in bytes.
    pub const BYTES_MAX: usize = 8 * 1024;

    /// The bytes to store: a version byte, then postcard.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("memory takes every record");
        assert!(bytes.len() <= Self::BYTES_MAX, "a record outgrew its limit");
        bytes.into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// A record of another version, or bytes that are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&version, body) = bytes.split_first().ok_or(RecordError::Empty)?;
        if version != VERSION {
            return Err(RecordError::Version { found: version });
        }
        match postcard::take_from_bytes(body)? {
            (record, []) => Ok(record),
            (_, rest) => Err(RecordError::Trailing { bytes: rest.len() }),
        }
    }
}

/// Why bytes are no founding record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There are no bytes.
    #[error("the founding record is empty")]
    Empty,
    /// The record is of a version that this build does not read.
    #[error("the founding record has version {found}, this build reads version 1")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The bytes end too early or hold what no record holds.
    #[error("the founding record is malformed")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow the record.
    #[error("{bytes} bytes follow the founding record")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshraft_consensus::{Incarnation, Member, NodeId};

    use super::*;

    fn record(members: u8) -> Record {
        let node = |number| NodeId::new([number; 32]);
        let founders = (1..=members)
            .map(|number| Member::new(node(number), Incarnation::new([number; 16])))
            .collect::<BTreeSet<_>>();
        let ballot = Ballot { counter: u64::MAX, coordinator: node(1) };
        let promise = FounderSet::new(ballot, founders).unwrap();
        let cluster = ClusterId::new([7; 32]);
        Record { seen: ballot, promise: Some(promise), cluster: Some(cluster) }
    }

    #[test]
    fn a_record_survives_its_encoding() {
        for record in [Record::default(), record(3), record(128)] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_damaged_record_is_refused_by_name() {
        let bytes = record(3).encode();
        assert_eq!(Record::decode(&[]), Err(RecordError::Empty));
        assert_eq!(Record::decode(&[9]), Err(RecordError::Version { found: 9 }));
        let cut = bytes.slice(..bytes.len() - 1);
        assert!(matches!(Record::decode(&cut), Err(RecordError::Malformed(_))));
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(Record::decode(&long), Err(RecordError::Trailing { bytes: 1 }));
    }
}
