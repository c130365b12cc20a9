//! What the two ends of a stream say of themselves in a namespace, within a hello and its answer.

use std::collections::BTreeSet;

use meshraft_consensus::{Card, ClusterId, ClusterVersion, Incarnation, Index};
use serde::{Deserialize, Serialize};

use crate::{
    bounded,
    hello::GreetingError,
    types::{LocalRole, PeerFacts, PeerRole},
};

/// A sealed introduction is filled up to a multiple of this, so that its length does not tell a
/// client from a member.
const PADDING_BYTES: usize = 128;

/// What one end says of itself in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Facts {
    /// It sends commands and holds nothing.
    Client,
    /// It holds a record.
    Member {
        /// The life of that record.
        incarnation: Incarnation,
        /// What it speaks for, ascending, at most [`LocalRole::CLUSTERS_MAX`].
        #[serde(deserialize_with = "bounded::list::<{ LocalRole::CLUSTERS_MAX }, _, _>")]
        clusters: Vec<ClusterId>,
        /// The newest version of commands that it supports.
        supports: ClusterVersion,
    },
}

impl Facts {
    /// What a node in this role says on a handle of this scope. A handle of one cluster is bound to
    /// that cluster only, and one with a client to none: a change elsewhere does not close it.
    pub(crate) fn told(role: &LocalRole, scope: Option<ClusterId>, to_client: bool) -> Self {
        match role {
            LocalRole::Client => Self::Client,
            LocalRole::Member { incarnation, clusters, supports } => {
                let clusters = match scope {
                    Some(cluster) => vec![cluster],
                    None if to_client => Vec::new(),
                    None => clusters.keys().copied().take(LocalRole::CLUSTERS_MAX).collect(),
                };
                Self::Member { incarnation: *incarnation, clusters, supports: *supports }
            }
        }
    }

    pub(crate) const fn is_client(&self) -> bool {
        matches!(self, Self::Client)
    }

    pub(crate) const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Client => None,
            Self::Member { incarnation, .. } => Some(*incarnation),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Client => true,
            Self::Member { clusters, .. } => clusters.is_sorted_by(|a, b| a < b),
        }
    }
}

impl From<&Facts> for PeerFacts {
    fn from(facts: &Facts) -> Self {
        let (role, clusters, supports) = match facts {
            Facts::Client => (PeerRole::Client, BTreeSet::new(), None),
            Facts::Member { clusters, supports, .. } => {
                (PeerRole::Member, clusters.iter().copied().collect(), Some(*supports))
            }
        };
        let cluster = clusters.first().copied();
        Self { role, cluster, clusters, incarnation: facts.incarnation(), supports }
    }
}

/// What one end says of itself to the other in a namespace: in clear if that is open, else sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// The cluster that the handle is bound to.
    pub(crate) scope: Option<ClusterId>,
    /// What the sender is.
    pub(crate) facts: Facts,
    /// In the scope of a cluster, the slot of the newest configuration of it that the sender knows
    /// to be committed: which cards would be news to it.
    pub(crate) committed: Index,
    /// The sender's cards, for a receiver that does not know it; only in the scope of a cluster.
    #[serde(deserialize_with = "bounded::list::<{ Card::KEPT_MAX }, _, _>")]
    pub(crate) cards: Vec<Card>,
}

impl Introduction {
    /// Its bytes before they are sealed, filled up with zeros.
    pub(crate) fn to_padded(&self) -> Vec<u8> {
        let mut bytes = postcard::to_allocvec(self).expect("a vector takes any bytes");
        bytes.resize(bytes.len().next_multiple_of(PADDING_BYTES), 0);
        bytes
    }

    pub(crate) fn from_padded(bytes: &[u8]) -> Result<Self, GreetingError> {
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((introduction, _)) if introduction.is_well_formed() => Ok(introduction),
            Ok(_) | Err(_) => Err(GreetingError::Malformed),
        }
    }

    pub(crate) fn is_well_formed(&self) -> bool {
        self.facts.is_well_formed() && (self.scope.is_some() || self.cards.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_does_not_tell_a_client_from_a_member_by_its_length() {
        let client = Introduction {
            scope: None,
            facts: Facts::Client,
            committed: Index::ZERO,
            cards: Vec::new(),
        };
        let cluster = ClusterId::new([1; 32]);
        let facts = Facts::Member {
            incarnation: Incarnation::new([2; 16]),
            clusters: vec![cluster],
            supports: ClusterVersion::new(3),
        };
        let scope = Some(cluster);
        let member = Introduction { scope, facts, committed: Index::new(5), cards: Vec::new() };
        assert_eq!(client.to_padded().len(), PADDING_BYTES);
        assert_eq!(member.to_padded().len(), PADDING_BYTES);
        for introduction in [client, member] {
            let padded = introduction.to_padded();
            assert_eq!(Introduction::from_padded(&padded), Ok(introduction));
        }
    }
}
