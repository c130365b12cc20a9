//! What founding must not forget: one small record per namespace.
//!
//! Invariants:
//! 1. `seen` never falls.
//! 2. A promise leaves the record only when its founder set is dead.
//! 3. `cluster` is never emptied once it is set: a store that has to begin anew becomes another
//!    incarnation's, whose record names the cluster as `former`.

use bytes::Bytes;
use meshraft_consensus::ClusterId;
use serde::{Deserialize, Serialize};

use crate::ballot::{Ballot, FounderSet};

const VERSION: u8 = 2;

/// The durable part of founding, written as a whole and in one transaction with the founder set's
/// group that it creates or drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The highest ballot that this incarnation answered; counter 0 is none.
    pub seen: Ballot,
    /// The founder set that this incarnation promised, unless it is known to be dead. Kept also
    /// after a cluster is joined, so that the set can never be refused afterwards.
    pub promise: Option<FounderSet>,
    /// The cluster that this incarnation belongs to. Kept also by one that departed from it.
    pub cluster: Option<ClusterId>,
    /// Whether this store founded alone because an operator said so.
    pub forced: bool,
    /// The cluster that an earlier incarnation of this store was in. Such a store never founds: it
    /// joins exactly this cluster.
    pub former: Option<ClusterId>,
    /// That this incarnation takes part in `cluster` no more, or is about to leave it.
    pub departed: Option<Departure>,
}

/// How an incarnation came to take part in its cluster no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Departure {
    /// It left on purpose, or is about to. It asks to be admitted again when it is opened again.
    Left,
    /// It was removed. It stays out until it is told to rejoin.
    Removed,
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
        match version {
            1 => whole::<First>(body).map(Self::from),
            VERSION => whole(body),
            found => Err(RecordError::Version { found }),
        }
    }

    /// The record of a new incarnation that takes the place of this one, whose store went back in
    /// time. One that was in a cluster never founds again. One that had only promised becomes what
    /// a wiped store is: one more candidate, while the promise of the old one stays open for ever.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self {
            seen: self.seen,
            promise: None,
            cluster: None,
            forced: self.forced && self.cluster.is_some(),
            former: self.cluster.or(self.former),
            departed: None,
        }
    }
}

/// A record of version 1.
#[derive(Deserialize)]
struct First {
    seen: Ballot,
    promise: Option<FounderSet>,
    cluster: Option<ClusterId>,
}

impl From<First> for Record {
    fn from(first: First) -> Self {
        let First { seen, promise, cluster } = first;
        Self { seen, promise, cluster, ..Self::default() }
    }
}

/// Reads one value that is all there is.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(RecordError::Trailing { bytes: rest.len() }),
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
    #[error("the founding record has version {found}, this build reads versions 1 and 2")]
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
        Record { seen: ballot, promise: Some(promise), cluster: Some(cluster), ..Record::default() }
    }

    #[test]
    fn a_record_survives_its_encoding() {
        let former = Some(ClusterId::new([8; 32]));
        let full = Record { forced: true, former, departed: Some(Departure::Left), ..record(128) };
        for record in [Record::default(), record(3), full] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        for record in [Record::default(), record(3)] {
            let parts = (record.seen, record.promise.clone(), record.cluster);
            let bytes = postcard::to_extend(&parts, vec![1]).unwrap();
            assert_eq!(Record::decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn a_renewed_store_keeps_what_was_seen_and_where_it_was() {
        let held = Record { departed: Some(Departure::Left), ..record(3) };
        let renewed = held.renewed();
        let expected = Record { seen: held.seen, former: held.cluster, ..Record::default() };
        assert_eq!(renewed, expected);
        assert_eq!(renewed.renewed(), renewed);
        let promised = Record { cluster: None, ..record(3) };
        assert_eq!(promised.renewed(), Record { seen: promised.seen, ..Record::default() });
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
