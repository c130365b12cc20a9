//! Cards: signed statements that a committed configuration has a member in it.
//!
//! A log that ends early cannot know the members that were admitted later. Such a member shows
//! cards: each says "in cluster L the configuration committed at index i has this member" and is
//! signed by the identity key of another member. A chain of cards leads from a signer that the
//! judging member knows to the member that shows them ([`super::KnownMembers::judge`]).
//!
//! The core signs and verifies nothing: keys are the driver's, behind [`Signatures`].

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    identity::{ClusterId, Member, Namespace, NodeId},
    types::Index,
};

/// What every statement begins with: a signature under it serves for nothing else.
const DOMAIN: &[u8] = b"meshraft card 1\0";

/// An Ed25519 signature (RFC 8032) by the identity key of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature([[u8; 32]; 2]);

impl Signature {
    /// The signature of these 64 bytes.
    pub fn new(bytes: &[u8; 64]) -> Self {
        let (halves, _) = bytes.as_chunks();
        Self([
            halves.first().copied().unwrap_or_default(),
            halves.get(1).copied().unwrap_or_default(),
        ])
    }

    /// Its 64 bytes.
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(self.0.as_flattened()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Signs with the identity key of this node, and verifies by that of any node. Both are functions:
/// the same arguments give the same answer.
pub trait Signatures {
    /// Signs a statement with the key of this node.
    fn sign(&self, statement: &[u8]) -> Signature;

    /// Whether `signer` signed exactly this statement.
    fn verify(&self, signer: &NodeId, statement: &[u8], signature: &Signature) -> bool;
}

/// A signed statement: in `cluster`, the configuration committed at `index` has `member` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Card {
    /// The cluster that the statement is about.
    pub cluster: ClusterId,
    /// The slot of the committed configuration.
    pub index: Index,
    /// The member that is in it.
    pub member: Member,
    /// The node that signed.
    pub signer: NodeId,
    /// Its signature over [`Card::statement`].
    pub signature: Signature,
}

impl Card {
    /// The most cards that one member keeps or shows for itself.
    pub const KEPT_MAX: usize = 64;
    /// The most cards of one chain.
    pub const CHAIN_MAX: usize = 8;

    /// Signs a statement about `member` with the key of `signer`, which is this node.
    pub fn sign(
        signatures: &dyn Signatures,
        namespace: &Namespace,
        cluster: ClusterId,
        (index, member): (Index, Member),
        signer: NodeId,
    ) -> Self {
        let signature = signatures.sign(&statement(namespace, cluster, index, member));
        Self { cluster, index, member, signer, signature }
    }

    /// The bytes that are signed: a domain string, the namespace with its length, the cluster, the
    /// member and the index.
    pub fn statement(&self, namespace: &Namespace) -> Vec<u8> {
        statement(namespace, self.cluster, self.index, self.member)
    }

    /// Whether the named signer signed this card for this namespace.
    pub fn is_genuine(&self, signatures: &dyn Signatures, namespace: &Namespace) -> bool {
        signatures.verify(&self.signer, &self.statement(namespace), &self.signature)
    }
}

fn statement(namespace: &Namespace, cluster: ClusterId, index: Index, member: Member) -> Vec<u8> {
    let name = namespace.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(DOMAIN.len() + 8 + name.len() + 32 + 48 + 8);
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(&(name.len() as u64).to_be_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(cluster.as_bytes());
    bytes.extend_from_slice(member.node.as_bytes());
    bytes.extend_from_slice(member.incarnation.as_bytes());
    bytes.extend_from_slice(&index.get().to_be_bytes());
    bytes
}

/// Why the cards that a peer showed do not make it a known member. The order of the variants is
/// part of the wire format of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// No card names the peer in its incarnation.
    #[error("no card names this member")]
    NoCard,
    /// More cards than a member keeps.
    #[error("{cards} cards were shown, at most 64 are taken")]
    TooMany {
        /// How many were shown.
        cards: u64,
    },
    /// Every card that names the peer is of another cluster.
    #[error("the cards are of another cluster")]
    OtherCluster,
    /// Every card that names the peer is at or below the newest committed configuration here,
    /// which does not have the peer.
    #[error("the cards end at {newest}, the configuration at {committed} is committed here")]
    Stale {
        /// The highest index of a card that names the peer.
        newest: Index,
        /// The newest committed configuration here.
        committed: Index,
    },
    /// A card on the way to the peer was not signed by the node that it names as its signer.
    #[error("a card was not signed by {signer}")]
    Forged {
        /// The node that the card names as its signer.
        signer: NodeId,
    },
    /// The cards reach the peer only with an index that falls along the chain.
    #[error("the indexes of the cards fall along the chain")]
    OutOfOrder,
    /// The cards reach the peer only by a chain of more than [`Card::CHAIN_MAX`].
    #[error("the chain of cards is longer than 8")]
    TooLong,
    /// No chain of cards begins at a member that is known here.
    #[error("no chain of cards begins at a known member")]
    UnknownSigner,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Incarnation;

    #[test]
    fn a_signature_keeps_its_bytes() {
        let bytes = core::array::from_fn(|at| at as u8);
        assert_eq!(Signature::new(&bytes).to_bytes(), bytes);
    }

    #[test]
    fn every_part_of_a_statement_is_signed() {
        let card = |byte: u8, index| Card {
            cluster: ClusterId::new([byte; 32]),
            index: Index::new(index),
            member: Member::new(NodeId::new([2; 32]), Incarnation::new([3; 16])),
            signer: NodeId::new([4; 32]),
            signature: Signature::new(&[0; 64]),
        };
        let [jobs, job] = ["/jobs", "/job"].map(|name| Namespace::new(name).unwrap());
        let statement = card(1, 7).statement(&jobs);
        assert_eq!(statement, card(1, 7).statement(&jobs));
        assert_ne!(statement, card(1, 7).statement(&job));
        assert_ne!(statement, card(1, 8).statement(&jobs));
        assert_ne!(statement, card(2, 7).statement(&jobs));
        let other = Member::new(NodeId::new([2; 32]), Incarnation::new([9; 16]));
        assert_ne!(statement, Card { member: other, ..card(1, 7) }.statement(&jobs));
        assert!(statement.starts_with(DOMAIN));
    }
}
