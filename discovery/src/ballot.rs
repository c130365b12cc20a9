//! Which founder set is meant: ballots, founder sets, and the id of the cluster one may become.
//!
//! Invariants:
//! 1. A ballot is never reused: its coordinator writes it down before anybody is told.
//! 2. A founder set names its coordinator, and no node in two incarnations.
//! 3. Equal sets under equal ballots have equal ids, and different ones have different ids as far
//!    as SHA-256 keeps them apart: every part that is hashed is prefixed by its length.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Member, Namespace, NodeId};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The number of one attempt to found, ordered first by counter, then by coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Rises with every attempt that a node learns of; 0 is before the first.
    pub counter: u64,
    /// The node that made the attempt.
    pub coordinator: NodeId,
}

impl Ballot {
    /// The ballot before every attempt.
    pub const NONE: Self = Self { counter: 0, coordinator: NodeId::new([0; 32]) };

    /// How far a counter may lie above the highest one seen. A ballot beyond that comes from a
    /// broken peer and would use the numbers up.
    pub const LEAP_MAX: u64 = 1 << 32;

    /// Whether this ballot is close enough above `seen` to be taken note of.
    pub const fn is_within_reach_of(&self, seen: &Self) -> bool {
        self.counter <= seen.counter.saturating_add(Self::LEAP_MAX)
    }
}

impl Default for Ballot {
    fn default() -> Self {
        Self::NONE
    }
}

/// The members that try to become a cluster under one ballot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct FounderSet {
    /// The attempt that it belongs to.
    pub ballot: Ballot,
    /// The founders, each in exactly this incarnation.
    pub members: BTreeSet<Member>,
}

impl FounderSet {
    /// The most founders of one set. More machines than that join the cluster once it lives.
    pub const MEMBERS_MAX: usize = 128;

    /// Checks and takes a founder set.
    ///
    /// # Errors
    /// Says which rule of a founder set is broken.
    pub fn new(ballot: Ballot, members: BTreeSet<Member>) -> Result<Self, FounderSetError> {
        if ballot.counter == 0 {
            return Err(FounderSetError::NoBallot);
        }
        if members.len() > Self::MEMBERS_MAX {
            return Err(FounderSetError::TooMany { members: members.len() });
        }
        if !members.iter().any(|member| member.node == ballot.coordinator) {
            return Err(FounderSetError::CoordinatorMissing { coordinator: ballot.coordinator });
        }
        // Members are ordered by node first, so a node's incarnations would be neighbours.
        let twice = members.iter().zip(members.iter().skip(1)).find(|(a, b)| a.node == b.node);
        match twice {
            Some((member, _)) => Err(FounderSetError::NodeTwice { node: member.node }),
            None => Ok(Self { ballot, members }),
        }
    }

    /// The id of the cluster that this set may become: SHA-256 over the namespace, the ballot and
    /// the members, every part prefixed by its length.
    pub fn id(&self, namespace: &Namespace) -> ClusterId {
        let mut context = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(b"meshraft founder set 1");
        part(namespace.as_str().as_bytes());
        part(&self.ballot.counter.to_be_bytes());
        part(self.ballot.coordinator.as_bytes());
        for member in &self.members {
            part(member.node.as_bytes());
            part(member.incarnation.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        ClusterId::new(hash)
    }

    /// The member that is `node`, in whatever incarnation the set names it.
    pub fn member_of(&self, node: NodeId) -> Option<Member> {
        self.members.iter().find(|member| member.node == node).copied()
    }
}

/// A founder set as it arrives: nothing about it has been checked.
#[derive(Deserialize)]
struct Unchecked {
    ballot: Ballot,
    members: BTreeSet<Member>,
}

impl TryFrom<Unchecked> for FounderSet {
    type Error = FounderSetError;

    fn try_from(unchecked: Unchecked) -> Result<Self, FounderSetError> {
        Self::new(unchecked.ballot, unchecked.members)
    }
}

/// Why a ballot and members are no founder set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FounderSetError {
    /// The ballot is the one before every attempt.
    #[error("a founder set needs a ballot above zero")]
    NoBallot,
    /// The set is over [`FounderSet::MEMBERS_MAX`].
    #[error("a founder set has at most 128 members, this one has {members}")]
    TooMany {
        /// How many it has.
        members: usize,
    },
    /// The coordinator is not among the members.
    #[error("coordinator {coordinator} is not among the founders")]
    CoordinatorMissing {
        /// Who made the attempt.
        coordinator: NodeId,
    },
    /// One node is named in two incarnations.
    #[error("node {node} is named in two incarnations")]
    NodeTwice {
        /// The node.
        node: NodeId,
    },
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::Incarnation;

    use super::*;

    fn member(node: u8, incarnation: u8) -> Member {
        Member::new(NodeId::new([node; 32]), Incarnation::new([incarnation; 16]))
    }

    fn ballot(counter: u64, node: u8) -> Ballot {
        Ballot { counter, coordinator: NodeId::new([node; 32]) }
    }

    #[test]
    fn a_founder_set_is_checked() {
        let pair = BTreeSet::from([member(1, 1), member(2, 1)]);
        assert!(FounderSet::new(ballot(1, 1), pair.clone()).is_ok());
        assert_eq!(FounderSet::new(ballot(0, 1), pair.clone()), Err(FounderSetError::NoBallot));
        let coordinator = NodeId::new([3; 32]);
        let error = FounderSetError::CoordinatorMissing { coordinator };
        assert_eq!(FounderSet::new(ballot(1, 3), pair), Err(error));
        let twice = BTreeSet::from([member(1, 1), member(1, 2), member(2, 1)]);
        let error = FounderSetError::NodeTwice { node: NodeId::new([1; 32]) };
        assert_eq!(FounderSet::new(ballot(1, 2), twice), Err(error));
    }

    #[test]
    fn every_part_of_a_set_is_in_its_id() {
        let namespace = Namespace::new("a").unwrap();
        let set = |counter, node, members: &[Member]| {
            FounderSet::new(ballot(counter, node), members.iter().copied().collect()).unwrap()
        };
        let one = set(1, 1, &[member(1, 1), member(2, 1)]);
        let others = [
            set(2, 1, &[member(1, 1), member(2, 1)]),
            set(1, 2, &[member(1, 1), member(2, 1)]),
            set(1, 1, &[member(1, 1), member(2, 2)]),
            set(1, 1, &[member(1, 1), member(3, 1)]),
            set(1, 1, &[member(1, 1)]),
        ];
        for other in others {
            assert_ne!(one.id(&namespace), other.id(&namespace), "{other:?}");
        }
        assert_ne!(one.id(&namespace), one.id(&Namespace::new("b").unwrap()));
        assert_eq!(one.id(&namespace), one.clone().id(&namespace));
    }
}
